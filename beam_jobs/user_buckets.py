"""Buckets of users: a block of events is split by bucket, and a bucket becomes the sequences of one file."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs.event_inputs import input_columns, target_weights
from beam_jobs.event_rules import apply_rules, events_of
from beam_jobs.exposures import join_exposures, renumber_exposures, set_apart
from beam_jobs.files import join, whole_file
from beam_jobs.ids import buckets_of, id_order
from beam_jobs.packing import pack, unpack
from beam_jobs.splits import split_sequences
from beam_jobs.twin_ids import count_twins
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.features import EXPOSURES, Of, log_features, sequence_features, sequence_schema


def split_by_bucket(events: pa.RecordBatch, num_buckets: int) -> Iterator[tuple[int, bytes]]:
    """Yields (bucket, packed events) of one block; events of a bucket keep the order of the file."""
    users, items = events["user"], events["item"]
    bucket_of_user = buckets_of(users.dictionary, num_buckets)  # [U]
    bucket_of_row = bucket_of_user[users.indices.to_numpy()]  # [R]
    # 16 bits if they suffice, because numpy then uses a radix sort.
    rows_by_bucket = np.argsort(bucket_of_row.astype(np.uint16 if num_buckets < 1 << 16 else np.int64), kind="stable")
    row_edges = np.concatenate([[0], np.cumsum(np.bincount(bucket_of_row, minlength=num_buckets))])
    # The users of a bucket get consecutive codes, so that its dictionary holds only their ids.
    users_by_bucket = np.argsort(bucket_of_user, kind="stable")
    user_edges = np.searchsorted(bucket_of_user[users_by_bucket], np.arange(num_buckets + 1))
    code_of_user = np.empty(len(bucket_of_user), np.int32)
    code_of_user[users_by_bucket] = np.arange(len(bucket_of_user), dtype=np.int32)
    sorted_users = users.dictionary.take(pa.array(users_by_bucket))
    user_codes = code_of_user[users.indices.to_numpy()[rows_by_bucket]]
    item_codes = items.indices.to_numpy()[rows_by_bucket]
    inputs = [_rows_of(events[name], rows_by_bucket) for name in events.schema.names[2:]]
    for bucket in np.flatnonzero(np.diff(row_edges)):
        rows = slice(row_edges[bucket], row_edges[bucket + 1])
        first, last = user_edges[bucket], user_edges[bucket + 1]
        columns = [
            pa.DictionaryArray.from_arrays(pa.array(user_codes[rows] - np.int32(first)), sorted_users[first:last]),
            _piece(item_codes[rows], items.dictionary),
            *(pa.array(of[rows]) if texts is None else _piece(of[rows], texts) for of, texts in inputs),
        ]
        yield int(bucket), pack(pa.RecordBatch.from_arrays(columns, schema=events.schema))


def _rows_of(column: pa.Array, rows: np.ndarray) -> tuple[np.ndarray, pa.Array | None]:
    """Returns the values of these rows, of a dictionary the codes, with the texts of these."""
    if pa.types.is_dictionary(column.type):
        return column.indices.to_numpy()[rows], column.dictionary
    return column.to_numpy()[rows], None


def _piece(codes: np.ndarray, texts: pa.Array) -> pa.DictionaryArray:
    """Returns codes of `texts` as an array whose dictionary holds only the texts that are used."""
    used = pa.array(codes).dictionary_encode()
    return pa.DictionaryArray.from_arrays(used.indices, texts.take(used.dictionary))


def build_sequences(
    events: pa.Table, frequent: Sequence[pa.Array], config: DataConfig
) -> tuple[pa.RecordBatch, dict[str, int]]:
    """Filters, sorts and splits the events of one bucket.

    Args:
        events: `event_schema` of the log, in file order.
        frequent: ids of the items to keep in each filter round.
        config: holds the rules, see `event_rules`, the split, and the inputs of events.

    Returns:
        The sequences, in the `sequence_schema` of all inputs but those of users, and the figures. Items are 1-based
        positions in the last of `frequent`.
    """
    found, shown = set_apart(events_of(events, log_features(config)), config)
    twins = count_twins("users", found.user_ids, np.bincount(found.user, minlength=len(found.user_ids)))
    left, left_out = apply_rules(found, config, frequent)
    candidate = pc.fill_null(pc.index_in(left.item_ids, value_set=frequent[-1]), -1).to_numpy().astype(np.int32) + 1
    events_of_user = np.bincount(left.user, minlength=len(left.user_ids))
    kept_users = np.flatnonzero(events_of_user)
    ids = left.user_ids.take(pa.array(kept_users))
    order = id_order(ids)
    kept_users, ids = kept_users[order], ids.take(pa.array(order))
    # Position of a user in the file; 16 bits if they suffice, for a radix sort.
    rank = np.zeros(len(left.user_ids), np.uint16 if len(kept_users) < 1 << 16 else np.int64)
    rank[kept_users] = np.arange(len(kept_users))
    # lexsort is stable: rows of one user and one time stay in file order.
    by_user_and_time = np.lexsort((left.time, rank[left.user]))
    edges = np.concatenate([[0], np.cumsum(events_of_user[kept_users])])
    left = left.take(by_user_and_time)
    features = [feature for feature in sequence_features(config) if feature.of is not Of.USER]
    per_event = {"items": pa.array(candidate[left.item]), **input_columns(left, features, config)}
    of_exposures: dict[str, int] = {}
    if shown is not None:
        per_event[EXPOSURES.column], of_exposures = join_exposures(left, shown, candidate, config)
    offsets = pa.array(edges, pa.int32())
    columns = {name: pa.ListArray.from_arrays(offsets, values) for name, values in per_event.items()}
    split = split_sequences(edges, left.time, config, target_weights(left, config))
    columns |= {"user_id": ids, **split._asdict()}
    layout = sequence_schema(features)
    figures = {"users": len(kept_users), "events": len(left.time), **left_out, **twins, **of_exposures}
    return pa.RecordBatch.from_arrays([pa.array(columns[name]) for name in layout.names], schema=layout), figures


def write_bucket(element: tuple[int, bytes], vocabulary: bytes, folder: str, num_shards: int) -> dict[str, int]:
    """Writes the Parquet file of one (bucket, packed sequences), with `sequence_index` instead of candidates.

    Returns:
        Counts of written files, users and events, and of exposures.
    """
    bucket, packed = element
    sequences, candidates = unpack(packed), unpack(vocabulary)["candidate"].to_numpy()
    items = sequences["items"]
    index_of = np.zeros(candidates[-1] + 1 if len(candidates) else 0, np.int32)
    index_of[candidates] = np.arange(1, len(candidates) + 1, dtype=np.int32)
    index = index_of[items.values.to_numpy()]
    renumbered = pa.ListArray.from_arrays(items.offsets, pa.array(index))
    table = pa.Table.from_batches([sequences]).set_column(1, schema.SEQUENCE_SCHEMA.field("items"), renumbered)
    table, of_exposures = renumber_exposures(table, index_of)
    with whole_file(join(folder, schema.shard_name(bucket, num_shards, "parquet"))) as stream:
        pq.write_table(table, stream, compression="zstd", write_page_checksum=True)
    return {"written: files": 1, "written: users": table.num_rows, "written: events": len(index), **of_exposures}
