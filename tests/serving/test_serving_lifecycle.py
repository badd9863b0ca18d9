"""Versions and servers from start to end: warm-up, states, unloading under load, ports, signals, ScaNN's ops."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import serving_models
from serving_models import predict_request, write_warmup
from tensorflow_serving.apis import model_pb2, prediction_log_pb2

from serving import manager as managers
from serving import server as embedded
from serving.__main__ import main
from serving.client import RetrievalClient, RetrievalError
from serving.manager import ModelConfig, ModelManager, State
from tfdnc.errors import UserError

ONES = np.ones([1, 1], np.float32)


@pytest.fixture
def version(tmp_path, half_plus_two):
    """A private copy of a version, alone under its base path."""
    return shutil.copytree(half_plus_two / "1", tmp_path / "base" / "1")


def test_latest_version_is_loaded(half_plus_two):
    manager = ModelManager()
    assert manager.load_latest(ModelConfig("m", half_plus_two)) == 2
    assert manager.available() == {"m": [2]}
    manager.close()
    assert [s.state for s in manager.states(model_pb2.ModelSpec(name="m"))] == [State.END]
    with pytest.raises(managers.ServingError, match=r"Latest\(m\)"), manager.lease(model_pb2.ModelSpec(name="m")):
        pass


def test_warm_up_requests_are_replayed(version):
    requests = [predict_request({"x": ONES}, model="any"), predict_request({"n": np.int64([1])}, "positive_only")]
    other = prediction_log_pb2.PredictionLog(classify_log=prediction_log_pb2.ClassifyLog())
    write_warmup(version, requests, [other.SerializeToString()])
    manager = ModelManager()
    manager.load("m", 1, version)
    with manager.lease(model_pb2.ModelSpec(name="m")) as servable:
        assert {key for key, _ in servable._callables} == {"serving_default", "positive_only"}
    manager.close()


@pytest.mark.parametrize(
    ("requests", "extra", "sentence"),
    [
        ([predict_request({"n": np.int64([0])}, "positive_only")], [], "one failed with INVALID_ARGUMENT"),
        ([], [b"\xff\xff"], "Failed to parse warmup record 1"),
        ([predict_request({"x": ONES})] * 1001, [], r"Number of warmup records exceeds the maximum \(1000\)"),
    ],
)
def test_broken_warm_up_fails_the_version_and_its_status_says_so(version, requests, extra, sentence):
    write_warmup(version, requests, extra)
    manager = ModelManager()
    with pytest.raises(UserError, match=sentence):
        manager.load_latest(ModelConfig("m", version.parent))
    (state,) = manager.states(model_pb2.ModelSpec(name="m"))
    assert state.state == State.END
    assert state.code.name == "UNKNOWN"
    assert state.message


def test_corrupt_warm_up_file(version):
    write_warmup(version, [predict_request({"x": ONES})])
    file = version / "assets.extra" / "tf_serving_warmup_requests"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UserError, match="Failed to parse warmup record"):
        ModelManager().load("m", 1, version)


def test_version_in_use_is_unloaded_only_afterwards(version):
    manager, spec = ModelManager(), model_pb2.ModelSpec(name="m")
    manager.load("m", 1, version)
    with manager.lease(spec) as servable:
        manager.unload("m", 1)
        assert [s.state for s in manager.states(spec)] == [State.UNLOADING]
        assert servable.run("serving_default", {"x": ONES}, ["y"])["y"].tolist() == [[2.5]]
        with pytest.raises(managers.ServingError), manager.lease(spec):
            pass
    assert [s.state for s in manager.states(spec)] == [State.END]
    manager.unload("m", 1)  # again: nothing happens


def test_stopped_server_finishes_what_it_began_and_frees_its_port(half_plus_two):
    with embedded.running(half_plus_two, model_name="half") as server:
        port = server.port
        with pytest.raises(UserError, match=f"Expected to listen on 127.0.0.1:{port}"):
            embedded.build_server(half_plus_two, port=port)
        answered = []

        def ask():
            with RetrievalClient(server.address, "half") as client:
                answered.append(client.status())

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert answered
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))
    with embedded.running(half_plus_two, port=port) as server:
        assert server.port == port


@pytest.mark.parametrize("port", [-1, 70000])
def test_impossible_port(half_plus_two, port):
    with pytest.raises(UserError, match="Expected a port from 0 to 65535"):
        embedded.build_server(half_plus_two, port=port)


def test_no_workers(half_plus_two):
    with pytest.raises(UserError, match="at least 1 worker"):
        embedded.build_server(half_plus_two, port=0, max_workers=0)


def start(*arguments):
    command = [sys.executable, "-m", "serving", "--port", "0", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def test_process_announces_itself_serves_and_stops_on_sigterm(fake_bundle):
    process = start("--model_base_path", fake_bundle)
    try:
        line = process.stdout.readline()
        assert line.startswith("Serving tfdnc version 7 on 127.0.0.1:"), process.stderr.read()
        with RetrievalClient(line.split()[-1]) as client:
            assert client.retrieve([["a"]])[0].item_ids == ["i0", "i1", "i2"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
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

    embedded.serve(fake_bundle, port=0, on_ready=ready)
    assert signal.getsignal(signal.SIGINT) is before
    with RetrievalClient(addresses[0]) as client, pytest.raises(RetrievalError, match="UNAVAILABLE"):
        client.status()


def test_main_says_what_is_wrong_and_returns_2(tmp_path, capsys):
    assert main(["--model_base_path", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Expected numbered version folders")


def test_scann_ops_are_registered_when_a_graph_needs_them(tmp_path):
    pytest.importorskip("scann")
    build = "import sys, serving_models; serving_models.save_scann(sys.argv[1])"
    command = [sys.executable, "-c", build, str(tmp_path / "1")]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parent)
    process = start("--model_base_path", tmp_path, "--model_name", "scann")
    try:
        line = process.stdout.readline()
        assert line.startswith("Serving scann version 1"), process.stderr.read()
        items = serving_models.scann_items()
        with RetrievalClient(line.split()[-1], "scann") as client:
            request = predict_request({"query": items[5:7]}, model="scann")
            response = client._call(client._prediction.Predict, request)
        assert list(response.outputs["index"].int_val)[::3] == np.argmax(items[5:7] @ items.T, axis=1).tolist()
    finally:
        process.kill()
        process.communicate()
