"""Users in buckets: a block of events is split by bucket, and a bucket is filtered, sorted and written."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs.files import whole_file
from beam_jobs.ids import buckets_of, id_order
from beam_jobs.log_rows import EVENT_SCHEMA
from beam_jobs.packing import pack, unpack
from tfdnc import schema

HELD_OUT_SCHEMA = pa.schema([("user", pa.string()), ("validation", pa.int32()), ("test", pa.int32())])
"""The last two candidates of every user."""


def split_by_bucket(events: pa.RecordBatch, num_buckets: int) -> Iterator[tuple[int, bytes]]:
    """Yields (bucket, packed events) of one block; file order is kept inside a bucket."""
    users, items = events["user"], events["item"]
    bucket_of_user = buckets_of(users.dictionary, num_buckets)  # [U]
    bucket_of_row = bucket_of_user[users.indices.to_numpy()]  # [R]
    # 16 bits where they suffice: numpy then sorts by radix.
    rows_by_bucket = np.argsort(bucket_of_row.astype(np.uint16 if num_buckets < 1 << 16 else np.int64), kind="stable")
    row_edges = np.concatenate([[0], np.cumsum(np.bincount(bucket_of_row, minlength=num_buckets))])
    # The users of a bucket get consecutive codes, so a piece carries only their ids.
    users_by_bucket = np.argsort(bucket_of_user, kind="stable")
    user_edges = np.searchsorted(bucket_of_user[users_by_bucket], np.arange(num_buckets + 1))
    code_of_user = np.empty(len(bucket_of_user), np.int32)
    code_of_user[users_by_bucket] = np.arange(len(bucket_of_user), dtype=np.int32)
    sorted_users = users.dictionary.take(pa.array(users_by_bucket))
    user_codes = code_of_user[users.indices.to_numpy()[rows_by_bucket]]
    item_codes = items.indices.to_numpy()[rows_by_bucket]
    times = events["time"].to_numpy()[rows_by_bucket]
    for bucket in np.flatnonzero(np.diff(row_edges)):
        rows = slice(row_edges[bucket], row_edges[bucket + 1])
        first, last = user_edges[bucket], user_edges[bucket + 1]
        item_piece = pa.array(item_codes[rows]).dictionary_encode()
        columns = [
            pa.DictionaryArray.from_arrays(pa.array(user_codes[rows] - np.int32(first)), sorted_users[first:last]),
            pa.DictionaryArray.from_arrays(item_piece.indices, items.dictionary.take(item_piece.dictionary)),
            pa.array(times[rows]),
        ]
        yield int(bucket), pack(pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA))


def build_sequences(
    events: pa.Table, frequent: pa.Array, min_user_events: int
) -> tuple[pa.RecordBatch, dict[str, int]]:
    """Filters and sorts the events of one bucket.

    Args:
        events: `EVENT_SCHEMA`, in file order.
        frequent: ids of the items to keep.
        min_user_events: events that a user must have left.

    Returns:
        `SEQUENCE_SCHEMA` whose items are 1-based positions in `frequent`, and the figures.
    """
    events = events.unify_dictionaries().combine_chunks()
    users, items = (_single_chunk(events[name]) for name in ("user", "item"))
    candidate = pc.fill_null(pc.index_in(items.dictionary, value_set=frequent), -1).to_numpy() + 1
    item = candidate.astype(np.int32)[items.indices.to_numpy()]
    frequent_rows = np.flatnonzero(item)
    user = users.indices.to_numpy()[frequent_rows]
    events_of_user = np.bincount(user, minlength=len(users.dictionary))
    kept_users = np.flatnonzero(events_of_user >= min_user_events)
    ids = users.dictionary.take(pa.array(kept_users))
    order = id_order(ids)
    kept_users, ids = kept_users[order], ids.take(pa.array(order))
    # Rank of a user in the file, dropped users last; 16 bits where they suffice, for a radix sort.
    rank = np.full(len(users.dictionary), len(kept_users), np.uint16 if len(kept_users) < 1 << 16 else np.int64)
    rank[kept_users] = np.arange(len(kept_users))
    times = events["time"].to_numpy()[frequent_rows]
    lengths = events_of_user[kept_users]
    # lexsort is stable: rows of one user and one time stay in file order.
    by_user_and_time = np.lexsort((times, rank[user]))[: lengths.sum()]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    columns = [
        ids,
        pa.ListArray.from_arrays(offsets, pa.array(item[frequent_rows][by_user_and_time])),
        pa.ListArray.from_arrays(offsets, pa.array(times[by_user_and_time])),
    ]
    figures = {
        "filtered: min_item_events": events.num_rows - len(frequent_rows),
        "filtered: min_user_events": len(frequent_rows) - len(by_user_and_time),
        "users": len(kept_users),
        "events": len(by_user_and_time),
    }
    return pa.RecordBatch.from_arrays(columns, schema=schema.SEQUENCE_SCHEMA), figures


def _single_chunk(column: pa.ChunkedArray) -> pa.DictionaryArray:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def write_bucket(element: tuple[int, bytes], vocabulary: bytes, folder: str, num_shards: int) -> dict[str, int]:
    """Writes the Parquet file of one (bucket, packed sequences), candidates renumbered to `sequence_index`.

    Returns:
        Counts of what was written.
    """
    bucket, packed = element
    sequences, candidates = unpack(packed), unpack(vocabulary)["candidate"].to_numpy()
    items = sequences["items"]
    index = (np.searchsorted(candidates, items.values.to_numpy()) + 1).astype(np.int32)
    columns = [sequences["user_id"], pa.ListArray.from_arrays(items.offsets, pa.array(index)), sequences["times"]]
    table = pa.Table.from_arrays(columns, schema=schema.SEQUENCE_SCHEMA)
    with whole_file(Path(folder) / schema.shard_name(bucket, num_shards, "parquet")) as path:
        pq.write_table(table, path, compression="zstd", write_page_checksum=True)
    return {"written: files": 1, "written: users": table.num_rows, "written: events": len(index)}


def held_out_items(sequences: pa.RecordBatch) -> bytes:
    """Returns packed `HELD_OUT_SCHEMA` of one bucket's sequences."""
    items, ends = sequences["items"].values.to_numpy(), sequences["items"].offsets.to_numpy()[1:]
    columns = [sequences["user_id"], pa.array(items[ends - 2]), pa.array(items[ends - 1])]
    return pack(pa.RecordBatch.from_arrays(columns, schema=HELD_OUT_SCHEMA))


def split_sha256(held_out: pa.Table, vocabulary: pa.RecordBatch) -> str:
    """Returns the SHA-256 of the lines "user validation-item test-item", the check that published splits are given by.

    Args:
        held_out: user id and the candidates of the two held-out items, one row per user.
        vocabulary: packed by `kept_items`.
    """
    candidates, item_ids = vocabulary["candidate"].to_numpy(), vocabulary["item_id"]
    users = pa.concat_arrays(held_out["user"].chunks) if held_out.num_rows else pa.array([], pa.string())
    order = id_order(users)
    held_out = held_out.take(pa.array(order))
    validation, test = (
        item_ids.take(pa.array(np.searchsorted(candidates, held_out[name].to_numpy())))
        for name in ("validation", "test")
    )
    lines = pc.binary_join_element_wise(users.take(pa.array(order)), validation, test, " ").to_pylist()
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
