"""From raw measurements to rates, and their ratios to a baseline."""

import statistics
from collections.abc import Sequence

from tfdnc.comparison.method_tables import default_baseline
from tfdnc.contracts.errors import UserError

PAPER = {"sasrec": 25_000, "mmoe": 7_200, "hadamard": 25_000}
"""Samples per second of the paper's Table 4, on hardware of its own: only their ratios can be compared."""


def find_baseline(names: Sequence[str], wanted: str | None) -> str:
    """The method that ratios are to: the one asked for, or the one whose name ends in -sasrec.

    Raises:
        UserError: there is no such method, or more than one.
    """
    baseline = wanted or default_baseline(names)
    if names.count(baseline) != 1:
        expected = f"one method called {wanted}" if wanted else "one method called ...-sasrec"
        raise UserError(f"Expected {expected} among {', '.join(names)}: name the baseline with --baseline.")
    return baseline


def rates(measured: Sequence[dict], baseline: str) -> list[dict]:
    """Rates of every method.

    A rate is the median over the rounds. A ratio is the median of the ratios inside a round, whose measurements are
    neighbours in time: noise that comes and goes more slowly than a round cancels.

    Args:
        measured: of `training.measure`.
        baseline: name of one of them.

    Returns:
        One dict per method, in order:

        - `method`, and the entries of its description;
        - `sequences` and `positions` per CPU second, `wall_sequences` and `wall_positions` per second;
        - `sequences_ratio`, with `sequences_lowest` and `_highest` over the rounds, and `positions_ratio`, to the
          baseline, per CPU second;
        - `plain`: the plain Transformer with the same loss, clusters and length, from which the method differs in
          nothing but its encoder, and `plain_ratio`, the ratio of sequences to it; None where there is none;
        - `paper`: what Table 4 says, as a ratio to SASRec; None where it says nothing.
    """
    by_name = {method["name"]: method for method in measured}
    return [_rates_of(method, by_name[baseline], _plain_twin(method, measured)) for method in measured]


def _rates_of(method: dict, baseline: dict, plain: dict | None) -> dict:
    ratios = _ratios(method, baseline, "sequences")
    described = {key: value for key, value in method.items() if key not in ("name", "rounds")}
    return {
        "method": method["name"],
        **described,
        **{what: statistics.median(_per_second(method, what, "cpu_seconds")) for what in ("sequences", "positions")},
        **{
            f"wall_{what}": statistics.median(_per_second(method, what, "wall_seconds"))
            for what in ("sequences", "positions")
        },
        "sequences_ratio": statistics.median(ratios),
        "sequences_lowest": min(ratios),
        "sequences_highest": max(ratios),
        "positions_ratio": statistics.median(_ratios(method, baseline, "positions")),
        "plain": plain["name"] if plain else None,
        "plain_ratio": statistics.median(_ratios(method, plain, "sequences")) if plain else None,
        "paper": _paper(method),
    }


def _per_second(method: dict, what: str, seconds: str) -> list[float]:
    return [figures[what] / figures[seconds] for figures in method["rounds"]]


def _ratios(method: dict, other: dict, what: str) -> list[float]:
    pairs = zip(_per_second(method, what, "cpu_seconds"), _per_second(other, what, "cpu_seconds"), strict=True)
    return [own / others for own, others in pairs]


def _plain_twin(method: dict, measured: Sequence[dict]) -> dict | None:
    same = ("loss", "clusters", "max_length")
    twins = (
        other
        for other in measured
        if other["encoder"] == "transformer" and all(other[key] == method[key] for key in same)
    )
    return next(twins, None) if method["encoder"] != "transformer" else None


def _paper(method: dict) -> float | None:
    """Table 4 is about BCE with one negative."""
    if method["loss"] != "bce":
        return None
    if method["encoder"] == "transformer":
        name = "sasrec" if method["clusters"] == 1 else ""
    else:
        name = method["encoder"].split("_")[0]
    return PAPER[name] / PAPER["sasrec"] if name in PAPER else None


def same_windows(measured: Sequence[dict]) -> dict[int, list[list[str]]]:
    """Maximum length -> groups of methods that trained on the same windows; one group means equal batch contents."""
    groups: dict[int, dict[str, list[str]]] = {}
    for method in measured:
        groups.setdefault(method["max_length"], {}).setdefault(method["windows"], []).append(method["name"])
    return {length: list(by_digest.values()) for length, by_digest in groups.items()}
