"""The item table with its clusters, read into memory once per station."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tfdnc import schema
from tfdnc.errors import UserError


@dataclass(frozen=True)
class ItemTable:
    """The columns of `schema.ITEM_SCHEMA` that later stations need, row i being item i + 1."""

    item_ids: list[str]
    counts: np.ndarray  # [N] int64, events in the training part
    clusters: np.ndarray  # [N] int32, never decreasing
    offsets: tuple[int, ...]  # K + 1; cluster k is rows offsets[k] .. offsets[k + 1] - 1
    sequence_indices: np.ndarray  # [N] int32, the items' indices in the sequences
    titles: list[str]  # the id where an item has no title
    cluster_names: list[str]  # [K]

    @property
    def num_clusters(self) -> int:
        """K."""
        return len(self.offsets) - 1

    def cluster_prior(self) -> np.ndarray:
        """Share of the training events in each cluster, `[K]` float64, never 0."""
        events = np.bincount(self.clusters, weights=self.counts + 1e-3, minlength=self.num_clusters)
        return events / events.sum()


def read_items(folder: Path) -> ItemTable:
    """Reads the output folder of the cluster station.

    Raises:
        UserError: the item table is missing, not in order of `item_index`, or its clusters are not contiguous.
    """
    path = folder / schema.ITEMS
    if not path.is_file():
        raise UserError(f"Expected the item table {path}, found none: run the cluster station first.")
    table = pq.read_table(path)
    clusters = table["cluster"].to_numpy()
    index = table["item_index"].to_numpy()
    if not np.array_equal(index, np.arange(1, len(index) + 1)) or np.any(np.diff(clusters) < 0):
        raise UserError(
            f"Expected items 1..N in order with contiguous clusters in {path}: run the cluster station again."
        )
    item_ids = table["item_id"].to_pylist()
    described = json.loads((folder / schema.CLUSTERS).read_text())
    return ItemTable(
        item_ids=item_ids,
        counts=table["count"].to_numpy(),
        clusters=clusters,
        offsets=tuple(int(offset) for offset in np.searchsorted(clusters, np.arange(len(described) + 1))),
        sequence_indices=table["sequence_index"].to_numpy(),
        titles=[title or item_id for title, item_id in zip(table["title"].to_pylist(), item_ids, strict=True)],
        cluster_names=[cluster["name"] for cluster in described],
    )
