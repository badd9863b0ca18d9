"""What sequences are worth: events that came twice, targets that a user knew before, training targets without weight.

Counts of one bucket of sequences, and what is said of their sums.
"""

import logging

import numpy as np

from beam_jobs.event_rules import equals_an_earlier
from beam_jobs.splits import NONE, Split
from tfdnc.data_config import DataConfig
from tfdnc.errors import UserError

_log = logging.getLogger(__name__)

EQUAL, TARGETS, WEIGHTED = "events equal to an earlier one", "training targets", "training targets of some weight"
_KINDS, _WAYS = ("validation", "test"), ("seen", "equal", "in_a_row")
_TWICE = 0.01  # share of equal events from which on a part of the log may have been delivered twice
_FEW = 10  # users, of fewer of which a share says nothing
_MANY = 0.5  # share of the targets that lists leave out, from which on recalls say little


def count_worth(
    edges: np.ndarray, items: np.ndarray, times: np.ndarray | None, weights: np.ndarray | None, split: Split
) -> dict[str, int]:
    """Counts what one bucket of S sequences is worth.

    Args:
        edges: `[S + 1]`; the events of sequence s are `edges[s]..edges[s + 1] - 1`.
        items: `[E]`.
        times: `[E]`, never decreasing inside a sequence; None: the log has none.
        weights: `[E]`; None: the log has none.
        split: of the sequences.
    """
    lengths = np.diff(edges)
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(items)) - edges[:-1][sequence]
    equal = np.zeros(len(items), bool) if times is None else equals_an_earlier(sequence, items, times)
    counts = {EQUAL: int(equal.sum())}
    if weights is not None:
        learned = (place > 0) & (place < split.train_events[sequence])
        counts |= {TARGETS: int(learned.sum()), WEIGHTED: int((weights[learned] > 0).sum())}
    for kind in _KINDS:
        position = getattr(split, kind)
        there = np.flatnonzero(position != NONE)
        target = edges[:-1][there] + position[there]
        wanted = np.full(len(lengths), -1)
        wanted[there] = items[target]
        before = (items == wanted[sequence]) & (place < position[sequence])
        seen = np.bincount(sequence[before], minlength=len(lengths))[there] > 0
        ways = (seen, equal[target], items[target - 1] == items[target])
        counts |= {_name(kind, way): int(found.sum()) for way, found in zip(_WAYS, ways, strict=True)}
    return counts


def _name(kind: str, way: str) -> str:
    return f"{kind} targets {way}"


def worth_figures(result: dict) -> dict:
    """Returns the figures from the sum of the counts.

    Returns:
        `equal_events`: kept ones with the user, item and time of an earlier one. `seen_targets`: by kind, those whose
        item the user's history holds already (`seen`), of these those that are an equal event, and those that follow
        on an event of the same item. `weights`: training targets, and how many have a weight above 0; None without.
    """
    return {
        "equal_events": result[EQUAL],
        "seen_targets": {kind: {way: result[_name(kind, way)] for way in _WAYS} for kind in _KINDS},
        "weights": {"targets": result[TARGETS], "weighted": result[WEIGHTED]} if TARGETS in result else None,
    }


def refuse_no_weight(figures: dict, config: DataConfig) -> None:
    """Raises a `UserError` when no training target counts in the loss: nothing would be learned."""
    weights = figures["weights"]
    if weights and weights["targets"] and not weights["weighted"]:
        raise UserError(
            f"Expected weights above 0 in column {config.columns.weight!r}, found 0 for all {weights['targets']} "
            "training targets: nothing would be learned. Name another column in data.columns.weight, or none."
        )


def warn_of_repetitions(figures: dict, config: DataConfig) -> None:
    """Logs a warning when a part of the log seems to have come twice, or most targets are left out of every list."""
    events, equal = figures["events"], figures["equal_events"]
    first, last = figures["times"]
    if equal and equal >= _TWICE * events and first < last:  # else times say nothing
        _log.warning(
            "%d of %d events have the user, item and time of an earlier one: was a part of the log delivered twice? "
            "data.duplicates: drop leaves one of each.",
            *(equal, events),
        )
    seen, users = figures["seen_targets"]["test"], figures["split"]["test"]["users"]
    if users >= _FEW and seen["seen"] >= _MANY * users:
        _log.warning(
            "%d of %d test targets are items that the user's history holds already. Lists leave these out, so that no "
            "recall can exceed %.2f. %s",
            *(seen["seen"], users, 1 - seen["seen"] / users, _advice_on_seen(seen, config)),
        )


def _advice_on_seen(seen: dict[str, int], config: DataConfig) -> str:
    """Returns which key helps against the most frequent reason."""
    if seen["equal"] >= _MANY * seen["seen"] and config.duplicates == "keep":
        return "Most of them are events that came twice: set data.duplicates: drop."
    if seen["in_a_row"] >= _MANY * seen["seen"] and config.repeats == "keep":
        return "Most of them repeat the event before: set data.repeats: collapse."
    return "This log repeats itself: its users come back to items, which these lists are not made for."
