"""A whole benchmark of serving: puts each interface of a bundle under load, and computes figures of the samples."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfdnc.contracts import bundle
from tfdnc.load_test.figures import BATCHING, GRPC, IN_PROCESS, REST, figures, rates
from tfdnc.load_test.interfaces import batching_server, in_process, over_grpc, over_rest
from tfdnc.load_test.load import Load
from tfdnc.load_test.measurements import RELOAD_CLIENTS, long_load, measure, reloads
from tfdnc.load_test.server import ServerProcess
from tfdnc.load_test.subjects import Subject

BATCHING_PART, REST_PART, LOAD_PART, RELOADS_PART = PARTS = ("batching", "rest", "load", "reloads")
"""Optional parts, measured on a server of the benchmark; in process and gRPC are always measured."""


@dataclass(frozen=True)
class Plan:
    """Parts and durations of a benchmark.

    Attributes:
        clients: numbers of concurrent clients.
        rounds: number of measurements of every interface under every number of clients.
        round_seconds: duration of one such measurement.
        seconds: duration of the long load.
        reloads: number of new versions that the server loads under load.
        without: parts of `PARTS` that are left out.
    """

    clients: Sequence[int]
    rounds: int
    round_seconds: float
    seconds: float
    reloads: int
    without: Sequence[str] = ()


def benchmark(subject: Subject, plan: Plan) -> dict[str, Any]:
    """Measures a bundle in this process and behind servers that are started for it.

    Returns:
        `rates` and `figures` (see `tfdnc.load_test.figures`); `measured`, the samples behind them; `load`
        and `reloads` (see `tfdnc.load_test.measurements`), None for a part that is left out.

    Raises:
        UserError: a server does not start, or answers no request.
    """
    parts, most = set(PARTS) - set(plan.without), max(plan.clients)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ServerProcess(subject.version))
        callers = max(most, RELOAD_CLIENTS) if RELOADS_PART in parts else most
        asking = stack.enter_context(over_grpc(server.target, subject.requests, bundle.MODEL_NAME, callers))
        interfaces: dict[str, Load] = {IN_PROCESS: stack.enter_context(in_process(subject)), GRPC: asking}
        if BATCHING_PART in parts:
            target = stack.enter_context(batching_server(subject)).target
            interfaces[BATCHING] = stack.enter_context(over_grpc(target, subject.requests, bundle.MODEL_NAME, most))
        if REST_PART in parts:
            interfaces[REST] = stack.enter_context(over_rest(server, subject.requests, most))
        measured = _by_turns(interfaces, plan)
        load = long_load(server, asking, most, plan.seconds) if LOAD_PART in parts else None
        reloaded = reloads(server, asking, plan.reloads) if RELOADS_PART in parts else None
    return _results(measured, load, reloaded)


def benchmark_of_server(subject: Subject, plan: Plan, target: str, model_name: str) -> dict[str, Any]:
    """Measures a running server of the bundle, and the bundle in this process; results as those of `benchmark`."""
    with (
        in_process(subject) as here,
        over_grpc(target, subject.requests, model_name, max(plan.clients)) as there,
    ):
        return _results(_by_turns({IN_PROCESS: here, GRPC: there}, plan), None, None)


def _by_turns(interfaces: dict[str, Load], plan: Plan) -> list[dict[str, Any]]:
    return measure(interfaces, sorted(set(plan.clients)), plan.rounds, plan.round_seconds)


def _results(
    measured: list[dict[str, Any]], load: dict[str, Any] | None, reloaded: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "rates": rates(measured),
        "figures": figures(measured, load, reloaded),
        "measured": measured,
        "load": load,
        "reloads": reloaded,
    }
