"""What a benchmark of serving does: every door under every load by turns, then a long load, then reloads under load."""

import logging
import time
from collections.abc import Mapping, Sequence

from tfdnc.load_test.figures import milliseconds
from tfdnc.load_test.load import Load, Processes, count_errors
from tfdnc.load_test.server import ServerProcess

_log = logging.getLogger(__name__)

PARTS = 10
"""Of the long load, but none shorter than a second: enough to see growth, and each long enough for a p99."""

RELOAD_CLIENTS = 4

_WARM_UP_SECONDS = 1.0


def measure(doors: Mapping[str, Load], counts: Sequence[int], rounds: int, seconds: float) -> list[dict]:
    """Puts every door under load by every number of clients, `rounds` times.

    In a round all doors come after each other under the same number of clients, so that noise that comes and goes
    hits all of them, and every other round turns their order.

    Args:
        doors: name -> what is measured.
        counts: numbers of clients.
        rounds: how often everything is measured.
        seconds: of one measurement.

    Returns:
        `door`, `clients` and `rounds`, the samples (see `load.Load`), for every door and number of clients.
    """
    samples = {(door, clients): [] for door in doors for clients in counts}
    for number in range(rounds):
        for clients in counts:
            for door in list(doors)[:: -1 if number % 2 else 1]:
                _log.info("round %d of %d, %s, %d clients", number + 1, rounds, door, clients)
                samples[door, clients].append(doors[door].measure(clients, seconds))
    return [{"door": door, "clients": clients, "rounds": done} for (door, clients), done in samples.items()]


def long_load(server: ServerProcess, load: Load, clients: int, seconds: float) -> dict:
    """Keeps a server under load, and looks after it in `PARTS` parts.

    Returns:
        `clients`, `seconds`, `requests`, `errors`, `p50` of every part in milliseconds, and `memory` in MB, before
        and after every part.
    """
    load.measure(clients, _WARM_UP_SECONDS)  # what a server grows by under its first requests is no leak
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


def reloads(server: ServerProcess, load: Processes, times: int) -> dict:
    """Publishes the version again and again while `RELOAD_CLIENTS` clients ask for the latest one.

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


def _counted(samples: Sequence[dict]) -> dict:
    return {"requests": sum(sample["requests"] for sample in samples), "errors": count_errors(samples)}
