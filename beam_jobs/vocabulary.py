"""Kept items and their order: from the counts of every block to `vocabulary.parquet`."""

from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs.files import join, whole_file
from beam_jobs.ids import id_order
from beam_jobs.item_accounts import DEAD_LETTERS, VALUES, ItemAccounts
from beam_jobs.item_details import DetailsFile, read_details
from beam_jobs.item_vectors import write_vectors
from beam_jobs.logs.log_rows import dead_letter, dead_letter_line
from beam_jobs.packing import pack, unpack, unpack_all
from tfdnc.contracts import schema
from tfdnc.contracts.sequences import leading_items

_COUNT_SCHEMA = pa.schema([("item_id", pa.string()), ("events", pa.int64())])
_COMPACT_AFTER = 16  # length of an accumulator at which its tables are added


def count_items(item_ids: pa.Array, items: np.ndarray) -> bytes:
    """Returns the packed (item id, events) of the events of a block; `items` are positions in `item_ids`."""
    counts = np.bincount(items, minlength=len(item_ids))
    used = counts > 0  # an id may be in malformed rows only
    batch = [item_ids.filter(pa.array(used)), pa.array(counts[used], pa.int64())]
    return pack(pa.RecordBatch.from_arrays(batch, schema=_COUNT_SCHEMA))


class AddItemCounts(beam.CombineFn):
    """Adds packed (item id, events) tables; the accumulator is a short list of tables."""

    def create_accumulator(self) -> list[bytes]:
        """Returns the empty sum."""
        return []

    def add_input(self, accumulator: list[bytes], element: bytes) -> list[bytes]:
        """Returns the accumulator with one more table; the tables of a long list are added, to limit its size."""
        accumulator = [*accumulator, element]
        return accumulator if len(accumulator) < _COMPACT_AFTER else [_add_up(accumulator)]

    def merge_accumulators(self, accumulators: Iterable[list[bytes]]) -> list[bytes]:
        """Returns the sum of several accumulators."""
        return [_add_up(packed for accumulator in accumulators for packed in accumulator)]

    def extract_output(self, accumulator: list[bytes]) -> bytes:
        """Returns the packed sum."""
        return _add_up(accumulator)


def _add_up(packed: Iterable[bytes]) -> bytes:
    summed = unpack_all(packed, _COUNT_SCHEMA).group_by("item_id").aggregate([("events", "sum")])
    columns = [summed["item_id"].combine_chunks(), summed["events_sum"].combine_chunks()]
    return pack(pa.RecordBatch.from_arrays(columns, schema=_COUNT_SCHEMA))


def frequent_items(packed_counts: bytes, min_item_events: int, *earlier: Any) -> bytes:
    """Returns packed (item id, events) of the items with at least `min_item_events` events, ids in order.

    `earlier` are the results of the earlier rounds; once they have settled, the last one is the result. They are
    bytes, but their hint is `Any`: from `bytes` Beam would require at least one of them.
    """
    if settled(earlier):
        return earlier[-1]
    counts = unpack(packed_counts)
    counts = counts.filter(pc.greater_equal(counts["events"], min_item_events))
    return pack(counts.take(pa.array(id_order(counts["item_id"]))))


def settled(frequent: Sequence[bytes]) -> bool:
    """Returns whether the last round kept all items of the round before; then no later round leaves out an item."""
    return len(frequent) > 1 and unpack(frequent[-1])["item_id"].equals(unpack(frequent[-2])["item_id"])


def count_candidates(sequences: pa.RecordBatch) -> bytes:
    """Returns the packed (candidate, events, training events) of the sequences of one bucket."""
    events = np.bincount(sequences["items"].values.to_numpy())
    candidates = np.flatnonzero(events)
    training = leading_items(sequences["items"], sequences["train_events"].to_numpy())
    train_events = np.bincount(training, minlength=len(events))
    columns = {"candidate": candidates, "events": events[candidates], "train_events": train_events[candidates]}
    return pack(pa.record_batch(columns))


def kept_items(frequent: bytes, packed_counts: Iterable[bytes]) -> bytes:
    """Returns the packed (item id, events, training events, candidate) of the frequent items with a kept event.

    Row r is the item with `sequence_index` r + 1; the order is that of the frequent items.
    """
    ids = unpack(frequent)["item_id"]
    sums = {name: np.zeros(len(ids) + 1, np.int64) for name in ("events", "train_events")}
    for packed in packed_counts:
        batch = unpack(packed)
        for name, total in sums.items():
            total[batch["candidate"].to_numpy()] += batch[name].to_numpy()
    kept = np.flatnonzero(sums["events"]).astype(np.int32)
    columns = {"item_id": ids.take(pa.array(kept - 1)), **{name: total[kept] for name, total in sums.items()}}
    return pack(pa.record_batch(columns | {"candidate": kept}))


def write_vocabulary(vocabulary: bytes, details: DetailsFile | None, more: bool, output: str) -> dict[str, int]:
    """Writes `schema.VOCABULARY`: the kept items with their details and, with `more`, all other items of the item file.

    The other items have no events. They come last, so that the indices in the sequences do not change. Malformed rows
    of the item file become dead letters.

    Returns:
        Counts of the item file, see `item_accounts`; empty without an item file.
    """
    items, accounts = unpack(vocabulary), ItemAccounts()
    known = read_details(details, items["item_id"].to_pylist(), more, accounts)
    others = len(known.item_ids) - items.num_rows
    columns = [
        pa.array(np.arange(1, len(known.item_ids) + 1, dtype=np.int32)),
        pa.array(known.item_ids, pa.string()),
        pa.array(np.append(items["events"].to_numpy(), np.zeros(others, np.int64))),
        pa.array(known.titles, pa.string()),
        pa.array(known.categories, pa.list_(pa.string())),
        pa.array(known.features, pa.list_(pa.string())),
    ]
    with whole_file(join(output, schema.VOCABULARY)) as stream:
        pq.write_table(pa.Table.from_arrays(columns, schema=schema.VOCABULARY_SCHEMA), stream, compression="zstd")
    for vectors in details.vectors if details is not None else ():
        known_rows = write_vectors(vectors, known.item_ids, join(output, schema.VECTORS))
        accounts.counts[f"{VALUES}feature {vectors.name}"] += int(known_rows[: items.num_rows].sum())
    if details is not None and accounts.malformed:
        with whole_file(join(output, schema.DEAD_LETTER, f"{DEAD_LETTERS}.jsonl")) as stream:
            stream.writelines(
                dead_letter_line(details.file.name, dead_letter(*row)).encode() for row in accounts.malformed
            )
    return dict(accounts.counts)
