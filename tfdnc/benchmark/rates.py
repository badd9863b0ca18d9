"""Rates from raw measurements, and their ratios to a baseline."""

import statistics
from collections.abc import Sequence
from typing import Any

from tfdnc.comparison.method_tables import default_baseline
from tfdnc.contracts.errors import UserError

PAPER = {"sasrec": 25_000, "mmoe": 7_200, "hadamard": 25_000}
"""Samples per second in the paper's Table 4, on other hardware: only their ratios can be compared."""


def find_baseline(names: Sequence[str], wanted: str | None) -> str:
    """Returns the baseline of the ratios: the wanted method, or the one whose name ends in -sasrec.

    Raises:
        UserError: there is no such method, or more than one.
    """
    baseline = wanted or default_baseline(names)
    if baseline is None or names.count(baseline) != 1:
        expected = f"one method called {wanted}" if wanted else "one method called ...-sasrec"
        raise UserError(f"Expected {expected} among {', '.join(names)}: name the baseline with --baseline.")
    return baseline


def rates(measured: Sequence[dict[str, Any]], baseline: str) -> list[dict[str, Any]]:
    """Returns the rates of every method.

    A rate is the median over the rounds. A ratio is the median of the ratios inside a round, because its measurements
    are close in time: noise that changes more slowly than a round cancels.

    Args:
        measured: result of `training.measure`.
        baseline: name of one of the methods.

    Returns:
        One dict per method, in order:

        - `method`, and the entries of its description;
        - `sequences` and `positions` per CPU second, `wall_sequences` and `wall_positions` per second;
        - `sequences_ratio`, with `sequences_lowest` and `_highest` over the rounds, and `positions_ratio`, to the
          baseline, per CPU second;
        - `plain`: name of the plain Transformer with the same loss, clusters and length, and `plain_ratio`, the ratio
          of sequences to it; None where there is none;
        - `paper`: ratio to SASRec in the paper's Table 4; None where it has no such method.
    """
    by_name = {method["name"]: method for method in measured}
    return [_rates_of(method, by_name[baseline], _plain_twin(method, measured)) for method in measured]


def _rates_of(method: dict[str, Any], baseline: dict[str, Any], plain: dict[str, Any] | None) -> dict[str, Any]:
    ratios = _ratios(method, baseline, "sequences")
    described = {key: value for key, value in method.items() if key not in ("name", "rounds")}
    return {
        "method": method["name"],
        **described,
        **{unit: statistics.median(_per_second(method, unit, "cpu_seconds")) for unit in ("sequences", "positions")},
        **{
            f"wall_{unit}": statistics.median(_per_second(method, unit, "wall_seconds"))
            for unit in ("sequences", "positions")
        },
        "sequences_ratio": statistics.median(ratios),
        "sequences_lowest": min(ratios),
        "sequences_highest": max(ratios),
        "positions_ratio": statistics.median(_ratios(method, baseline, "positions")),
        "plain": plain["name"] if plain else None,
        "plain_ratio": statistics.median(_ratios(method, plain, "sequences")) if plain else None,
        "paper": _paper(method),
    }


def _per_second(method: dict[str, Any], unit: str, seconds: str) -> list[float]:
    return [figures[unit] / figures[seconds] for figures in method["rounds"]]


def _ratios(method: dict[str, Any], other: dict[str, Any], unit: str) -> list[float]:
    pairs = zip(_per_second(method, unit, "cpu_seconds"), _per_second(other, unit, "cpu_seconds"), strict=True)
    return [own / others for own, others in pairs]


def _plain_twin(method: dict[str, Any], measured: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    same = ("loss", "clusters", "max_length")
    twins = (
        other
        for other in measured
        if other["encoder"] == "transformer" and all(other[key] == method[key] for key in same)
    )
    return next(twins, None) if method["encoder"] != "transformer" else None


def _paper(method: dict[str, Any]) -> float | None:
    """Returns the ratio of Table 4, which measures BCE with one negative; None for other losses and encoders.

    Its Hadamard product is that with every token, not the one with the state.
    """
    if method["loss"] != "bce" or method["encoder"] == "hadamard_state":
        return None
    if method["encoder"] == "transformer":
        name = "sasrec" if method["clusters"] == 1 else ""
    else:
        name = method["encoder"].split("_")[0]
    return PAPER[name] / PAPER["sasrec"] if name in PAPER else None


def same_windows(measured: Sequence[dict[str, Any]]) -> dict[int, list[list[str]]]:
    """Groups methods by the windows they trained on; one group means equal batch contents.

    Returns:
        Maximum length -> groups of names of methods.
    """
    groups: dict[int, dict[str, list[str]]] = {}
    for method in measured:
        groups.setdefault(method["max_length"], {}).setdefault(method["windows"], []).append(method["name"])
    return {length: list(by_digest.values()) for length, by_digest in groups.items()}
