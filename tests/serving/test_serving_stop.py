"""Runs that take too long: deadlines end them, and SIGTERM ends the process in bounded time, with status 0."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
import numpy as np
import pytest
import rest_client
import tensorflow as tf
from serving_models import predict_request, save_slow

from serving import server as embedded
from serving.servable import Servable

WAIT = 60
FOR_EVER = 10**15

SERVE = """
import faulthandler, sys, threading, time
from pathlib import Path
from serving import server
from serving.options import ServerOptions

def tell(running):
    versions = running.manager._versions["slow"]
    def watch():
        while versions[1].leases < 2:
            time.sleep(.01)
        print("busy", flush=True)
    threading.Thread(target=watch, daemon=True).start()
    print(running.address, flush=True)

faulthandler.dump_traceback_later(45, exit=True)  # where it hangs, should it
server.LAST_SECONDS = 1.0
options = ServerOptions(model_base_path=Path(sys.argv[1]), model_name="slow", port=0, rest_api_port=int(sys.argv[2]))
server.serve(options, tell, grace=.5)
"""


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    base = tmp_path_factory.mktemp("slow")
    save_slow(base / "1")
    return base


@pytest.fixture(scope="module")
def server(slow):
    with embedded.running(slow, model_name="slow", file_system_poll_wait_seconds=0) as server:
        yield server


def count(number, signature=""):
    return predict_request({"n": np.int64([number])}, signature, model="slow")


def test_a_rest_request_ends_at_its_limit_though_its_run_has_begun(server):
    """It was answered with 200 once the run was over, whatever the limit."""
    with rest_client.running(server, timeout_seconds=0.3) as client:
        started = time.monotonic()
        status, answer = client.post("/v1/models/slow:predict", {"instances": [FOR_EVER]})
        assert (status, answer) == (504, {"error": "Timed out waiting for notification"})
        assert time.monotonic() - started < WAIT
        assert client.post("/v1/models/slow:predict", {"instances": [3]}) == (200, {"predictions": [3]})


def test_the_run_of_a_grpc_request_ends_at_its_deadline(server, connect):
    stubs = connect(server.address)
    with pytest.raises(grpc.RpcError) as caught:
        stubs._prediction.Predict(count(FOR_EVER), timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    leases = server.manager._versions["slow"][1]
    deadline = time.monotonic() + WAIT
    while leases.leases and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not leases.leases


def test_the_run_of_a_batch_ends_when_the_last_of_its_requests_is_late(slow, connect):
    with embedded.running(slow, model_name="slow", enable_batching=True) as server:
        stubs = connect(server.address)
        with pytest.raises(grpc.RpcError):
            stubs._prediction.Predict(count(FOR_EVER), timeout=0.3)
        assert stubs.Predict(count(2)).outputs["n"].int64_val == [2]
        started = time.monotonic()
    assert time.monotonic() - started < WAIT


def test_an_interrupted_run_is_cancelled(slow):
    servable = Servable.load("slow", 1, slow / "1")
    threading.Timer(0.3, servable.interrupt).start()
    with pytest.raises(tf.errors.CancelledError):
        servable.run("serving_default", {"n": np.int64([FOR_EVER])}, ["n"])
    servable.close()


def test_a_stopped_rest_server_is_idle_once_its_interrupted_runs_have_ended(slow):
    """Python exited while a thread came back from an interrupted run, which aborted one process in a hundred."""
    with embedded.running(slow, model_name="slow") as server:
        rest = rest_client.rest_server(server)
        others = set(threading.enumerate())  # servers of other tests of this process may still run
        rest.start()
        answering = [thread for thread in threading.enumerate() if thread not in others]
        body = json.dumps({"instances": [FOR_EVER]}).encode()
        threading.Thread(target=ask_rest, args=(rest.port, body), daemon=True).start()
        version = server.manager._versions["slow"][1]
        deadline = time.monotonic() + WAIT
        while not version.leases and time.monotonic() < deadline:
            time.sleep(0.01)
        rest.stop(grace=0)
        threading.Timer(0.3, server.manager.interrupt).start()
        rest.wait_until_idle()
        assert not version.leases
        for thread in answering:  # it may have a few instructions left after it said that it ends
            thread.join(WAIT)
            assert not thread.is_alive(), thread


@pytest.mark.parametrize(
    ("signature", "number"),
    [("serving_default", FOR_EVER), ("decompose", 5000)],  # a loop, which can be ended, and one op, which cannot
)
def test_sigterm_ends_a_process_that_is_at_work(slow, connect, signature, number):
    """A run over REST ended the process with a segmentation fault, one over gRPC kept it until the run was over."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-c", SERVE, str(slow), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        stubs = connect(process.stdout.readline().strip())
        over_grpc = stubs._prediction.Predict.future(count(number, signature), timeout=WAIT)
        body = json.dumps({"signature_name": signature, "instances": [number]}).encode()
        over_rest = threading.Thread(target=ask_rest, args=(port, body), daemon=True)
        over_rest.start()
        assert process.stdout.readline() == "busy\n"
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 0, process.stderr.read()
        assert time.monotonic() - started < 15  # .5 s of grace, 1 s for what was interrupted, and a busy machine
        assert over_grpc.exception(WAIT).code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
        over_rest.join(WAIT)
    finally:
        process.kill()
        process.communicate()


def ask_rest(port, body):
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/slow:predict", body, timeout=WAIT)
