"""Item table with its clusters, read into memory once per station."""

import io
import itertools
import json
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError


@dataclass(frozen=True)
class ItemTable:
    """Columns of `schema.ITEM_SCHEMA` for later stations; row i is item i + 1."""

    item_ids: list[str]
    counts: np.ndarray  # [N] int64, events in the training part
    clusters: np.ndarray  # [N] int32, never decreasing
    offsets: tuple[int, ...]  # K + 1; cluster k is rows offsets[k] .. offsets[k + 1] - 1
    sequence_indices: np.ndarray  # [N] int32, the items' indices in the sequences
    titles: list[str]  # the id for an item without a title
    cluster_names: list[str]  # [K]
    categories: list[list[str]] | None = None  # [N], empty for an item without; None where no item has any
    cold: np.ndarray | None = None  # [N] bool, see `schema.ITEM_SCHEMA`; None where no item is
    features: list[list[str]] | None = None  # [N] of "column=value"; None where no item has any
    # By name of a feature of kind vector: memory map in order of `sequence_indices`; None where no feature is
    vectors: Mapping[str, np.ndarray] | None = None

    @property
    def num_clusters(self) -> int:
        """K."""
        return len(self.offsets) - 1

    def cluster_prior(self) -> np.ndarray:
        """Returns `cluster_prior` of these items."""
        return cluster_prior(self.counts, self.offsets)


def cluster_prior(counts: np.ndarray, offsets: tuple[int, ...]) -> np.ndarray:
    """Returns each cluster's share of the training events, `[K]` float64, above 0; arguments as in `ItemTable`."""
    events = np.array([np.sum(counts[start:stop]) + 1e-3 for start, stop in itertools.pairwise(offsets)])
    return events / events.sum()


def read_items(folder: Path, prepared: Path | None = None) -> ItemTable:
    """Reads the output folder of the cluster station, and opens the vectors in that of the prepare station, if given.

    Raises:
        UserError: as `read_columns` and `read_vectors`; or the descriptions of clusters are missing, or some of them.
    """
    table = read_columns(folder / schema.ITEMS, schema.ITEM_SCHEMA.names)
    clusters = table["cluster"].to_numpy()
    item_ids = table["item_id"].to_pylist()
    categories, features = ([values or [] for values in table[name].to_pylist()] for name in ("categories", "features"))
    cold = table["cold"].to_numpy()
    try:
        cluster_names = [cluster["name"] for cluster in json.loads((folder / schema.CLUSTERS).read_text())]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"Expected clusters with names in {folder / schema.CLUSTERS}, could not read them: {error}; cluster again."
        ) from error
    if len(cluster_names) <= clusters[-1]:
        raise UserError(
            f"Expected {clusters[-1] + 1} clusters in {folder / schema.CLUSTERS}, as in {schema.ITEMS}, found "
            f"{len(cluster_names)}; cluster again."
        )
    return ItemTable(
        item_ids=item_ids,
        counts=table["count"].to_numpy(),
        clusters=clusters,
        offsets=tuple(int(offset) for offset in np.searchsorted(clusters, np.arange(len(cluster_names) + 1))),
        sequence_indices=table["sequence_index"].to_numpy(),
        titles=[title or item_id for title, item_id in zip(table["title"].to_pylist(), item_ids, strict=True)],
        cluster_names=cluster_names,
        categories=categories if any(categories) else None,
        cold=cold if cold.any() else None,
        features=features if any(features) else None,
        vectors=(read_vectors(prepared) or None) if prepared else None,
    )


def read_vectors(prepared: Path) -> dict[str, np.ndarray]:
    """Returns the vectors of items in the output folder of the prepare station, by name of the feature, memory-mapped.

    Raises:
        UserError: a file is damaged.
    """
    files = sorted((prepared / schema.VECTORS).glob("[!.]*.npy"))
    try:
        return {file.name.removesuffix(".npy"): np.load(file, mmap_mode="r", allow_pickle=False) for file in files}
    except (OSError, ValueError) as error:
        raise UserError(
            f"Expected whole arrays in {prepared / schema.VECTORS}, could not read them: {error}; prepare again."
        ) from error


def forget(mapped: np.ndarray) -> None:
    """Releases the pages of a memory map that were read or written; else all of a large file stays in this process.

    The system keeps what was written. Does nothing for another array, or for a part of a memory map.
    """
    pages = getattr(mapped, "_mmap", None)
    if pages is not None:
        pages.madvise(mmap.MADV_DONTNEED)


def read_columns(
    path: str | PathLike[str],
    names: list[str],
    open_file: Callable[[str | PathLike[str]], BinaryIO] = io.FileIO,
) -> pa.Table:
    """Reads columns of a Parquet file of `schema.ITEM_SCHEMA`, and checks the order of items and clusters.

    Args:
        path: of the file.
        names: of the columns.
        open_file: opens the file at `path` to be read; raises an `OSError` if there is none.

    Raises:
        UserError: the file is missing or damaged, or its clusters are not contiguous ranges of `item_index`.
    """
    checked = ["item_index", "sequence_index", "cluster"]
    try:
        with open_file(path) as stream:
            table = pq.read_table(stream, columns=[*checked, *(name for name in names if name not in checked)])
        item, sequence, cluster = (table[name].to_numpy() for name in checked)
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
    return table
