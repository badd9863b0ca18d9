"""The metrics: TF Serving's names and labels, in a text that Prometheus' own parser reads, and true numbers."""

import http.client
from concurrent import futures

import numpy as np
import pytest
from metric_pages import labels, samples
from rest_client import free_port
from serving_models import predict_request
from stubs import Stubs
from tensorflow_serving.apis import regression_pb2

from serving import metrics
from serving import server as embedded
from serving.metrics import Metrics
from tfdnc.contracts.errors import UserError

COUNT, LATENCY = ":tensorflow:serving:request_count", ":tensorflow:serving:request_latency"
ATTEMPTS, LOADING = (f":tensorflow:cc:saved_model:load_{name}" for name in ("attempt_count", "latency"))


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    content = response.status, response.headers["Content-Type"], response.read().decode()
    connection.close()
    return content


@pytest.fixture(scope="module")
def server(half_plus_two, tmp_path_factory):
    file = tmp_path_factory.mktemp("monitoring") / "monitoring.config"
    file.write_text('prometheus_config { enable: true path: "/metrics" }')
    with embedded.running(
        half_plus_two, model_name="half", rest_api_port=free_port(), monitoring_config_file=file
    ) as server:
        yield server


def test_a_server_counts_what_it_answers(server, half_plus_two):
    stubs = Stubs(server.address)
    for _ in range(3):
        stubs.Predict(predict_request({"x": np.ones([1, 1], np.float32)}))
    stubs.refused("Predict", predict_request({}))
    stubs.refused("Regress", regression_pb2.RegressionRequest(model_spec={"name": "half"}))
    stubs.refused("Predict", predict_request({}, model="one that is not served"))
    stubs.channel.close()
    rest = http.client.HTTPConnection("127.0.0.1", server.rest.port, timeout=30)
    for body, status in ((b'{"inputs": [[1.0]]}', 200), (b"{", 400)):
        rest.request("POST", "/v1/models/half:predict", body)
        response = rest.getresponse()
        response.read()
        assert response.status == status
    rest.close()

    status, kind, page = get(server.rest.port, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain")
    values, types = samples(page)
    assert values[COUNT, labels(model_name="half", status="OK")] == 4
    assert values[COUNT, labels(model_name="half", status="INVALID_ARGUMENT")] == 3
    assert values[COUNT, labels(model_name="", status="NOT_FOUND")] == 1
    grpc = {"model_name": "half", "API": "Predict", "entrypoint": "GRPC"}
    rest = {"model_name": "half", "API": "predict", "entrypoint": "REST"}
    assert values[f"{LATENCY}_count", labels(**grpc)] == 3
    assert values[f"{LATENCY}_count", labels(**rest)] == 1
    assert values[f"{LATENCY}_bucket", labels(**grpc, le="+Inf")] == 3
    assert values[f"{LATENCY}_sum", labels(**grpc)] > 0
    path = str(half_plus_two / "2")
    assert values[ATTEMPTS, labels(model_path=path, status="success")] == 1
    assert values[LOADING, labels(model_path=path)] > 0
    assert types[LATENCY] == "histogram"
    assert f"# TYPE {COUNT} counter\n{COUNT}{{" in page


def test_metrics_have_one_path(server):
    assert get(server.rest.port, "/monitoring/prometheus/metrics")[0] == 404


def test_nothing_is_shown_that_was_not_measured():
    assert Metrics().page() == ""


def test_buckets():
    measured = Metrics()
    seconds = [1e-6, 10e-6, 11e-6, 1.0, 1e6]
    for value in seconds:
        measured.observe_request("m", "Predict", "GRPC", "OK", value)
    values, _ = samples(measured.page())
    which = {"model_name": "m", "API": "Predict", "entrypoint": "GRPC"}
    limits = [dict(key[1])["le"] for key in values if key[0] == f"{LATENCY}_bucket"]
    assert len(limits) == 34
    assert limits[:4] == ["10", "18", "32.4", "58.32"]
    assert limits[-1] == "+Inf"
    counts = [values[f"{LATENCY}_bucket", labels(**which, le=limit)] for limit in limits]
    assert counts[:3] == [2, 3, 3]
    assert counts == sorted(counts)
    assert counts[-2:] == [4, 5]
    assert values[f"{LATENCY}_sum", labels(**which)] == pytest.approx(sum(seconds) * 1e6)


def test_a_failed_load_is_counted_and_not_timed(tmp_path):
    measured = Metrics()

    def load(name, version, path):
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        measured.timed(load)("m", 1, tmp_path)
    values, _ = samples(measured.page())
    assert values == {(ATTEMPTS, labels(model_path=str(tmp_path), status="fail")): 1}


def test_odd_names_are_escaped():
    measured = Metrics()
    measured.observe_request('a"b\\c\nd', "Predict", "GRPC", "OK", 1)
    values, _ = samples(measured.page())
    assert values[COUNT, labels(model_name='a"b\\c\nd', status="OK")] == 1


def test_no_count_is_lost_between_threads():
    measured = Metrics()

    def count(_):
        for _ in range(500):
            measured.observe_request("m", "Predict", "GRPC", "OK", 1)

    with futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(count, range(8)))
    values, _ = samples(measured.page())
    assert values[COUNT, labels(model_name="m", status="OK")] == 4000
    assert values[f"{LATENCY}_count", labels(model_name="m", API="Predict", entrypoint="GRPC")] == 4000


def test_configuration(tmp_path):
    file = tmp_path / "monitoring.config"
    file.write_text("prometheus_config { enable: true }")
    assert Metrics.configured(file).path == metrics.DEFAULT_PATH == "/monitoring/prometheus/metrics"
    for nothing in ("", 'prometheus_config { path: "/metrics" }'):
        file.write_text(nothing)
        assert Metrics.configured(file) is None
    file.write_text("prometheus { }")
    with pytest.raises(UserError, match=r"Error parsing text-format tensorflow\.serving\.MonitoringConfig"):
        Metrics.configured(file)
