"""Clustered item table as arrays, for look-ups by the examples job."""

from dataclasses import dataclass
from os import PathLike

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.files import exists, join, open_file, parent
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import read_columns


@dataclass(frozen=True)
class ItemTable:
    """N items in K clusters.

    Attributes:
        index_of_sequence: `[N' + 1]` item index of every `sequence_index`; 0 for an item that is not in the table.
        cluster: `[N + 1]` cluster of every item index; entry 0 is padding.
        offsets: `[K + 1]`; cluster k is the item indices `offsets[k]..offsets[k + 1] - 1`.
        counts: `[N + 1]` training events of every item.
    """

    index_of_sequence: np.ndarray
    cluster: np.ndarray
    offsets: np.ndarray
    counts: np.ndarray

    @property
    def num_items(self) -> int:
        """Number of items, N."""
        return len(self.cluster) - 1


def read_item_table(path: str | PathLike[str]) -> ItemTable:
    """Reads a Parquet file of `schema.ITEM_SCHEMA`; raises the errors of `tfdnc.contracts.items.read_columns`."""
    table = read_columns(path, ["sequence_index", "cluster", "count"], open_file)
    sequence = table["sequence_index"].to_numpy()
    index_of_sequence = np.zeros(sequence.max() + 1, np.int32)
    index_of_sequence[sequence] = np.arange(1, len(sequence) + 1)
    return make_item_table(table["cluster"].to_numpy(), table["count"].to_numpy(), index_of_sequence)


def refuse_other_log(item_table: str, sequences: str) -> None:
    """Raises a `UserError` if a vocabulary beside the sequences has other items than the item table."""
    vocabulary = join(parent(sequences), schema.VOCABULARY)
    if not exists(vocabulary):
        return
    try:
        with open_file(vocabulary) as stream:
            known = pq.read_table(stream, columns=["sequence_index", "item_id"])
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UserError(f"Expected a vocabulary at {vocabulary}, could not read it: {error}; prepare again.") from error
    clustered = read_columns(item_table, ["item_id"], open_file).select(known.column_names).sort_by("sequence_index")
    if not clustered.cast(known.schema).equals(known):
        raise UserError(
            f"Expected the {known.num_rows} items of {vocabulary} in {item_table}, found {clustered.num_rows} items of "
            "another log; cluster these sequences again."
        )


def make_item_table(cluster: np.ndarray, counts: np.ndarray, index_of_sequence: np.ndarray | None = None) -> ItemTable:
    """Returns the table of items 1..N from their clusters `[N]`, never decreasing, and their counts `[N]`."""
    if index_of_sequence is None:
        index_of_sequence = np.arange(len(cluster) + 1)
    offsets = 1 + np.searchsorted(cluster, np.arange(cluster.max() + 2))
    return ItemTable(
        index_of_sequence.astype(np.int32),
        np.concatenate([[schema.PAD], cluster]).astype(np.int32),
        offsets,
        np.concatenate([[0], counts]),
    )
