"""The clustered item table as the arrays that the examples job looks things up in."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfdnc import schema
from tfdnc.errors import UserError


@dataclass(frozen=True)
class ItemTable:
    """N items in K clusters.

    Attributes:
        index_of_sequence: `[N' + 1]` item index of every `sequence_index`; 0 where the table has none.
        cluster: `[N + 1]` cluster of every item index; entry 0 (padding) means nothing.
        offsets: `[K + 1]`; cluster k is the item indices `offsets[k]..offsets[k + 1] - 1`.
        counts: `[N + 1]` training events of every item.
    """

    index_of_sequence: np.ndarray
    cluster: np.ndarray
    offsets: np.ndarray
    counts: np.ndarray

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.cluster) - 1


def read_item_table(path: Path) -> ItemTable:
    """Reads and checks a Parquet file of `schema.ITEM_SCHEMA`.

    Raises:
        UserError: the file is missing or damaged, or its clusters are not contiguous ranges of `item_index`.
    """
    names = ["item_index", "sequence_index", "cluster", "count"]
    try:
        table = pq.read_table(path, columns=names)
        item, sequence, cluster, count = (table[name].to_numpy() for name in names)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UserError(f"Expected an item table at {path}, could not read it: {error}; cluster again.") from error
    if not len(item):
        raise UserError(f"Expected items in {path}, found none; cluster again.")
    if not np.array_equal(item, np.arange(1, len(item) + 1)):
        raise UserError(f"Expected item_index 1..{len(item)} in order in {path}, found another order; cluster again.")
    if cluster[0] < 0 or np.any(np.diff(cluster) < 0):
        raise UserError(f"Expected clusters from 0 on, never decreasing, down {path}; found others; cluster again.")
    if len(np.unique(sequence)) != len(sequence) or sequence.min() < 1:
        raise UserError(f"Expected every sequence_index >= 1 once in {path}, found others; cluster again.")
    index_of_sequence = np.zeros(sequence.max() + 1, np.int32)
    index_of_sequence[sequence] = item
    return make_item_table(cluster, count, index_of_sequence)


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
