"""Figures of a benchmark of serving: percentiles and rates of samples, and the figures that have a bound."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

IN_PROCESS, GRPC, BATCHING, REST = "in process", "gRPC", "gRPC, batching", "REST"
"""Interfaces: a servable called by threads of one process, and a server called by processes."""

PERCENTILES = (50, 95, 99)

MOST_ADDED_MS = 0.7
LEAST_SHARE = 0.75
LEAST_GAIN = 1.3
MOST_GROWTH = 0.1
"""Bounds of the figures, see `figures`; `MOST_GROWTH` is the growth of memory over reloads or a long load."""


def milliseconds(sample: dict[str, Any], percent: int) -> float:
    """Returns a percentile of the latencies of a sample."""
    return 1e3 * float(np.percentile(sample["latencies"], percent))


def rates(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Computes throughput and latency of every interface under every load.

    Args:
        measured: result of `measurements.measure`.

    Returns:
        For each interface and number of clients `interface`, `clients`, `errors`, and medians over the rounds:
        `throughput` in requests per second, and `p50`, `p95` and `p99` in milliseconds.
    """
    return [
        {
            "interface": row["interface"],
            "clients": row["clients"],
            "throughput": statistics.median(_throughput(row)),
            **{f"p{percent}": statistics.median(_milliseconds(row, percent)) for percent in PERCENTILES},
            "errors": sum(sum(sample["errors"].values()) for sample in row["rounds"]),
        }
        for row in measured
    ]


def figures(
    measured: Sequence[dict[str, Any]], load: dict[str, Any] | None, reloads: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Computes the figures that have a bound, for the parts that were measured.

    Interfaces are compared inside every round, whose measurements follow each other in time. A figure is the median
    over the rounds.

    Args:
        measured: result of `measurements.measure`.
        load: result of `measurements.long_load`, None if it was left out.
        reloads: result of `measurements.reloads`, None if they were left out.

    Returns:
        `figure`, its name; `value`, `lowest` and `highest` over the rounds; `wanted`, the bound in words; `reached`.
    """
    return [*_comparisons(measured), *_of_long_load(load), *_of_reloads(reloads)]


def _comparisons(measured: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    rows = {(row["interface"], row["clients"]): row for row in measured}
    fewest = min(row["clients"] for row in measured)
    most = max(row["clients"] for row in measured)
    base, grpc = rows.get((IN_PROCESS, fewest)), rows.get((GRPC, fewest))
    for interface in (GRPC, REST):
        if base and (asked := rows.get((interface, fewest))):
            added = [a - b for a, b in zip(_milliseconds(asked, 50), _milliseconds(base, 50), strict=True)]
            wanted = MOST_ADDED_MS if interface == GRPC and fewest == 1 else None
            yield _figure(f"ms that {interface} adds to the median at {_clients(fewest)}", added, most=wanted)
    base, grpc = rows.get((IN_PROCESS, most)), rows.get((GRPC, most))
    if base and grpc:
        name = f"throughput of gRPC by that in process at {_clients(most)}"
        yield _figure(name, _ratios(grpc, base), least=LEAST_SHARE)
    if grpc and (batching := rows.get((BATCHING, most))):
        name = f"throughput with batching by that without at {_clients(most)}"
        yield _figure(name, _ratios(batching, grpc), least=LEAST_GAIN)


def _of_long_load(load: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if load:
        said = f"in {load['requests']:,} requests, {load['seconds']:.0f} s at {_clients(load['clients'])}"
        yield _figure(f"errors {said}", [sum(load["errors"].values())], most=0)
        yield _figure("growth of memory in this time", [_growth(load["memory"])], most=MOST_GROWTH)


def _of_reloads(reloads: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if reloads:
        said = f"in {reloads['requests']:,} requests, {reloads['reloads']} reloads under {_clients(reloads['clients'])}"
        yield _figure(f"errors {said}", [sum(reloads["errors"].values())], most=0)
        yield _figure("growth of memory by these reloads", [_growth(reloads["memory"])], most=MOST_GROWTH)


def _figure(
    name: str, values: Sequence[float], most: float | None = None, least: float | None = None
) -> dict[str, Any]:
    value = statistics.median(values)
    wanted = f"at most {most:g}" if most is not None else f"at least {least:g}" if least is not None else ""
    reached = (most is None or value <= most) and (least is None or value >= least) if wanted else None
    ends = {"lowest": min(values), "highest": max(values)}
    return {"figure": name, "value": value, **ends, "wanted": wanted, "reached": reached}


def _growth(memory: Sequence[float]) -> float:
    return memory[-1] / memory[0] - 1


def _throughput(row: dict[str, Any]) -> list[float]:
    return [len(sample["latencies"]) / sample["seconds"] for sample in row["rounds"]]


def _ratios(row: dict[str, Any], other: dict[str, Any]) -> list[float]:
    return [a / b for a, b in zip(_throughput(row), _throughput(other), strict=True)]


def _milliseconds(row: dict[str, Any], percent: int) -> list[float]:
    return [milliseconds(sample, percent) for sample in row["rounds"]]


def _clients(count: int) -> str:
    return f"{count} client{'' if count == 1 else 's'}"
