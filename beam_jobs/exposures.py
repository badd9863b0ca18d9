"""Exposures: rows of a log that were shown and passed over. They are set apart from events, and joined to them at last.

No rule of `event_rules` counts an exposure. Once the rules have chosen the events, an exposure belongs to the user's
last event before it, in the order of time and, at equal times, of the log. Left out are those

1. from `data.until` on,
2. without an event before them, or after a pause that begins a new session (`data.session_gap`),
3. with an event of their item in the run of events that follows, before anything else is shown: not passed over,
4. of items that the vocabulary does not have,
5. beyond the `data.exposures_per_event` latest ones of an event.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.event_rules import UNTIL, Events
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.features import EXPOSURES, exposure_kinds

ROWS, KEPT = "exposures", "exposures kept"
_LEFT_OUT = "exposures left out: "
_OF_KIND = "exposures of kind "
BEFORE, ACTED_ON, UNKNOWN, BEYOND = "no_event_before", "acted_on", "unknown_item", "exposures_per_event"
"""Names of counts; the last four are reasons."""


class Shown(NamedTuple):
    """X exposures of one bucket; codes are those of its `Events` before any rule."""

    user: np.ndarray  # [X]
    item: np.ndarray  # [X]
    time: np.ndarray  # [X] int64
    row: np.ndarray  # [X] positions in the log of the bucket
    user_of_row: np.ndarray  # [R] of every row of the log, events included
    kinds: dict[str, int]  # number of exposures by value of `data.exposures`


def are_exposures(kinds: pa.Array, exposures: Mapping[str, tuple[str, ...]]) -> np.ndarray:
    """Returns the mask of the kinds, text `[V]`, that `data.exposures` names."""
    wanted = pa.array([value for values in exposures.values() for value in values], pa.string())
    return pc.is_in(kinds, value_set=wanted).to_numpy(zero_copy_only=False)


def exposed_rows(block: pa.RecordBatch, exposures: Mapping[str, tuple[str, ...]]) -> np.ndarray:
    """Returns the mask `[R]` of the rows of an `event_schema` that are exposures."""
    for name in exposures:
        kinds = block[f"event_{name}"]
        return are_exposures(kinds.dictionary, exposures)[kinds.indices.to_numpy()]
    return np.zeros(block.num_rows, bool)


def set_apart(rows: Events, config: DataConfig) -> tuple[Events, Shown | None]:
    """Returns the events among the rows of one bucket, and the exposures; None for a log without exposures."""
    kinds = exposure_kinds(config)
    if kinds is None:
        return rows, None
    [column] = (one for one in rows.features if one.event_column == kinds.event_column)
    exposed = are_exposures(rows.texts[column], config.exposures)[rows.features[column]]
    where = np.flatnonzero(exposed)
    found = Counter(rows.texts[column].take(pa.array(rows.features[column][where])).to_pylist())
    shown = Shown(rows.user[where], rows.item[where], rows.time[where], where, rows.user, dict(found))
    return rows.take(~exposed)._replace(row=np.flatnonzero(~exposed)), shown


class _Merged(NamedTuple):
    """Events and exposures of one bucket, by user, time and row of the log."""

    user: np.ndarray  # [E + X]
    item: np.ndarray  # [E + X]
    time: np.ndarray  # [E + X]
    event: np.ndarray  # [E + X] number of the event, E or more for an exposure

    @classmethod
    def of(cls, events: Events, shown: Shown) -> "_Merged":
        assert events.row is not None  # `set_apart` has set it
        user = np.concatenate([shown.user_of_row[events.row], shown.user])
        item, time = np.concatenate([events.item, shown.item]), np.concatenate([events.time, shown.time])
        order = np.lexsort((np.concatenate([events.row, shown.row]), time, user))
        return cls(user[order], item[order], time[order], order)


def join_exposures(
    events: Events, shown: Shown, candidate_of_item: np.ndarray, config: DataConfig
) -> tuple[pa.ListArray, dict[str, int]]:
    """Joins exposures to the events that the rules have left.

    Args:
        events: E events in the order of the sequences, with their `row`.
        shown: exposures of the same bucket.
        candidate_of_item: `[I]` int32 candidate of each item, 0 for one that is left out.
        config: holds the rules above.

    Returns:
        The candidates that were passed over after each event, the latest ones last `[E]`; and the counts.
    """
    rows, num_events = _Merged.of(events, shown), len(events.user)
    is_event = rows.event < num_events
    last = np.maximum.accumulate(np.where(is_event, np.arange(len(is_event)), -1))  # the event before, of any user
    exposed = np.flatnonzero(~is_event)
    counts, kept = {ROWS: len(exposed)}, np.ones(len(exposed), bool)
    counts |= {_OF_KIND + kind: number for kind, number in shown.kinds.items()}
    for reason, good in _masks(rows, is_event, last, candidate_of_item, config).items():
        counts[_LEFT_OUT + reason] = int((kept & ~good[exposed]).sum())
        kept &= good[exposed]
    exposed = exposed[kept]
    before = last[exposed]  # exposures of one event are neighbours
    from_end = np.searchsorted(before, before, side="right") - np.arange(len(before))
    latest = from_end <= config.exposures_per_event
    counts[_LEFT_OUT + BEYOND] = int((~latest).sum())
    owner = rows.event[before[latest]]
    by_event = np.argsort(owner, kind="stable")
    edges = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=num_events))])
    candidates = candidate_of_item[rows.item[exposed[latest][by_event]]]
    return pa.ListArray.from_arrays(pa.array(edges, pa.int32()), pa.array(candidates, pa.int32())), counts


def _masks(
    rows: _Merged, is_event: np.ndarray, last: np.ndarray, candidate_of_item: np.ndarray, config: DataConfig
) -> dict[str, np.ndarray]:
    """Returns masks `[E + X]` of the exposures that stay, by the reason for which the others do not, in order."""
    in_reach = (last >= 0) & (rows.user[last] == rows.user)
    if config.session_gap is not None:
        pause = rows.time.view(np.uint64) - rows.time[last].view(np.uint64)  # as between events
        in_reach &= pause <= np.uint64(int(config.session_gap * config.ticks_per_second))
    of_time = {} if config.end is None else {UNTIL: rows.time < config.end}
    passed_over = ~_acted_on(rows.user, rows.item, is_event)
    return {**of_time, BEFORE: in_reach, ACTED_ON: passed_over, UNKNOWN: candidate_of_item[rows.item] > 0}


def _acted_on(user: np.ndarray, item: np.ndarray, is_event: np.ndarray) -> np.ndarray:
    """Returns the mask of exposures whose item has an event before anything else is shown; rows are in order.

    The list of a page is shown at once, and may lead to several events: an exposure before them is none that the user
    passed over. Later events do not count, because a request would not know of them.
    """
    if not len(user):
        return np.zeros(0, bool)
    begins = np.ones(len(user), bool)  # a run is exposures of a user, and the events that follow them
    begins[1:] = (user[1:] != user[:-1]) | (~is_event[1:] & is_event[:-1])
    key = np.cumsum(begins) * (int(item.max()) + 1) + item
    return ~is_event & np.isin(key, key[is_event])


def renumber_exposures(sequences: pa.Table, index_of: np.ndarray) -> tuple[pa.Table, dict[str, int]]:
    """Returns sequences with `sequence_index` instead of candidates in their exposures, and the counts.

    Args:
        sequences: of a bucket, with the column of exposures or without.
        index_of: by candidate, 0 for one without a kept event, whose exposures are left out.
    """
    if EXPOSURES.column not in sequences.schema.names:
        return sequences, {}
    column = sequences[EXPOSURES.column].combine_chunks()
    of_events = column.values
    index = np.append(index_of, 0)[np.minimum(of_events.values.to_numpy(), len(index_of))].astype(np.int32)
    kept = index > 0
    edges = np.concatenate([[0], np.cumsum(kept)])[of_events.offsets.to_numpy()]
    lists = pa.ListArray.from_arrays(pa.array(edges, pa.int32()), pa.array(index[kept], pa.int32()))
    place = sequences.schema.get_field_index(EXPOSURES.column)
    renumbered = pa.ListArray.from_arrays(column.offsets, lists)
    counts = {KEPT: int(kept.sum()), _LEFT_OUT + UNKNOWN: int((~kept).sum())}
    return sequences.set_column(place, sequences.schema.field(place), renumbered), counts


def exposure_figures(result: dict[str, Any], config: DataConfig) -> dict[str, Any]:
    """Returns the figures from the sum of the counts; nothing for a log without exposures.

    Returns:
        `exposures`: the `rows` of these kinds, also by kind in `kinds`, those that are `kept` beside an event, and the
        others by reason in `left_out`, see the reasons of this module.
    """
    if not config.exposures:
        return {}
    reasons = [*([UNTIL] if config.until is not None else []), BEFORE, ACTED_ON, UNKNOWN, BEYOND]
    left_out = {reason: result.get(_LEFT_OUT + reason, 0) for reason in reasons}
    kinds = {kind: result.get(_OF_KIND + kind, 0) for values in config.exposures.values() for kind in values}
    return {
        "exposures": {"rows": result.get(ROWS, 0), "kinds": kinds, "kept": result.get(KEPT, 0), "left_out": left_out}
    }
