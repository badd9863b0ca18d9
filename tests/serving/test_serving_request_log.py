"""The request log: sampled Predict calls in files that readers find once they are complete; no request waits for it."""

import contextlib
import threading
import time

import numpy as np
import pytest
import rest_client
import serving_models
import tensorflow as tf
from google.protobuf import text_format
from serving_models import predict_request
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving import server as embedded
from serving.bundles.request_log import read_request_log
from serving.logging_config import logging_config
from serving.metrics import Metrics
from serving.model_config import models_of
from serving.options import ServerOptions
from serving.record_files import RecordFiles
from serving.request_log import RequestLogs
from serving.status import ServingError
from tfdnc.contracts.errors import UserError

WAIT = 60
TEN_BYTES = b"0123456789"


class Version:
    """The part of a loaded version that the log reads."""

    name = "half"


def call(number):
    """A request with its answer, recognised by a number."""
    request = predict_request({"x": np.float32([[number]])})
    response = predict_pb2.PredictResponse(model_spec={"name": "half", "version": {"value": 2}})
    return request, response


def numbers(logs):
    return [log.request.inputs["x"].float_val[0] for log in logs]


def until(condition):
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def records(file):
    return list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())


@pytest.fixture
def counted():
    return {}


@pytest.fixture
def make_logs(counted):
    """Makes a `RequestLogs` that is closed after the test, and whose counts are in `counted`."""
    made = []

    def observe(model, status, count):
        counted[model, status] = counted.get((model, status), 0) + count

    def make(**settings):
        made.append(RequestLogs(("serve",), observe, **settings))
        return made[-1]

    yield make
    for logs in made:
        logs.close(WAIT)


# Files -------------------------------------------------------------------------------------------------------------


def test_a_file_is_complete_after_its_bytes_and_has_another_name_before(tmp_path):
    files = RecordFiles(tmp_path / "log", max_bytes=20)
    files.write(TEN_BYTES)
    [partial] = tmp_path.iterdir()
    assert partial.name.startswith(".log-")
    assert partial.name.endswith(".tfrecord.unfinished")
    files.write(TEN_BYTES)
    [complete] = tmp_path.iterdir()
    assert f".{complete.name}.unfinished" == partial.name
    assert records(complete) == [TEN_BYTES, TEN_BYTES]
    assert files.due is None
    files.write(b"next")
    assert sorted(tmp_path.glob("*.tfrecord")) == [complete]
    files.finish()
    first, second = sorted(tmp_path.glob("*.tfrecord"))
    assert (first, records(second)) == (complete, [b"next"])
    files.finish()  # of nothing
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_is_due_some_seconds_after_its_first_record(tmp_path):
    now = [100.0]
    files = RecordFiles(tmp_path / "log", max_seconds=30, clock=lambda: now[0])
    assert files.due is None
    files.write(TEN_BYTES)
    now[0] = 110.0
    files.write(TEN_BYTES)
    assert files.due == 130.0


def test_a_killed_process_leaves_whole_records_under_a_name_that_is_ignored(tmp_path):
    files = RecordFiles(tmp_path / "log")
    for number in (1.0, 2.0):
        request, response = call(number)
        log = prediction_log_pb2.PredictLog(request=request, response=response)
        files.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
    files.flush()
    [partial] = tmp_path.iterdir()
    partial.write_bytes(partial.read_bytes()[:-3])  # killed inside the second record
    assert numbers(read_request_log([partial])) == [1.0]
    with pytest.raises(UserError, match=r"Expected complete files \(\*\.tfrecord\) .* found none"):
        list(read_request_log([tmp_path]))
    with pytest.raises(UserError, match="it is damaged"):
        list(read_request_log([partial.rename(tmp_path / "log-1.tfrecord")]))


def test_other_files_are_no_request_log(tmp_path):
    with pytest.raises(UserError, match=r"could not read it: .*nothing\.tfrecord"):
        list(read_request_log([tmp_path / "nothing.tfrecord"]))
    file = tmp_path / "other.tfrecord"
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(b"\xff no message")
    with pytest.raises(UserError, match="Expected PredictionLog records"):
        list(read_request_log([file]))
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(prediction_log_pb2.PredictionLog(classify_log={}).SerializeToString())
    assert list(read_request_log([file])) == []


# Writer ------------------------------------------------------------------------------------------------------------


def test_calls_are_written_with_what_is_known_of_them(make_logs, tmp_path, counted):
    logs = make_logs()
    logs.update({"half": logging_config(tmp_path / "log", 1.0)})
    request, response = call(1.0)
    logs.sample(Version, request, response)
    assert logs.close(WAIT)
    [file] = tmp_path.iterdir()
    [record] = records(file)
    log = prediction_log_pb2.PredictionLog.FromString(record)
    assert log.predict_log == prediction_log_pb2.PredictLog(request=request, response=response)
    assert log.log_metadata.model_spec == response.model_spec
    assert log.log_metadata.saved_model_tags == ["serve"]
    assert log.log_metadata.sampling_config.sampling_rate == 1.0
    assert abs(log.log_metadata.timestamp_secs - time.time()) < WAIT
    assert counted == {("half", "OK"): 1}


@pytest.mark.parametrize(("rate", "least", "most"), [(0.0, 0, 0), (0.25, 150, 350)])  # 7 standard deviations
def test_a_share_of_the_calls_is_logged(make_logs, tmp_path, counted, rate, least, most):
    logs = make_logs()
    logs.update({"half": logging_config(tmp_path / "log", rate)})
    for _ in range(1000):
        logs.sample(Version, *call(1.0))
    logs.close(WAIT)
    assert least <= counted.get(("half", "OK"), 0) <= most
    assert sum(len(records(file)) for file in tmp_path.iterdir()) == counted.get(("half", "OK"), 0)


def test_a_model_without_a_config_is_not_logged(make_logs, tmp_path, counted):
    logs = make_logs()
    logs.update({"other": logging_config(tmp_path / "log", 1.0)})
    logs.sample(Version, *call(1.0))
    logs.close(WAIT)
    assert counted == {}


def test_a_new_prefix_completes_the_file_of_the_old_one(make_logs, tmp_path):
    logs = make_logs()
    for number, folder in enumerate(("a", "b", "c"), 1):
        logs.update({"half": logging_config(tmp_path / folder / "log", 1.0)} if folder != "c" else {})
        logs.sample(Version, *call(number))
    until(lambda: len(list(tmp_path.glob("*/*.tfrecord"))) == 2)
    assert numbers(read_request_log([tmp_path / "a", tmp_path / "b"])) == [1.0, 2.0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_file_is_completed_in_time_without_a_further_call(make_logs, tmp_path):
    logs = make_logs(files=lambda prefix: RecordFiles(prefix, max_seconds=0.05))
    logs.update({"half": logging_config(tmp_path / "log", 1.0)})
    logs.sample(Version, *call(1.0))
    until(lambda: list(tmp_path.glob("*.tfrecord")))
    assert numbers(read_request_log([tmp_path])) == [1.0]


class Slow(RecordFiles):
    """A disk that does not answer before it is told to."""

    may_go_on = None

    def write(self, record):
        assert self.may_go_on.wait(WAIT)
        super().write(record)


def test_a_full_queue_drops_calls_and_counts_them(make_logs, tmp_path, monkeypatch, counted):
    monkeypatch.setattr(Slow, "may_go_on", threading.Event())
    logs = make_logs(max_queued_bytes=1000, files=Slow)
    logs.update({"half": logging_config(tmp_path / "log", 1.0)})
    for number in range(100):  # none of these calls waits for the disk
        logs.sample(Version, *call(number))
    dropped = counted["half", "RESOURCE_EXHAUSTED"]
    assert 0 < dropped < 100
    Slow.may_go_on.set()
    logs.close(WAIT)
    assert numbers(read_request_log([tmp_path])) == list(range(100 - dropped))
    assert counted["half", "OK"] == 100 - dropped
    assert logs._queued_bytes == 0


class Broken(RecordFiles):
    """A disk that is full at the first record."""

    full = True

    def write(self, record):
        if self.full:
            raise tf.errors.ResourceExhaustedError(None, None, "no space left")
        super().write(record)


def test_a_disk_that_refuses_is_counted_and_said_once_and_tried_again(
    make_logs, tmp_path, monkeypatch, counted, caplog
):
    monkeypatch.setattr(Broken, "full", True)
    logs = make_logs(files=Broken)
    logs.update({"half": logging_config(tmp_path / "log", 1.0)})
    for number in (1, 2):
        logs.sample(Version, *call(number))
        until(lambda number=number: counted.get(("half", "RESOURCE_EXHAUSTED")) == number)
    monkeypatch.setattr(Broken, "full", False)
    logs.sample(Version, *call(3))
    logs.close(WAIT)
    assert numbers(read_request_log([tmp_path])) == [3.0]
    assert [r.getMessage() for r in caplog.records] == [
        f"requests cannot be logged under {tmp_path / 'log'}: no space left"
    ]


# Configs -----------------------------------------------------------------------------------------------------------


def parse(text):
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def logged(prefix, rate=1.0):
    return (
        f'logging_config {{ log_collector_config {{ type: "tfrecord" filename_prefix: "{prefix}" }} '
        f"sampling_config {{ sampling_rate: {rate} }} }}"
    )


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ("logging_config {}", "NOT_FOUND", "Cannot find LogCollector::Factory for type: "),
        (
            'logging_config { log_collector_config { type: "kafka" } }',
            "NOT_FOUND",
            "Cannot find LogCollector::Factory for type: kafka",
        ),
        *(
            (
                logged(prefix),
                "INVALID_ARGUMENT",
                "Expected model half to have an absolute path that ends in a name as filename_prefix; "
                f"got filename_prefix={prefix}",
            )
            for prefix in ("", "logs/half", "/logs/")
        ),
        *(
            (
                logged("/logs/half", rate),
                "INVALID_ARGUMENT",
                f"Expected model half to have a sampling_rate from 0 to 1; got sampling_rate={rate}",
            )
            for rate in ("1.5", "-0.5", "nan")
        ),
        (
            logged("/logs/half").replace("sampling_rate", "attributes: 1 sampling_rate"),
            "INVALID_ARGUMENT",
            "Model half has attributes in its logging_config; this server has no such setting",
        ),
    ],
)
def test_a_logging_config_that_cannot_be_followed_is_refused(fields, code, message):
    with pytest.raises(ServingError) as caught:
        models_of(parse(serving_models.models_config(half=("/m", fields))))
    assert (caught.value.code.name, caught.value.message) == (code, message)


def test_a_folder_that_cannot_be_made_is_refused_and_changes_nothing(make_logs, tmp_path):
    logs = make_logs()
    logs.update({"half": logging_config(tmp_path / "log", 1.0)})
    (tmp_path / "file").touch()
    with pytest.raises(ServingError, match=r"Could not make the folder .*file/below for the request log of model half"):
        logs.update({"half": logging_config(tmp_path / "file" / "below" / "log", 1.0)})
    logs.sample(Version, *call(1.0))
    logs.close(WAIT)
    assert numbers(read_request_log([tmp_path])) == [1.0]


def test_one_model_is_logged_by_two_flags(tmp_path):
    flags = {"model_base_path": tmp_path, "request_log": tmp_path / "logs"}
    assert ServerOptions(**flags).request_log_rate == 1.0
    with pytest.raises(UserError, match=r"Expected a request_log_rate from 0 to 1, got 2\."):
        ServerOptions(**flags, request_log_rate=2.0)
    with pytest.raises(UserError, match="Expected no request_log beside model_config_file"):
        ServerOptions(model_config_file=tmp_path, request_log=tmp_path)


# Server ------------------------------------------------------------------------------------------------------------


def test_a_server_logs_both_apis_and_follows_its_config_file(half_plus_two, tmp_path, connect):
    config = tmp_path / "models.config"
    config.write_text(serving_models.models_config(half=(half_plus_two, logged(tmp_path / "a" / "half"))))
    with embedded.running(model_config_file=config, rest_api_port=rest_client.free_port()) as server:
        stubs = connect(server.address)
        answer = stubs.Predict(predict_request({"x": np.float32([[1.0]])}))
        stubs.refused("Predict", predict_request({}))
        client = rest_client.Client(server.rest.port)
        with contextlib.closing(client.http):
            assert client.post("/v1/models/half:predict", {"instances": [[2.0]]})[0] == 200
        config.write_text(serving_models.models_config(half=(half_plus_two, logged("relative"))))
        server.source.poll_config_file()  # refused
        stubs.Predict(predict_request({"x": np.float32([[3.0]])}))
        config.write_text(serving_models.models_config(half=(half_plus_two, logged(tmp_path / "b" / "half"))))
        server.source.poll_config_file()
        stubs.Predict(predict_request({"x": np.float32([[4.0]])}))
        config.write_text(serving_models.models_config(half=half_plus_two))
        server.source.poll_config_file()
        stubs.Predict(predict_request({"x": np.float32([[5.0]])}))
    logs = list(read_request_log([tmp_path / "a"]))
    assert numbers(logs) == [1.0, 2.0, 3.0]
    assert logs[0].response == answer
    assert logs[1].request.model_spec.name == "half"
    assert numbers(read_request_log([tmp_path / "b"])) == [4.0]


def test_a_server_of_one_model_logs_it_into_a_folder(half_plus_two, tmp_path, connect):
    with embedded.running(half_plus_two, model_name="half", request_log=tmp_path / "logs") as server:
        connect(server.address).Predict(predict_request({"x": np.float32([[1.0]])}))
    [file] = (tmp_path / "logs").iterdir()
    assert file.name.startswith("half-")
    assert numbers(read_request_log([file])) == [1.0]


def test_logged_calls_are_counted_under_the_name_of_tf_serving():
    measured = Metrics()
    measured.observe_logged("half", "OK", 3)
    assert ':tensorflow:serving:request_log_count{model_name="half",status_code="OK"} 3\n' in measured.page()
