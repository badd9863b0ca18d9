"""Repetitions in sequences, counted: events that equal an earlier one, and targets that are in the user's history."""

import logging
from typing import Any

import numpy as np
import pyarrow as pa

from beam_jobs.event_rules import equals_an_earlier
from beam_jobs.splits import NONE
from tfdnc.contracts.data_config import DataConfig

_log = logging.getLogger(__name__)

EQUAL = "events equal to an earlier one"
_KINDS, _WAYS = ("validation", "test"), ("seen", "equal", "in_a_row")
_TWICE = 0.01  # smallest share of equal events for a warning that a part of the log may be there twice
_FEW = 10  # smallest number of users for a warning about a share of them
_MANY = 0.5  # smallest share of targets that lists leave out for a warning about recalls


def count_repetitions(sequences: pa.RecordBatch, has_times: bool) -> dict[str, int]:
    """Counts the repetitions in one bucket of S sequences.

    Args:
        sequences: `schema.SEQUENCE_SCHEMA`, perhaps with more columns.
        has_times: whether the log has times; without times no event equals another.
    """
    items, times = (sequences[name].values.to_numpy() for name in ("items", "times"))
    edges = sequences["items"].offsets.to_numpy()
    lengths = np.diff(edges)
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    index = np.arange(len(items)) - edges[:-1][sequence]  # of an event in its sequence
    equal = equals_an_earlier(sequence, items, times) if has_times else np.zeros(len(items), bool)
    counts = {EQUAL: int(equal.sum())}
    for kind in _KINDS:
        position = sequences[kind].to_numpy()
        there = np.flatnonzero(position != NONE)
        target = edges[:-1][there] + position[there]
        wanted = np.full(len(lengths), -1)
        wanted[there] = items[target]
        before = (items == wanted[sequence]) & (index < position[sequence])
        seen = np.bincount(sequence[before], minlength=len(lengths))[there] > 0
        ways = (seen, equal[target], items[target - 1] == items[target])
        counts |= {_name(kind, way): int(found.sum()) for way, found in zip(_WAYS, ways, strict=True)}
    return counts


def _name(kind: str, way: str) -> str:
    return f"{kind} targets {way}"


def repetition_figures(result: dict[str, Any]) -> dict[str, Any]:
    """Returns the figures from the sum of the counts.

    Returns:
        - `equal_events`: kept events with the user, item and time of an earlier one.
        - `seen_targets`: by kind of target, the number of those whose item is already in the user's history (`seen`).
          Of these, the number that equal an earlier event (`equal`), and that directly follow an event of the same
          item (`in_a_row`).
    """
    return {
        "equal_events": result[EQUAL],
        "seen_targets": {kind: {way: result[_name(kind, way)] for way in _WAYS} for kind in _KINDS},
    }


def warn_of_repetitions(figures: dict[str, Any], config: DataConfig) -> None:
    """Logs a warning if a part of the log seems to be there twice, or if lists or rules leave out many targets."""
    events, equal = figures["events"], figures["equal_events"]
    first, last = figures["times"]
    if equal and equal >= _TWICE * events and first < last:  # if all times are equal, equal events are no sign of that
        _log.warning(
            "%d of %d events have the user, item and time of an earlier one: was a part of the log delivered twice? "
            "data.duplicates: drop leaves one of each.",
            *(equal, events),
        )
    collapsed = figures["rows_filtered"].get("repeats", 0)  # a rule that is off has no count
    if collapsed and config.allows_seen:
        _log.warning(
            "%d events were dropped because they repeat the event before, while data.seen: allow asks for lists with "
            "such items: nothing is trained or measured on them. Set data.repeats: keep.",
            collapsed,
        )
    seen, users = figures["seen_targets"]["test"], figures["split"]["test"]["users"]
    if not config.allows_seen and users >= _FEW and seen["seen"] >= _MANY * users:
        _log.warning(
            "%d of %d test targets are items that the user's history holds already. Lists leave these out, so that no "
            "recall can exceed %.2f. %s",
            *(seen["seen"], users, 1 - seen["seen"] / users, _advice_on_seen(seen, config)),
        )


def _advice_on_seen(seen: dict[str, int], config: DataConfig) -> str:
    """Returns advice on the most frequent reason."""
    if seen["equal"] >= _MANY * seen["seen"] and config.duplicates == "keep":
        return "Most of them are events that came twice: set data.duplicates: drop."
    if seen["in_a_row"] >= _MANY * seen["seen"] and config.repeats == "keep":
        return "Most of them repeat the event before: set data.repeats: collapse."
    return "This log repeats itself: if lists should hold such items again, set data.seen: allow."
