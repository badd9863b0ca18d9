"""Which items are kept and in which order: from the counts of every block to `vocabulary.parquet`."""

from collections.abc import Iterable

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs.files import whole_file
from beam_jobs.ids import id_order
from beam_jobs.item_details import DetailsFile, read_details
from beam_jobs.packing import pack, unpack, unpack_all
from tfdnc import schema

_COUNT_SCHEMA = pa.schema([("item_id", pa.string()), ("events", pa.int64())])
_COMPACT_AFTER = 16  # accumulated count tables before they are added up


def count_items(events: pa.RecordBatch) -> bytes:
    """Returns packed (item id, events) of one block."""
    items = events["item"]
    counts = np.bincount(items.indices.to_numpy(), minlength=len(items.dictionary))
    used = counts > 0  # an id may stand in malformed rows only
    batch = [items.dictionary.filter(pa.array(used)), pa.array(counts[used], pa.int64())]
    return pack(pa.RecordBatch.from_arrays(batch, schema=_COUNT_SCHEMA))


class AddItemCounts(beam.CombineFn):
    """Adds up packed (item id, events) tables; the accumulator is a short list of them."""

    def create_accumulator(self) -> list[bytes]:
        """Returns the sum of nothing."""
        return []

    def add_input(self, accumulator: list[bytes], element: bytes) -> list[bytes]:
        """Returns the accumulator with one more table, added up now and then to bound its size."""
        accumulator = [*accumulator, element]
        return accumulator if len(accumulator) < _COMPACT_AFTER else [_add_up(accumulator)]

    def merge_accumulators(self, accumulators: Iterable[list[bytes]]) -> list[bytes]:
        """Returns one accumulator for several."""
        return [_add_up(packed for accumulator in accumulators for packed in accumulator)]

    def extract_output(self, accumulator: list[bytes]) -> bytes:
        """Returns the packed sum."""
        return _add_up(accumulator)


def _add_up(packed: Iterable[bytes]) -> bytes:
    summed = unpack_all(packed, _COUNT_SCHEMA).group_by("item_id").aggregate([("events", "sum")])
    columns = [summed["item_id"].combine_chunks(), summed["events_sum"].combine_chunks()]
    return pack(pa.RecordBatch.from_arrays(columns, schema=_COUNT_SCHEMA))


def frequent_items(packed_counts: bytes, min_item_events: int) -> bytes:
    """Returns packed (item id, events) of the items with at least `min_item_events` events, ids in order."""
    counts = unpack(packed_counts)
    counts = counts.filter(pc.greater_equal(counts["events"], min_item_events))
    return pack(counts.take(pa.array(id_order(counts["item_id"]))))


def count_candidates(sequences: pa.RecordBatch) -> bytes:
    """Returns packed (candidate, events) of one bucket's sequences."""
    candidates, events = np.unique(sequences["items"].values.to_numpy(), return_counts=True)
    return pack(pa.record_batch({"candidate": candidates, "events": events}))


def kept_items(frequent: bytes, packed_counts: Iterable[bytes]) -> bytes:
    """Returns packed (item id, kept events, candidate) of the frequent items with a kept event, in the same order.

    Row r is the item of `sequence_index` r + 1.
    """
    ids = unpack(frequent)["item_id"]
    events = np.zeros(len(ids) + 1, np.int64)
    for packed in packed_counts:
        batch = unpack(packed)
        events[batch["candidate"].to_numpy()] += batch["events"].to_numpy()
    kept = np.flatnonzero(events).astype(np.int32)
    return pack(pa.record_batch({"item_id": ids.take(pa.array(kept - 1)), "events": events[kept], "candidate": kept}))


def write_vocabulary(vocabulary: bytes, details: DetailsFile | None, path: str) -> None:
    """Writes `schema.VOCABULARY` with the titles and categories that the item file knows."""
    items = unpack(vocabulary)
    titles, categories = read_details(details, items["item_id"].to_pylist())
    columns = [
        pa.array(np.arange(1, items.num_rows + 1, dtype=np.int32)),
        items["item_id"],
        items["events"],
        pa.array(titles, pa.string()),
        pa.array(categories, pa.list_(pa.string())),
    ]
    with whole_file(path) as stream:
        pq.write_table(pa.Table.from_arrays(columns, schema=schema.VOCABULARY_SCHEMA), stream, compression="zstd")
