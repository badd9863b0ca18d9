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


def split_sequences(edges: np.ndarray, times: np.ndarray, config: DataConfig) -> Split:
    """Splits sequences by `data.split`.

    Args:
        edges: `[S + 1]`; the events of sequence s are `edges[s]..edges[s + 1] - 1`.
        times: `[E]`, never decreasing inside a sequence.
        config: holds the kind of split and its boundaries.
    """
    return Split(*(column.astype(np.int32) for column in _SPLITS[config.split](edges, times, config)))


def _leave_last_two(edges: np.ndarray, times: np.ndarray, config: DataConfig) -> Split:
    """Makes the last event the test target and the one before it the validation target, of at least three events."""
    del times, config
    lengths = np.diff(edges)
    return Split(lengths - 2, lengths - 2, lengths - 1)


def _by_time(edges: np.ndarray, times: np.ndarray, config: DataConfig) -> Split:
    """Makes the first event of the validation window and the first one of the test window the targets."""
    validation_from, test_from = config.boundaries
    before_validation, before_test = _count(times < validation_from, edges), _count(times < test_from, edges)
    validation = np.where((before_validation > 0) & (before_validation < before_test), before_validation, NONE)
    test = np.where((before_test > 0) & (before_test < np.diff(edges)), before_test, NONE)
    return Split(before_validation, validation, test)


def _hold_out_nothing(edges: np.ndarray, times: np.ndarray, config: DataConfig) -> Split:
    """Makes every event a training event."""
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
