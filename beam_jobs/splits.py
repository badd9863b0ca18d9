"""Which part of a sequence models learn from, which of its events are targets, and the hash by which splits compare.

A target has an event before it: without a history there is nothing to retrieve by.
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
"""Position of the target of a user who has none."""

HELD_OUT_SCHEMA = pa.schema([("user", pa.string()), ("validation", pa.int32()), ("test", pa.int32())])
"""The candidates that are targets, null where a user has none."""


class Split(NamedTuple):
    """The last three columns of `schema.SEQUENCE_SCHEMA`, of S sequences."""

    train_events: np.ndarray  # [S] int32
    validation: np.ndarray  # [S] int32
    test: np.ndarray  # [S] int32


def split_sequences(edges: np.ndarray, times: np.ndarray, config: DataConfig) -> Split:
    """Splits sequences in the way of the config.

    Args:
        edges: `[S + 1]`; the events of sequence s are `edges[s]..edges[s + 1] - 1`.
        times: `[E]`, never decreasing inside a sequence.
        config: which split, and its boundaries.
    """
    return Split(*(column.astype(np.int32) for column in _SPLITS[config.split](edges, times, config)))


def _leave_last_two(edges: np.ndarray, times: np.ndarray, config: DataConfig) -> Split:
    """The last event is the test target, the one before it the validation target; sequences have at least three."""
    del times, config
    lengths = np.diff(edges)
    return Split(lengths - 2, lengths - 2, lengths - 1)


def _by_time(edges: np.ndarray, times: np.ndarray, config: DataConfig) -> Split:
    """The targets are the first event of the validation window and the first one after it."""
    validation_from, test_from = config.boundaries
    before_validation, before_test = _count(times < validation_from, edges), _count(times < test_from, edges)
    validation = np.where((before_validation > 0) & (before_validation < before_test), before_validation, NONE)
    test = np.where((before_test > 0) & (before_test < np.diff(edges)), before_test, NONE)
    return Split(before_validation, validation, test)


def _hold_out_nothing(edges: np.ndarray, times: np.ndarray, config: DataConfig) -> Split:
    """Every event is for training."""
    del times, config
    lengths = np.diff(edges)
    nothing = np.full(len(lengths), NONE)
    return Split(lengths, nothing, nothing)


_SPLITS: dict[str, Callable[[np.ndarray, np.ndarray, DataConfig], Split]] = {
    "leave_last_two": _leave_last_two,
    "time": _by_time,
    "none": _hold_out_nothing,
}


def _count(chosen: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns how many of the events `[E]` of every sequence are chosen: `[S]`."""
    return np.diff(np.concatenate([[0], np.cumsum(chosen)])[edges])


def held_out_items(sequences: pa.RecordBatch) -> bytes:
    """Returns packed `HELD_OUT_SCHEMA` of one bucket's sequences."""
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
    """Returns the users with a target of every kind, and how many of these are cold: items without training events."""
    cold = vocabulary["candidate"].filter(pc.equal(vocabulary["train_events"], 0))
    counts = {}
    for name in ("validation", "test"):
        targets = held_out[name].drop_null()
        counts[f"{name} targets"] = len(targets)
        counts[f"{name} targets that are cold"] = pc.sum(pc.is_in(targets, value_set=cold), min_count=0).as_py()
    return counts


def split_sha256(held_out: pa.Table, vocabulary: pa.RecordBatch) -> str:
    """Returns the SHA-256 of the lines "user validation-item test-item", the check that published splits are given by.

    A user without a target has a "-" in its place.

    Args:
        held_out: `HELD_OUT_SCHEMA`, one row per user.
        vocabulary: packed by `kept_items`.
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
