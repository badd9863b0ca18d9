"""Measurements of a benchmark of serving: every interface under every load, a long load, and reloads under load."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tfdnc.load_test.figures import milliseconds
from tfdnc.load_test.load import Load, Processes, count_errors
from tfdnc.load_test.server import ServerProcess

_log = logging.getLogger(__name__)

PARTS = 10
"""Most parts of the long load, each of a second or more: enough to show growth, and long enough for a p99."""

RELOAD_CLIENTS = 4

_WARM_UP_SECONDS = 1.0


def measure(interfaces: Mapping[str, Load], counts: Sequence[int], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Measures every interface under load by every number of clients, `rounds` times.

    In a round the interfaces follow each other under the same number of clients, so that temporary noise affects all of
    them. Every second round has the reverse order.

    Args:
        interfaces: name -> interface.
        counts: numbers of clients.
        rounds: number of measurements of each pair.
        seconds: duration of one measurement.

    Returns:
        `interface`, `clients` and `rounds`, the samples (see `load.Load`), for every interface and number of clients.
    """
    samples: dict[tuple[str, int], list[dict[str, Any]]] = {
        (interface, clients): [] for interface in interfaces for clients in counts
    }
    for number in range(rounds):
        for clients in counts:
            for interface in list(interfaces)[:: -1 if number % 2 else 1]:
                _log.info("round %d of %d, %s, %d clients", number + 1, rounds, interface, clients)
                samples[interface, clients].append(interfaces[interface].measure(clients, seconds))
    return [
        {"interface": interface, "clients": clients, "rounds": done} for (interface, clients), done in samples.items()
    ]


def long_load(server: ServerProcess, load: Load, clients: int, seconds: float) -> dict[str, Any]:
    """Keeps a server under load, in at most `PARTS` parts.

    Returns:
        `clients`, `seconds`, `requests`, `errors`, `p50` of every part in milliseconds, and `memory` in MB, before
        and after every part.
    """
    load.measure(clients, _WARM_UP_SECONDS)  # memory that grows with the first requests is no leak
    memory, samples = [server.memory()], []
    parts = max(1, min(PARTS, int(seconds)))
    for number in range(parts):
        _log.info("long load, part %d of %d", number + 1, parts)
        samples.append(load.measure(clients, seconds / parts))
        memory.append(server.memory())
    return {
        "clients": clients,
        "seconds": seconds,
        "p50": [milliseconds(sample, 50) for sample in samples],
        "memory": memory,
        **_counted(samples),
    }


def reloads(server: ServerProcess, load: Processes, times: int) -> dict[str, Any]:
    """Publishes the version repeatedly while `RELOAD_CLIENTS` clients ask for the latest one.

    Returns:
        `reloads`, `clients`, `requests`, `errors`, `seconds` of each reload, `p99` and `slowest` in milliseconds, and
        `memory` in MB, before and after each reload.
    """
    load.measure(RELOAD_CLIENTS, _WARM_UP_SECONDS)
    memory, seconds = [server.memory()], []
    load.begin(RELOAD_CLIENTS)
    for number in range(times):
        _log.info("reload %d of %d", number + 1, times)
        started = time.perf_counter()
        server.publish()
        seconds.append(time.perf_counter() - started)
        memory.append(server.memory())
    sample = load.end()
    return {
        "reloads": times,
        "clients": RELOAD_CLIENTS,
        "seconds": seconds,
        "memory": memory,
        "p99": milliseconds(sample, 99),
        "slowest": milliseconds(sample, 100),
        **_counted([sample]),
    }


def _counted(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"requests": sum(sample["requests"] for sample in samples), "errors": count_errors(samples)}
