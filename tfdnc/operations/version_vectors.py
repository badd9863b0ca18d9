"""Content vectors of a refreshed version: those of a newer file, over those of the version before and the training."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.item_vectors import VectorSource, write_vectors
from tfdnc.clustering.cold import UNASSIGNED
from tfdnc.clustering.content import Directions, nearest_centroids
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable, forget

_ROWS = 8192  # compared at a time

Earlier = Iterator[tuple[np.ndarray, np.ndarray]]
"""Rows `[n]` of items, and their vectors `[n, C]`, part by part."""


class VersionVectors(NamedTuple):
    """Content vectors of N items, those of a version and new ones.

    Attributes:
        row_of: item id -> row.
        vectors: by feature float32 `[N, C]`, NaN for an unknown vector.
        known: `[N]` bool, items with a vector of any feature.
        changed: `[N]` bool, items that have another vector than in the version before; new ones have.
        untrained: `[N]` bool, items with another vector than the training had.
    """

    row_of: dict[str, int]
    vectors: dict[str, np.ndarray]
    known: np.ndarray
    changed: np.ndarray
    untrained: np.ndarray

    def rows(self, item_ids: Sequence[str]) -> np.ndarray:
        """Returns the rows of items, `[n]` int."""
        return np.array([self.row_of[item_id] for item_id in item_ids], np.int64)

    def nearest(self, labels: np.ndarray, item_ids: Sequence[str], new: Sequence[str]) -> np.ndarray:
        """Returns the clusters `[n]` of new items by the nearest centroid, `UNASSIGNED` of one without all vectors.

        Args:
            labels: `[M]` clusters of the items of the version, `UNASSIGNED` for those that do not count in a centroid.
            item_ids: their ids.
            new: ids of the new items.
        """
        of_rows = np.full(len(self.known), UNASSIGNED)
        of_rows[self.rows(item_ids)] = labels
        rows = self.rows(new)
        return nearest_centroids(of_rows, Directions(self.vectors), rows)[rows]


def read_version_vectors(
    sources: Sequence[VectorSource], item_ids: list[str], trained: ItemTable, version: Path
) -> VersionVectors:
    """Returns the vectors of items; an item without one in its source keeps the one that it had.

    Args:
        sources: features of kind vector in the newer files.
        item_ids: those of the version, and new ones.
        trained: items of the training, with their vectors.
        version: folder of the version before.

    Raises:
        UserError: a source cannot be read, or has vectors of another length than the training had.
    """
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    size = len(item_ids)
    known, changed, untrained = np.zeros(size, bool), np.zeros(size, bool), np.zeros(size, bool)
    vectors = {}
    for source in sources:
        of_training = (trained.vectors or {})[source.name]
        if source.size != of_training.shape[1]:
            raise UserError(
                f"Expected vectors {source.name!r} of {of_training.shape[1]} numbers in {source.file.path}, as the "
                f"training had, found {source.size}."
            )
        found = _mapped(source, item_ids)
        before = np.zeros(size, bool)
        for earlier in (_of_version(version, source, row_of), _of_training(trained, of_training, row_of)):
            changed |= _keep(found, earlier, before)
        new = _known(found)
        changed |= new & ~before
        differs, of_trained = _difference(found, _of_training(trained, of_training, row_of))
        untrained |= differs | (new & ~of_trained)
        known |= new
        vectors[source.name] = found
    return VersionVectors(row_of, vectors, known, changed, untrained)


def _mapped(source: VectorSource, item_ids: list[str]) -> np.ndarray:
    """Returns the vectors of items in a file, memory-mapped; the map lives on when its file is removed."""
    with tempfile.TemporaryDirectory(prefix="tfdnc-") as folder:
        write_vectors(source, item_ids, folder)
        return np.load(Path(folder, f"{source.name}.npy"), mmap_mode="r+")


def write_version_vectors(content: VersionVectors, item_ids: Sequence[str], path: Path) -> None:
    """Writes the vectors that the training had not, of those of the items that are in the version."""
    rows = content.rows(item_ids)
    kept = content.untrained[rows]
    columns: dict[str, pa.Array] = {
        "item_id": pa.array([item_ids[row] for row in np.flatnonzero(kept).tolist()], pa.string())
    }
    for name, vectors in content.vectors.items():
        own = vectors[rows[kept]]
        ends = np.arange(len(own) + 1) * own.shape[1]
        # No lists of fixed size: pyarrow cannot read those of Parquet where one is missing.
        columns[name] = pa.LargeListArray.from_arrays(ends, own.reshape(-1), mask=pa.array(~_known(own)))
    pq.write_table(pa.table(columns), path)


def _of_version(version: Path, source: VectorSource, row_of: Mapping[str, int]) -> Earlier:
    """Yields the vectors that a refresh has added to a version; none for a version of an export."""
    file = version / schema.VERSION_VECTORS
    if not file.is_file():
        return
    for batch in pq.ParquetFile(file).iter_batches(_ROWS, columns=["item_id", source.name], use_threads=False):
        batch = batch.filter(batch[source.name].is_valid())
        rows = np.array([row_of[item_id] for item_id in batch["item_id"].to_pylist()], np.int64)
        yield rows, batch[source.name].flatten().to_numpy().reshape(len(rows), source.size)


def _of_training(trained: ItemTable, vectors: np.ndarray, row_of: Mapping[str, int]) -> Earlier:
    ids = np.array([row_of[item_id] for item_id in trained.item_ids], np.int64)
    for start in range(0, len(ids), _ROWS):
        part = slice(start, start + _ROWS)
        yield ids[part], np.asarray(vectors[trained.sequence_indices[part] - 1])
        forget(vectors)


def _keep(found: np.ndarray, earlier: Earlier, before: np.ndarray) -> np.ndarray:
    """Gives items without a vector the earlier one; returns `[N]` bool, those with another one than they had.

    Args:
        found: `[N, C]`, filled here.
        earlier: vectors of some items.
        before: `[N]` bool, items whose vector of the version before is known already; filled here.
    """
    changed = np.zeros(len(found), bool)
    for rows, vectors in earlier:
        counts = _known(vectors) & ~before[rows]
        rows, vectors = rows[counts], vectors[counts]
        own = found[rows]
        missing = ~_known(own)
        found[rows[missing]] = vectors[missing]
        changed[rows] = ~missing & (own != vectors).any(axis=1)
        before[rows] = True
    return changed


def _difference(found: np.ndarray, earlier: Earlier) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[N]` bool masks: items with another vector than `earlier` says, and the items that it has."""
    differs, there = np.zeros(len(found), bool), np.zeros(len(found), bool)
    for rows, vectors in earlier:
        own = found[rows]
        differs[rows] = ~np.all((own == vectors) | (np.isnan(own) & np.isnan(vectors)), axis=1)
        there[rows] = True
    return differs, there


def _known(vectors: np.ndarray) -> np.ndarray:
    return ~np.isnan(vectors).any(axis=1)
