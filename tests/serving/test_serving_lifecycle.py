"""Servers from start to end: warm-up, hot reload under load, config reloads, ports, signals, ScaNN's ops."""

import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import serving_models
from google.protobuf import text_format
from serving_models import predict_request, write_warmup
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_pb2, prediction_log_pb2

from serving import server as embedded
from serving.__main__ import main
from serving.client import RetrievalClient, RetrievalError
from serving.manager import ModelManager, State
from serving.options import ServerOptions
from serving.servable import Servable
from tfdnc.contracts.errors import UserError

ONES = np.ones([1, 1], np.float32)


@pytest.fixture
def version(tmp_path, half_plus_two):
    """A private copy of a version, alone under its base path."""
    return shutil.copytree(half_plus_two / "1", tmp_path / "base" / "1")


@pytest.fixture
def by_hand(version):
    """A server over `version` that looks for new versions only when it is told."""
    with embedded.running(version.parent, model_name="half", file_system_poll_wait_seconds=0) as server:
        yield server


@pytest.fixture
def ask(by_hand, connect):
    return connect(by_hand.address)


def loaded(path, **settings):
    """Loads one version by a manager of its own; returns the manager and the failure, if any."""
    manager = ModelManager(**settings)
    manager.want("m", {1: path})
    return manager, manager.wait_until_available(["m"]).get("m")


def status(ask, model="half"):
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_pb2.ModelSpec(name=model))
    return {s.version: s for s in ask.GetModelStatus(request).model_version_status}


def test_warm_up_requests_are_replayed(version):
    requests = [predict_request({"x": ONES}, model="any"), predict_request({"n": np.int64([1])}, "positive_only")]
    write_warmup(version, requests, [prediction_log_pb2.PredictionLog().SerializeToString()])
    manager, failure = loaded(version)
    assert failure is None
    with manager.lease(model_pb2.ModelSpec(name="m")) as servable:
        assert {key for key, _ in servable._plans} == {"serving_default", "positive_only"}
    manager.close()


def test_the_log_has_a_line_for_each_version_that_comes_and_goes(by_hand, version, caplog):
    """`tfdnc serve` told nothing of versions after its start."""
    caplog.set_level(logging.INFO, logger="serving.manager")
    newer = shutil.copytree(version, version.parent / "2")
    by_hand.source.poll()
    deadline = time.monotonic() + 30
    while len(caplog.messages) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    begun, *ended = caplog.messages
    assert begun == f"version 2 of model half is being loaded from {newer}"
    come, go = sorted(ended, reverse=True)
    assert re.fullmatch(r"version 2 of model half is available, after \d+\.\d s; the process ha[sd].* MiB", come)
    assert re.fullmatch(r"version 1 of model half is unloaded, in \d+\.\d s; the process ha[sd].* MiB", go)


def test_a_version_that_is_opened_outside_a_server_leaves_no_line(version, caplog):
    """An export said `loaded version 1 ... from .../unfinished-3-x` of the folder that it was still writing."""
    caplog.set_level(logging.INFO, logger="serving")
    Servable.load("m", 1, version).close()
    assert caplog.messages == []


# Records of calls that TF Serving cannot replay; they were passed over with a warning.
SESSION_RUN, STREAMED = (
    prediction_log_pb2.PredictionLog(**{kind: {}}).SerializeToString()
    for kind in ("session_run_log", "predict_streamed_log")
)


@pytest.mark.parametrize(
    ("requests", "extra", "sentence"),
    [
        ([predict_request({"n": np.int64([0])}, "positive_only")], [], "one failed with INVALID_ARGUMENT"),
        ([], [b"\xff\xff"], "Failed to parse warmup record 1"),
        ([], [SESSION_RUN], "Unsupported log_type for warmup: session_run_log"),
        ([], [STREAMED], "Unsupported log_type for warmup: predict_streamed_log"),
        ([predict_request({"x": ONES})] * 1001, [], "Number of warmup records exceeds the maximum (1000)"),
    ],
)
def test_broken_warm_up_fails_the_version_unless_it_is_switched_off(version, requests, extra, sentence):
    write_warmup(version, requests, extra)
    manager, failure = loaded(version)
    manager.close()
    assert failure.state == State.END
    assert failure.code.name == "UNKNOWN"
    assert sentence in failure.message
    with embedded.running(version.parent, enable_model_warmup=False) as server:
        assert server.manager.available() == {"tfdnc": [1]}


def test_corrupt_warm_up_file(version):
    write_warmup(version, [predict_request({"x": ONES})])
    file = version / "assets.extra" / "tf_serving_warmup_requests"
    file.write_bytes(file.read_bytes()[:-5])
    manager, failure = loaded(version)
    manager.close()
    assert "Failed to parse warmup record" in failure.message


def test_hot_reloads_under_load_fail_no_request(by_hand, version, connect):
    base, done, failures, answers = version.parent, threading.Event(), [], []

    def keep_asking():
        stubs = connect(by_hand.address)
        for _ in range(20_000):  # ended by the reloads long before
            if done.is_set():
                break
            try:
                answers.append(stubs.Predict(predict_request({"x": ONES})).model_spec.version.value)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()

    def wait_for_answers():
        seen = len(answers)
        while len(answers) < seen + 20 and not failures:
            threads[0].join(0.01)

    for number in (2, 3, 4):
        wait_for_answers()
        shutil.copytree(base / "1", base / f"{number}.tmp").rename(base / str(number))
        by_hand.source.poll()
        by_hand.manager.wait_until_available(["half"])
    wait_for_answers()
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert set(answers) == {1, 2, 3, 4}
    assert answers[-1] == 4


def test_a_broken_version_is_tried_again_reported_and_repaired(version, connect):
    base = version.parent
    flags = {"max_num_load_retries": 2, "load_retry_interval_micros": 0, "file_system_poll_wait_seconds": 0}
    with embedded.running(base, model_name="half", **flags) as server:
        stubs = connect(server.address)
        (base / "2").mkdir()
        server.source.poll()
        server.manager.wait_until_available(["half"])
        with server.manager._changed:
            server.manager._changed.wait_for(lambda: server.manager._versions["half"][2].state == State.END, 30)
        assert server.manager._versions["half"][2].failures == 3
        assert stubs.Predict(predict_request({"x": ONES})).model_spec.version.value == 1
        failed = status(stubs)[2]
        assert (failed.state, failed.status.error_code) == (State.END, 2)
        assert "Expected saved_model.pb" in failed.status.error_message
        (base / "2").rmdir()
        server.source.poll()
        shutil.copytree(base / "1", base / "2.tmp").rename(base / "2")
        server.source.poll()
        server.manager.wait_until_available(["half"])
        assert stubs.Predict(predict_request({"x": ONES})).model_spec.version.value == 2


def test_config_reload_over_grpc(by_hand, ask, half_plus_two):
    def reload(text):
        request = model_management_pb2.ReloadConfigRequest()
        text_format.Parse(text, request.config)
        return request

    models = serving_models.models_config(half=half_plus_two, other=half_plus_two)
    request = reload(models)
    request.metric_names.append("/tensorflow/serving/unknown")
    answer = ask.HandleReloadConfigRequest(request)
    assert answer.status.error_code == 0
    assert [(metric.name, metric.int64_value_increase) for metric in answer.metric] == [(*request.metric_names, 0)]
    assert ask.Predict(predict_request({"x": ONES}, model="other")).model_spec.version.value == 2
    label = 'version_labels { key: "stable" value: 2 }'
    ask.HandleReloadConfigRequest(reload(serving_models.models_config(other=(half_plus_two, label))))
    request = predict_request({"x": ONES}, model="other")
    request.model_spec.version_label = "stable"
    assert ask.Predict(request).model_spec.version.value == 2
    assert ask.refused("Predict", predict_request({"x": ONES}))[0].name == "NOT_FOUND"
    code, message = ask.refused("HandleReloadConfigRequest", reload("custom_model_config {}"))
    assert code.name == "INVALID_ARGUMENT"
    assert message.startswith("ServerModelConfig type not supported by HandleReloadConfigRequest.")
    broken = serving_models.models_config(m=half_plus_two / "1" / "variables")
    code, message = ask.refused("HandleReloadConfigRequest", reload(broken))
    assert (code.name, message.split(" for servable")[0]) == (
        "NOT_FOUND",
        "Unable to find a numerical version path",
    )


def test_new_versions_and_models_are_found_without_being_told(version, tmp_path, half_plus_two):
    config = tmp_path / "models.config"
    config.write_text(serving_models.models_config(half=version.parent))
    flags = {"file_system_poll_wait_seconds": 1, "model_config_file_poll_wait_seconds": 1}
    with embedded.running(model_config_file=config, **flags) as server:
        shutil.copytree(version, tmp_path / "2").rename(version.parent / "2")
        (tmp_path / "new.config").write_text(serving_models.models_config(half=version.parent, other=half_plus_two))
        (tmp_path / "new.config").rename(config)
        with server.manager._changed:
            available = server.manager._available
            assert server.manager._changed.wait_for(lambda: 2 in available["half"] and available.get("other"), 60)


def test_stopped_server_frees_its_port(half_plus_two):
    with embedded.running(half_plus_two, model_name="half") as server:
        port = server.port
        with pytest.raises(UserError, match=f"Expected to listen on 127.0.0.1:{port}"):
            embedded.build_server(half_plus_two, port=port)
        with RetrievalClient(server.address, "half") as client:
            assert client.status()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))
    with embedded.running(half_plus_two, port=port) as server:
        assert server.port == port


def start(*arguments):
    command = [sys.executable, "-m", "serving", "--port=0", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def test_process_announces_itself_serves_and_stops_on_sigterm(fake_bundle):
    process = start("--model_base_path", fake_bundle, "--model_name=tfdnc")
    try:
        line = process.stdout.readline()
        assert line.startswith("Serving tfdnc version 7 on 127.0.0.1:"), process.stderr.read()
        with RetrievalClient(line.split()[-1]) as client:
            assert client.retrieve([["a"]])[0].item_ids == ["i0", "i1", "i2"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            with pytest.raises(RetrievalError) as caught:
                client.retrieve([["a"]])
            assert caught.value.code.name == "UNAVAILABLE"
    finally:
        process.kill()
        process.communicate()


def test_serve_returns_after_sigint_and_puts_the_handlers_back(fake_bundle):
    before, addresses = signal.getsignal(signal.SIGINT), []

    def ready(server):
        with RetrievalClient(server.address) as client:
            addresses.append(client.retrieve([["a"]]) and server.address)
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()

    embedded.serve(ServerOptions(model_base_path=fake_bundle, model_name="tfdnc", port=0), on_ready=ready)
    assert signal.getsignal(signal.SIGINT) is before
    with RetrievalClient(addresses[0]) as client, pytest.raises(RetrievalError, match="UNAVAILABLE"):
        client.status()


def test_main_says_what_is_wrong_and_returns_2(tmp_path, capsys):
    assert main(["--model_base_path", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Expected numbered version folders")


def test_a_model_that_does_not_load_at_start_is_told(tmp_path):
    (tmp_path / "1").mkdir()
    with pytest.raises(UserError, match=r"1 servable\(s\) did not become available: .*Expected saved_model.pb"):
        embedded.build_server(tmp_path, port=0, max_num_load_retries=0)


def test_scann_ops_are_registered_when_a_graph_needs_them(tmp_path):
    pytest.importorskip("scann")
    serving_models.save_scann(str(tmp_path / "1"))
    process = start("--model_base_path", tmp_path, "--model_name", "scann")
    try:
        line = process.stdout.readline()
        assert line.startswith("Serving scann version 1"), process.stderr.read()
        items = serving_models.scann_items()
        with RetrievalClient(line.split()[-1], "scann") as client:
            request = predict_request({"query": items[5:7]}, model="scann")
            response = client._prediction.Predict(request, timeout=10)
        assert list(response.outputs["index"].int_val)[::3] == np.argmax(items[5:7] @ items.T, axis=1).tolist()
    finally:
        process.kill()
        process.communicate()
