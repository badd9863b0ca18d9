"""From samples of requests to percentiles and rates, and from these to the figures that a server is judged by."""

import statistics
from collections.abc import Iterator, Sequence

import numpy as np

IN_PROCESS, GRPC, BATCHING, REST = "in process", "gRPC", "gRPC, batching", "REST"
"""Doors: the servable called in one process by threads; a server asked by processes, without and with batching."""

PERCENTILES = (50, 95, 99)

MOST_ADDED_MS = 0.7
LEAST_SHARE = 0.75
LEAST_GAIN = 1.3
MOST_GROWTH = 0.1
"""What is wanted of the server, see `figures`; growth is of memory, over reloads or a long load."""


def milliseconds(sample: dict, percent: int) -> float:
    """A percentile of the latencies of a sample."""
    return 1e3 * float(np.percentile(sample["latencies"], percent))


def rates(measured: Sequence[dict]) -> list[dict]:
    """What every door does under every load.

    Args:
        measured: of `measurements.measure`.

    Returns:
        Per door and number of clients `door`, `clients`, `errors`, and medians over the rounds of `throughput`,
        requests per second, and of `p50`, `p95` and `p99`, milliseconds.
    """
    return [
        {
            "door": row["door"],
            "clients": row["clients"],
            "throughput": statistics.median(_throughput(row)),
            **{f"p{percent}": statistics.median(_milliseconds(row, percent)) for percent in PERCENTILES},
            "errors": sum(sum(sample["errors"].values()) for sample in row["rounds"]),
        }
        for row in measured
    ]


def figures(measured: Sequence[dict], load: dict | None, reloads: dict | None) -> list[dict]:
    """The figures that a server is judged by, as far as they were measured.

    A comparison is made inside every round, whose measurements are neighbours in time, and its median is taken.

    Args:
        measured: of `measurements.measure`.
        load: of `measurements.long_load`, None if there was none.
        reloads: of `measurements.reloads`, None if there were none.

    Returns:
        `figure`, what it says; `value`, `lowest` and `highest` over the rounds; `wanted`, in words; and `reached`.
    """
    return [*_comparisons(measured), *_of_long_load(load), *_of_reloads(reloads)]


def _comparisons(measured: Sequence[dict]) -> Iterator[dict]:
    rows = {(row["door"], row["clients"]): row for row in measured}
    fewest = min(row["clients"] for row in measured)
    most = max(row["clients"] for row in measured)
    base, grpc = rows.get((IN_PROCESS, fewest)), rows.get((GRPC, fewest))
    for door in (GRPC, REST):
        if base and (asked := rows.get((door, fewest))):
            added = [a - b for a, b in zip(_milliseconds(asked, 50), _milliseconds(base, 50), strict=True)]
            wanted = MOST_ADDED_MS if door == GRPC and fewest == 1 else None
            yield _figure(f"ms that {door} adds to the median at {_clients(fewest)}", added, most=wanted)
    base, grpc = rows.get((IN_PROCESS, most)), rows.get((GRPC, most))
    if base and grpc:
        name = f"throughput of gRPC by that in process at {_clients(most)}"
        yield _figure(name, _ratios(grpc, base), least=LEAST_SHARE)
    if grpc and (batching := rows.get((BATCHING, most))):
        name = f"throughput with batching by that without at {_clients(most)}"
        yield _figure(name, _ratios(batching, grpc), least=LEAST_GAIN)


def _of_long_load(load: dict | None) -> Iterator[dict]:
    if load:
        said = f"in {load['requests']:,} requests, {load['seconds']:.0f} s at {_clients(load['clients'])}"
        yield _figure(f"errors {said}", [sum(load["errors"].values())], most=0)
        yield _figure("growth of memory in this time", [_growth(load["memory"])], most=MOST_GROWTH)


def _of_reloads(reloads: dict | None) -> Iterator[dict]:
    if reloads:
        said = f"in {reloads['requests']:,} requests, {reloads['reloads']} reloads under {_clients(reloads['clients'])}"
        yield _figure(f"errors {said}", [sum(reloads["errors"].values())], most=0)
        yield _figure("growth of memory by these reloads", [_growth(reloads["memory"])], most=MOST_GROWTH)


def _figure(name: str, values: Sequence[float], most: float | None = None, least: float | None = None) -> dict:
    value = statistics.median(values)
    wanted = f"at most {most:g}" if most is not None else f"at least {least:g}" if least is not None else ""
    reached = (most is None or value <= most) and (least is None or value >= least) if wanted else None
    ends = {"lowest": min(values), "highest": max(values)}
    return {"figure": name, "value": value, **ends, "wanted": wanted, "reached": reached}


def _growth(memory: Sequence[float]) -> float:
    return memory[-1] / memory[0] - 1


def _throughput(row: dict) -> list[float]:
    return [len(sample["latencies"]) / sample["seconds"] for sample in row["rounds"]]


def _ratios(row: dict, other: dict) -> list[float]:
    return [a / b for a, b in zip(_throughput(row), _throughput(other), strict=True)]


def _milliseconds(row: dict, percent: int) -> list[float]:
    return [milliseconds(sample, percent) for sample in row["rounds"]]


def _clients(count: int) -> str:
    return f"{count} client{'' if count == 1 else 's'}"
