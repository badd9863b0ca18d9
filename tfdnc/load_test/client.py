"""The process that is one client of a server under load: a closed loop over gRPC or REST, whenever it is told to.

It talks in lines of JSON. In: first a job `{"target", "path", "requests"}`, the requests as base64; then orders
`{"start", "from", "end"}` in seconds of the monotonic clock, which all processes share. A path that begins with
`/v1/` is asked over HTTP, any other is the name of a gRPC method. Out: an empty sample once connected, then a sample
per order. An order ends at its `end`, or when the next line comes in; the end of the input ends the process.

It sends and receives bytes: what a client library makes of them is no part of a server's figures, and the less a
client computes, the more of the machine is left to what is measured.
"""

import base64
import http.client
import itertools
import json
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import grpc

TIMEOUT = 30
"""Seconds after which a request counts as failed."""

_AFTER_FAILURE = 0.01
"""Seconds of pause after a failed request: a server that refuses at once is not to be flooded."""

Ask = Callable[[object], str]
"""Sends one request and returns what went wrong with it, or ""."""


def closed_loop(ask: Ask, requests: Sequence, order: dict, stopped: Callable[[], bool] = lambda: False) -> dict:
    """Sends one request after the other, each when the one before is answered.

    Args:
        ask: sends a request.
        requests: sent in turn, again and again.
        order: `start`, before which nothing is sent; `from`, before which answers are not counted; `end`.
        stopped: asked before every request; True ends the loop before `end`.

    Returns:
        `latencies`, in seconds, of the requests answered between `from` and `end`, `requests` answered at any time,
        and `errors`, how often each one was seen at any time.
    """
    time.sleep(max(0.0, order["start"] - time.monotonic()))
    latencies, errors, count = [], Counter(), 0
    for request in itertools.cycle(requests):
        sent = time.monotonic()
        if sent >= order["end"] or stopped():
            break
        error = ask(request)
        answered = time.monotonic()
        count += 1
        if error:
            errors[error] += 1
            time.sleep(_AFTER_FAILURE)
        elif order["from"] <= answered <= order["end"]:
            latencies.append(round(answered - sent, 7))
    return {"latencies": latencies, "requests": count, "errors": errors}


def over_grpc(target: str, path: str) -> Ask:
    """A client of one gRPC method, with a connection of its own."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    method = grpc.insecure_channel(target, options=options).unary_unary(path)

    def ask(request: bytes) -> str:
        try:
            method(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return ""

    return ask


def over_http(target: str, path: str) -> Ask:
    """A client of one REST path, on a connection that is kept open."""
    connection = http.client.HTTPConnection(target, timeout=TIMEOUT)

    def ask(request: bytes) -> str:
        try:
            connection.request("POST", path, request, {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()  # the next request opens it again
            return f"{type(error).__name__}: {error}"
        return "" if response.status == http.HTTPStatus.OK else f"{response.status}: {body[:200].decode()}"

    return ask


def main() -> None:
    """Connects, sends every request once to warm up, and then follows orders."""
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=[lines], daemon=True).start()
    job = json.loads(lines.get())
    ask = (over_http if job["path"].startswith("/v1/") else over_grpc)(job["target"], job["path"])
    requests = [base64.b64decode(request) for request in job["requests"]]
    errors = Counter(filter(None, map(ask, requests)))
    print(json.dumps({"latencies": [], "requests": len(requests), "errors": errors}), flush=True)
    while line := lines.get():
        if order := json.loads(line):
            sample = closed_loop(ask, requests, order, stopped=lambda: not lines.empty())
            print(json.dumps(sample), flush=True)


def _read(lines: queue.Queue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    lines.put("")


if __name__ == "__main__":
    main()
