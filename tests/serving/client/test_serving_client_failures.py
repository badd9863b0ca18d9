"""Clients of a faulty server: retries, deadlines, headers, wrong answers, cancellation."""

import asyncio
import threading
import types
from concurrent import futures

import grpc
import numpy as np
import pytest
from scripted_server import WAIT, Script, echo, served, states, until_cancelled
from tensorflow_serving.apis import predict_pb2

from serving import messages, tensors
from serving.client import AsyncRetrievalClient, RetrievalClient, RetrievalError, Retry, base
from tfdnc.contracts import bundle as contract

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
QUICK = Retry(initial=0.01)
ATTEMPTS = "grpc-previous-rpc-attempts"


def refused(ask, script, method="retrieve", *arguments, **options):
    with served(script) as target, pytest.raises(RetrievalError) as caught:
        ask(target, method, *(arguments or [[["a"]]]), **options)
    return caught.value


def test_unavailable_is_asked_again(ask):
    script = Script(UNAVAILABLE, UNAVAILABLE, echo)
    with served(script) as target:
        [answer] = ask(target, "retrieve", [["a"]], client={"retry": QUICK})
    assert answer.item_ids == ["a"]
    assert [headers.get(ATTEMPTS) for headers in script.headers] == [None, "1", "2"]


def test_large_requests_are_asked_again_too(ask):
    script = Script(UNAVAILABLE, echo)
    with served(script) as target:
        ask(target, "retrieve", [["a" * (1 << 20)]], client={"retry": QUICK})
    assert len(script.requests) == 2


@pytest.mark.parametrize("attempts", [1, 3, 5])
def test_attempts_end(ask, attempts):
    script = Script(UNAVAILABLE)
    error = refused(ask, script, client={"retry": Retry(attempts, initial=0.01)})
    assert error.code is UNAVAILABLE
    assert "as scripted" in error.message
    assert len(script.requests) == attempts


def test_no_other_code_is_asked_again(ask):
    for code in set(grpc.StatusCode) - {grpc.StatusCode.OK, UNAVAILABLE}:
        script = Script(code, echo)
        assert refused(ask, script, client={"retry": QUICK}).code is code
        assert len(script.requests) == 1


def test_retries_stay_inside_the_deadline(ask):
    script = Script(UNAVAILABLE)
    error = refused(ask, script, timeout=0.3, client={"retry": Retry(initial=WAIT, maximum=WAIT)})
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(script.requests) == 1


def test_every_call_has_a_deadline(ask):
    script = Script(echo)
    with served(script) as target:
        ask(target, "retrieve", [["a"]], client={"timeout": 40})
        ask(target, "retrieve", [["a"]], client={"timeout": 40}, timeout=20)
        ask(target, "encode", [["a"]], timeout=20)
    assert 30 < script.seconds[0] < 50
    assert max(script.seconds[1:]) < 30


def test_the_parts_of_a_call_share_its_deadline(ask, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(base, "time", types.SimpleNamespace(monotonic=lambda: now[0]))

    def line(request, context):
        now[0] += 15
        return echo(request)

    script = Script(line)
    with served(script) as target:
        ask(target, "retrieve", [["a"], ["b"]], timeout=20, client={"batch_size": 1, "max_in_flight": 1})
    assert 15 < script.seconds[0] < 25
    assert script.seconds[1] < 10


def test_slow_answers_end_at_the_deadline(ask):
    cancelled = threading.Event()
    with served(Script(until_cancelled(cancelled))) as target:
        with pytest.raises(RetrievalError, match=r"DEADLINE_EXCEEDED: .* within 0.3 s"):
            ask(target, "retrieve", [["a"]], timeout=0.3)
        assert cancelled.wait(WAIT)


def test_headers_and_channel_options(ask):
    tokens = iter(["one", "two"])
    fresh = {"metadata": lambda: [("authorization", next(tokens))], "options": {"grpc.primary_user_agent": "me"}}
    script = Script(echo)
    with served(script) as target:
        ask(target, "retrieve", [["a"], ["b"]], client={**fresh, "batch_size": 1, "max_in_flight": 1})
        ask(target, "encode", [["a"]], client={"metadata": [("authorization", "three")]})
    assert [headers["authorization"] for headers in script.headers] == ["one", "two", "three"]
    assert script.headers[0]["user-agent"].startswith("me ")


def test_channel_options_win(ask):
    script = Script(UNAVAILABLE)
    refused(ask, script, client={"options": {"grpc.service_config": "{}"}})
    assert len(script.requests) == 1


def test_answers_of_another_model(ask):
    other, short, broken = (predict_pb2.PredictResponse() for _ in range(3))
    tensors.encode(np.float32([1]), other.outputs["y"])
    short.CopyFrom(echo(messages.encode_request([["a"]])))
    broken.CopyFrom(echo(messages.encode_request([["a"], ["b"]])))
    broken.outputs[contract.SCORES].tensor_content = b"odd"
    for response, sentence in [
        (other, r"found shape \[1\] of y"),
        (short, "Expected 2 rows in every output"),
        (broken, "tensor_content holds 3 bytes"),
        (predict_pb2.PredictResponse(), "Expected the outputs of a tfdnc bundle, found"),
    ]:
        error = refused(ask, Script(response), "retrieve", [["a"], ["b"]])
        assert error.code is grpc.StatusCode.FAILED_PRECONDITION
        with pytest.raises(RetrievalError, match=sentence):
            raise error


def test_waiting_for_a_version(ask):
    script = Script(grpc.StatusCode.NOT_FOUND, states((7, "LOADING")), states((8, "LOADING"), (7, "AVAILABLE")))
    with served(script) as target:
        assert ask(target, "wait_until_available", WAIT) == 7
    assert len(script.requests) == 3


def test_waiting_for_a_label_waits_for_it_to_be_borne(ask):
    script = Script(grpc.StatusCode.INVALID_ARGUMENT, states((7, "AVAILABLE")))
    with served(script) as target:
        assert ask(target, "wait_until_available", WAIT, client={"label": "stable"}) == 7
    assert script.requests[0].model_spec.version_label == "stable"


def test_waiting_ends(ask):
    error = refused(ask, Script(states((7, "LOADING"))), "wait_until_available", 0.3)
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "but version 7 is LOADING." in error.message
    script = Script(grpc.StatusCode.PERMISSION_DENIED)
    assert refused(ask, script, "wait_until_available", WAIT).code is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(RetrievalError, match="but no server answered"):
        ask("127.0.0.1:1", "wait_until_available", 0.2)


def test_waiting_for_a_server_that_is_not_there_yet(ask, tmp_path):
    target = f"unix:{tmp_path}/socket"
    with futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, target, "wait_until_available", WAIT)
        with served(Script(states((7, "AVAILABLE"))), target):
            assert waiting.result(WAIT) == 7


def test_closing_cancels():
    arrived, cancelled = threading.Event(), threading.Event()
    for rows in (1, 3):  # a plain call, futures
        arrived.clear(), cancelled.clear()
        with served(Script(until_cancelled(cancelled, arrived))) as target, futures.ThreadPoolExecutor(1) as pool:
            client = RetrievalClient(target, batch_size=1, timeout=WAIT)
            call = pool.submit(client.retrieve, [["a"]] * rows)
            assert arrived.wait(WAIT)
            client.close()
            with pytest.raises(RetrievalError) as caught:
                call.result(WAIT)
            assert caught.value.code is grpc.StatusCode.CANCELLED
            assert cancelled.wait(WAIT)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_client_that_was_closed_meanwhile_says_cancelled(rows):
    """Closed between two requests of a call, it let gRPC's own ValueError through."""
    client = RetrievalClient("127.0.0.1:1", batch_size=1, timeout=WAIT)
    client.close()
    with pytest.raises(RetrievalError) as caught:
        client.retrieve([["a"]] * rows)
    assert caught.value.code is grpc.StatusCode.CANCELLED


def test_a_cancelled_task_cancels_its_requests():
    arrived, cancelled = threading.Event(), threading.Event()

    async def cancel(target):
        async with AsyncRetrievalClient(target, timeout=WAIT) as client:
            task = asyncio.create_task(client.retrieve([["a"]]))
            assert await asyncio.to_thread(arrived.wait, WAIT)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(cancelled.wait, WAIT)

    with served(Script(until_cancelled(cancelled, arrived))) as target:
        asyncio.run(cancel(target))


def test_the_asyncio_client_needs_its_loop():
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncRetrievalClient("127.0.0.1:1")


@pytest.mark.parametrize("settings", [{"attempts": 0}, {"attempts": 6}, {"initial": 0.0}, {"maximum": -1.0}])
def test_retries_that_make_no_sense(settings):
    with pytest.raises(ValueError, match="Expected"):
        Retry(**settings)


NO_PROXY = "http://127.0.0.1:9"  # a port without a listener


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_this_machine_is_asked_directly_despite_a_proxy(ask, monkeypatch, variable):
    """gRPC sends a loopback address through the proxy too, where it names another machine."""
    monkeypatch.setenv(variable, NO_PROXY)
    with served(Script(echo)) as target:
        port = target.rpartition(":")[2]
        for name in (f"localhost:{port}", f"dns:///localhost:{port}", f"ipv4:127.0.0.1:{port}", f"127.0.0.1:{port}"):
            [answer] = ask(name, "retrieve", [["a"]], client={"retry": Retry(1)})
            assert answer.item_ids == ["a"]


def test_a_proxy_is_named_where_a_server_was_not_reached_through_it(monkeypatch):
    monkeypatch.setenv("http_proxy", NO_PROXY)
    with RetrievalClient("server.invalid:8500", retry=Retry(1)) as client:
        with pytest.raises(RetrievalError, match="through the proxy in http_proxy; its name in no_grpc_proxy"):
            client.status(timeout=5)
        monkeypatch.setenv("no_grpc_proxy", "localhost, .invalid")
        with pytest.raises(RetrievalError, match=r"^((?!proxy in).)*$"):
            client.status(timeout=5)
