"""Splits of sequences: training events and targets, and a hash to compare splits by.

A target always has an event before it, because retrieval needs a history.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.ids import id_order
from beam_jobs.packing import pack
from tfdnc.contracts.data_config import DataConfig

NONE = -1
"""Position of the target of a user without a target."""

HELD_OUT_SCHEMA = pa.schema([("user", pa.string()), ("validation", pa.int32()), ("test", pa.int32())])
"""Candidates that are the targets of each user, null for a user without one."""


class Split(NamedTuple):
    """Last three columns of `schema.SEQUENCE_SCHEMA`, for S sequences."""

    train_events: np.ndarray  # [S] int32
    validation: np.ndarray  # [S] int32
    test: np.ndarray  # [S] int32


def split_sequences(
    edges: np.ndarray, times: np.ndarray, config: DataConfig, weights: np.ndarray | None = None
) -> Split:
    """Splits sequences by `data.split`.

    Args:
        edges: `[S + 1]`; the events of sequence s are `edges[s]..edges[s + 1] - 1`.
        times: `[E]`, never decreasing inside a sequence.
        config: holds the kind of split and its boundaries.
        weights: `[E]` by `data.targets`, see `event_inputs.target_weights`; None: every event may be a target.
    """
    may_be_target = np.ones(len(times), bool) if weights is None else weights > 0
    may_be_target[edges[:-1][edges[:-1] < len(times)]] = False  # without a history
    targets = np.flatnonzero(may_be_target)
    return Split(*(column.astype(np.int32) for column in _SPLITS[config.split](edges, times, config, targets)))


def _leave_last_two(edges: np.ndarray, times: np.ndarray, config: DataConfig, targets: np.ndarray) -> Split:
    """Makes the last possible target the test target and the one before it that of validation, where there are two."""
    del times, config
    starts = edges[:-1]
    ends = np.searchsorted(targets, edges[1:])
    two = ends - np.searchsorted(targets, starts) >= 2
    validation, test = (np.full(len(starts), NONE) for _ in range(2))
    validation[two], test[two] = targets[ends[two] - 2] - starts[two], targets[ends[two] - 1] - starts[two]
    return Split(np.where(two, validation, np.diff(edges)), validation, test)


def _by_time(edges: np.ndarray, times: np.ndarray, config: DataConfig, targets: np.ndarray) -> Split:
    """Makes the first possible target of the validation window and that of the test window the targets."""
    validation_from, test_from = config.boundaries
    before_validation, before_test = _count(times < validation_from, edges), _count(times < test_from, edges)
    validation = _first_target(edges, targets, before_validation, before_test)
    test = _first_target(edges, targets, before_test, np.diff(edges))
    return Split(before_validation, validation, test)


def _first_target(edges: np.ndarray, targets: np.ndarray, first: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Returns the first target of every sequence at the positions `first` to `end` - 1, `NONE` if there is none.

    A sequence without an event before `first` has none.
    """
    starts = edges[:-1]
    following = np.append(targets, edges[-1])[np.searchsorted(targets, starts + first)] - starts
    return np.where((first > 0) & (following < end), following, NONE)


def _hold_out_nothing(edges: np.ndarray, times: np.ndarray, config: DataConfig, targets: np.ndarray) -> Split:
    """Makes every event a training event."""
    del times, config, targets
    lengths = np.diff(edges)
    nothing = np.full(len(lengths), NONE)
    return Split(lengths, nothing, nothing)


_SPLITS: dict[str, Callable[[np.ndarray, np.ndarray, DataConfig, np.ndarray], Split]] = {
    "leave_last_two": _leave_last_two,
    "time": _by_time,
    "none": _hold_out_nothing,
}


def _count(chosen: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns the number `[S]` of chosen events of every sequence, from a mask `[E]`."""
    return np.diff(np.concatenate([[0], np.cumsum(chosen)])[edges])


def held_out_items(sequences: pa.RecordBatch) -> bytes:
    """Returns the packed `HELD_OUT_SCHEMA` of the sequences of one bucket."""
    items, starts = sequences["items"].values.to_numpy(), sequences["items"].offsets.to_numpy()[:-1]
    columns = [sequences["user_id"]]
    for name in ("validation", "test"):
        positions = sequences[name].to_numpy()
        there = positions != NONE
        targets = np.zeros(len(positions), np.int32)
        targets[there] = items[(starts + positions)[there]]
        columns.append(pa.array(targets, mask=~there))
    return pack(pa.RecordBatch.from_arrays(columns, schema=HELD_OUT_SCHEMA))


def count_targets(held_out: pa.Table, vocabulary: pa.RecordBatch) -> dict[str, int]:
    """Returns the number of targets of every kind, and of the cold ones: items without training events."""
    cold = vocabulary["candidate"].filter(pc.equal(vocabulary["train_events"], 0))
    counts = {}
    for name in ("validation", "test"):
        targets = held_out[name].drop_null()
        counts[f"{name} targets"] = len(targets)
        counts[f"{name} targets that are cold"] = pc.sum(pc.is_in(targets, value_set=cold), min_count=0).as_py()
    return counts


def count_without_history(sequences: pa.RecordBatch, config: DataConfig) -> dict[str, int]:
    """Counts the users of one bucket whose first event is in a window of `split: time`; they have no target there.

    Returns:
        Counts by the name `without_history` of the window; empty for other splits, which have no windows.
    """
    if config.split != "time":
        return {}
    edges, times = sequences["times"].offsets.to_numpy(), sequences["times"].values.to_numpy()
    first = times[edges[:-1][np.diff(edges) > 0]]
    validation_from, test_from = config.boundaries
    in_test, held_out = int(np.sum(first >= test_from)), int(np.sum(first >= validation_from))
    return {without_history("validation"): held_out - in_test, without_history("test"): in_test}


def without_history(kind: str) -> str:
    """Returns the name of the count of users without history in the window of a kind of target."""
    return f"{kind} users without history"


def split_sha256(held_out: pa.Table, vocabulary: pa.RecordBatch) -> str:
    """Returns the SHA-256 of the lines "user validation-item test-item", by which published splits are compared.

    A "-" stands for a missing target. Lines are in the order of the user ids, see `ids.id_order`.

    Args:
        held_out: `HELD_OUT_SCHEMA`, one row per user.
        vocabulary: the record batch of `kept_items`.
    """
    candidates, item_ids = vocabulary["candidate"], vocabulary["item_id"]
    users = pa.concat_arrays(held_out["user"].chunks) if held_out.num_rows else pa.array([], pa.string())
    order = id_order(users)
    held_out = held_out.take(pa.array(order))
    validation, test = (
        item_ids.take(pc.index_in(held_out[name].combine_chunks(), value_set=candidates, skip_nulls=True))
        for name in ("validation", "test")
    )
    columns = (users.take(pa.array(order)), validation, test, " ")
    lines = pc.binary_join_element_wise(*columns, null_handling="replace", null_replacement="-").to_pylist()
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
