"""A process that is one client of a server under load: it runs closed loops over gRPC or REST on order.

It reads and writes lines of JSON. The first input line is a job `{"target", "path", "requests"}`, with the requests in
base64. The next lines are orders `{"start", "from", "end"}` in seconds of the monotonic clock, which all processes
share. A path that begins with `/v1/` is a path of HTTP, any other is the name of a gRPC method. The output is an empty
sample after the connection, then a sample per order. An order ends at its `end`, or with the next input line. The end
of the input ends the process.

It sends and receives bytes, because the figures of a server exclude the work of a client library. A client that
computes little also leaves more of the machine to the server.
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
from typing import Any, TypeVar

import grpc

TIMEOUT = 30
"""Time limit of a request in seconds."""

_AFTER_FAILURE = 0.01
"""Seconds of pause after a failed request, so that a server which refuses at once is not flooded."""

Request = TypeVar("Request")

Ask = Callable[[Request], str]
"""Sends one request and returns its error, or ""."""


def closed_loop(
    ask: Ask[Request],
    requests: Sequence[Request],
    order: dict[str, float],
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Sends one request after the other, each after the answer to the one before.

    Args:
        ask: sends a request.
        requests: sent in turn, repeatedly.
        order: times: requests are sent from `start` to `end`, and answers count from `from` on.
        stopped: called before every request; True ends the loop before `end`.

    Returns:
        `latencies`, in seconds, of the requests answered between `from` and `end`; `requests`, the number of all
        requests; and `errors`, the number of each error over all requests.
    """
    time.sleep(max(0.0, order["start"] - time.monotonic()))
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    count = 0
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


def over_grpc(target: str, path: str) -> Ask[bytes]:
    """Returns a client of one gRPC method, with a connection of its own."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    method = grpc.insecure_channel(target, options=options).unary_unary(path)

    def ask(request: bytes) -> str:
        try:
            method(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return ""

    return ask


def over_http(target: str, path: str) -> Ask[bytes]:
    """Returns a client of one REST path, with a connection that stays open."""
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
    """Connects, sends every request once as a warm-up, and then carries out orders."""
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
