"""Load by concurrent clients: processes that ask a server, or threads in this process."""

import base64
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, Protocol

from tfdnc.contracts.errors import UserError
from tfdnc.load_test.client import Ask, Request, closed_loop

PREDICT = "/tensorflow.serving.PredictionService/Predict"

RAMP = 0.3
"""Seconds of load before samples count, until caches are warm and all clients run."""

_BEFORE_START = 0.05
"""Seconds from an order to its start, so that every client has received it."""


class Load(Protocol):
    """An interface that can be put under load."""

    def measure(self, clients: int, seconds: float) -> dict[str, Any]:
        """Measures it under load by some clients for some seconds.

        Returns:
            The result of `client.closed_loop` for all clients together, and the `seconds`.

        Raises:
            UserError: no request was answered.
        """


class Threads(Generic[Request]):
    """Load on a function in this process.

    Args:
        ask: answers one request; called from many threads.
        requests: requests in turn.
    """

    def __init__(self, ask: Ask[Request], requests: Sequence[Request]) -> None:
        self._ask, self._requests = ask, requests

    def measure(self, clients: int, seconds: float) -> dict[str, Any]:
        """See `Load`."""
        order = _order(seconds)
        with ThreadPoolExecutor(clients) as pool:
            loops = [
                pool.submit(closed_loop, self._ask, _turned(self._requests, client), order) for client in range(clients)
            ]
        return _together([loop.result() for loop in loops], seconds)


class Processes:
    """Load on a server by clients in processes of their own, because threads of one Python process slow each other.

    It is a context manager, and the processes end with it.

    Args:
        target: `host:port` of the server.
        requests: serialised requests, or bodies.
        clients: most clients of a measurement.
        path: gRPC method, or path of the REST API.

    Raises:
        UserError: the server answers no request; the text has its message.
    """

    def __init__(self, target: str, requests: Sequence[bytes], clients: int, path: str = PREDICT) -> None:
        command = [sys.executable, "-m", "tfdnc.load_test.client"]
        pipe = subprocess.PIPE
        self._processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(clients)]
        try:
            for client, process in enumerate(self._processes):
                encoded = [base64.b64encode(request).decode() for request in _turned(requests, client)]
                _send(process, {"target": target, "path": path, "requests": encoded})
                if errors := _receive(process)["errors"]:
                    raise UserError(f"Expected answers from {target}{path}, got {next(iter(errors))}")
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()  # it has no data to save
        for process in self._processes:
            process.communicate()

    def measure(self, clients: int, seconds: float) -> dict[str, Any]:
        """See `Load`."""
        self._start(clients, seconds)
        return self._finish(clients, seconds)

    def begin(self, clients: int) -> None:
        """Puts the server under load until `end`."""
        self._start(clients, math.inf)
        self._begun = clients, time.monotonic()

    def end(self) -> dict[str, Any]:
        """Ends the load of `begin`, and returns its sample."""
        clients, since = self._begun
        for process in self._processes[:clients]:
            _send(process, {})
        return self._finish(clients, time.monotonic() - since)

    def _start(self, clients: int, seconds: float) -> None:
        order = _order(seconds)
        for process in self._processes[:clients]:
            _send(process, order)

    def _finish(self, clients: int, seconds: float) -> dict[str, Any]:
        return _together([_receive(process) for process in self._processes[:clients]], seconds)


def _order(seconds: float) -> dict[str, float]:
    start = time.monotonic() + _BEFORE_START
    return {"start": start, "from": start + RAMP, "end": start + RAMP + seconds}


def _turned(requests: Sequence[Request], client: int) -> list[Request]:
    """Returns the requests from another first one for every client; equal requests at a time would favour caches."""
    first = client * 7 % len(requests)
    return [*requests[first:], *requests[:first]]


def _send(process: subprocess.Popen[str], order: dict[str, Any]) -> None:
    print(json.dumps(order), file=process.stdin, flush=True)


def _receive(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout  # it is a pipe
    line = process.stdout.readline()
    if not line:
        raise UserError(f"Expected a sample from a client, but its process ended with status {process.wait()}.")
    return json.loads(line)


def _together(samples: Sequence[dict[str, Any]], seconds: float) -> dict[str, Any]:
    together = {
        "seconds": seconds,
        "latencies": [latency for sample in samples for latency in sample["latencies"]],
        "requests": sum(sample["requests"] for sample in samples),
        "errors": count_errors(samples),
    }
    if not together["latencies"]:
        cause = next(iter(together["errors"]), "they take longer: measure for more seconds")
        raise UserError(f"Expected some requests to be answered in {seconds:g} s, none was: {cause}")
    return together


def count_errors(samples: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Returns the number of each error over all samples."""
    return dict(sum((Counter(sample["errors"]) for sample in samples), Counter()))
