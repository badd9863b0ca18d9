"""Pure functions between the log and the sequence files."""

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs.ids import buckets_of, id_order, random_key
from beam_jobs.logs.log_rows import EVENT_SCHEMA
from beam_jobs.packing import pack, unpack, unpack_all
from beam_jobs.user_buckets import build_sequences, split_by_bucket
from tfdnc.contracts.data_config import DataConfig

CONFIG = DataConfig(min_item_events=1, min_user_events=3)


def events_of(rows):
    user, item, time = zip(*rows, strict=True) if rows else ((), (), ())
    columns = [
        pa.array(user, pa.string()).dictionary_encode(),
        pa.array(item, pa.string()).dictionary_encode(),
        pa.array(time, pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)


def rows_of(batch):
    columns = (batch["user"].cast("string"), batch["item"].cast("string"), batch["time"])
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["10", "9", "-1", "07", "7"], ["-1", "07", "7", "9", "10"]),
        (["10", "9", "b", "a"], ["10", "9", "a", "b"]),
        (["é", "z", "Z"], ["Z", "z", "é"]),
        (["99999999999999999999", "1"], ["1", "99999999999999999999"]),
        ([], []),
    ],
)
def test_ids_sort_numerically_only_if_all_are_integers(ids, expected):
    ids = pa.array(ids, pa.string())
    assert ids.take(pa.array(id_order(ids))).to_pylist() == expected


def test_buckets_and_random_keys_do_not_change():
    # CRC-32 modulo 16, and the first 8 bytes of BLAKE2b: with another hash a log would give other files.
    assert buckets_of(pa.array(["1", "user", "é"]), 16).tolist() == [7, 9, 14]
    assert random_key("user") == 0x638DD47B9A5CDFAF


def test_packing_keeps_dictionaries_and_order():
    first, second = events_of([("a", "x", 1)]), events_of([("b", "y", 2), ("a", "x", 3)])
    assert rows_of(unpack(pack(second))) == rows_of(second)
    table = unpack_all([pack(first), pack(second)], EVENT_SCHEMA)
    assert rows_of(table) == rows_of(first) + rows_of(second)
    assert unpack_all([], EVENT_SCHEMA).num_rows == 0


def test_split_by_bucket_loses_nothing_and_keeps_file_order():
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", t) for t, (u, i) in enumerate(rng.integers(0, 40, (500, 2)))]
    pieces = {bucket: unpack(packed) for bucket, packed in split_by_bucket(events_of(rows), 8)}
    for bucket, piece in pieces.items():
        assert rows_of(piece) == [row for row in rows if buckets_of(pa.array([row[0]]), 8)[0] == bucket]
        # A piece holds only the ids of its events, each once.
        assert sorted(piece["item"].dictionary.to_pylist()) == sorted({item for _, item, _ in rows_of(piece)})
    assert sum(piece.num_rows for piece in pieces.values()) == len(rows)


def test_sequences_are_ordered_by_time_and_ties_keep_file_order():
    rows = [("a", "z", 5), ("a", "y", 5), ("b", "x", 9), ("a", "x", 1), ("b", "y", 3), ("a", "w", 5), ("b", "z", 3)]
    frequent = pa.array(["w", "x", "y", "z"])
    sequences, figures = build_sequences(pa.Table.from_batches([events_of(rows)]), [frequent], CONFIG)
    assert sequences.to_pylist() == [
        {"user_id": "a", "items": [2, 4, 3, 1], "times": [1, 5, 5, 5], "train_events": 2, "validation": 2, "test": 3},
        {"user_id": "b", "items": [3, 4, 2], "times": [3, 3, 9], "train_events": 1, "validation": 1, "test": 2},
    ]
    nothing = {"filtered: min_item_events": 0, "filtered: min_user_events": 0, "filter round 1": 0}
    assert figures == {"users": 2, "events": 7, **nothing}


def test_items_are_filtered_before_users():
    # c has three events, but one of them is of an item that goes first.
    rows = [("c", "rare", 1), ("c", "x", 2), ("c", "y", 3), ("d", "x", 1), ("d", "y", 2), ("d", "x", 3)]
    sequences, figures = build_sequences(pa.Table.from_batches([events_of(rows)]), [pa.array(["x", "y"])], CONFIG)
    assert sequences.select(["user_id", "items", "times"]).to_pylist() == [
        {"user_id": "d", "items": [1, 2, 1], "times": [1, 2, 3]}
    ]
    left_out = {"filtered: min_item_events": 1, "filtered: min_user_events": 2, "filter round 1": 3}
    assert figures == {"users": 1, "events": 3, **left_out}


@pytest.mark.parametrize("rows", [[], [("a", "x", 1)]])
def test_a_bucket_may_end_empty(rows):
    sequences, figures = build_sequences(unpack_all([pack(events_of(rows))], EVENT_SCHEMA), [pa.array(["x"])], CONFIG)
    assert sequences.num_rows == 0
    assert figures["filtered: min_user_events"] == len(rows)
