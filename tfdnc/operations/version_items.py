"""Items of a refreshed version: those of the version before it, renewed by the items of a file."""

import logging
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.item_details import Details
from tfdnc.clustering.cold import UNASSIGNED, assign_cold_items, traits_of
from tfdnc.clustering.station import order_items
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.operations.version_vectors import VersionVectors

_log = logging.getLogger(__name__)


class Changes(NamedTuple):
    """Numbers of items by what a file has changed."""

    new: int  # items that no version before had
    returned: int  # items that had left, and are listed again
    left: int  # listed items that are listed no more
    replaced: int  # listed items with another title or vector, or other categories or features
    left_out: int  # new items of the file without a feature that the model knows, and without a content vector


def read_version_items(version: Path, items: Path) -> pa.Table:
    """Returns the items of a version, a table of `schema.VERSION_ITEM_SCHEMA`.

    Args:
        version: folder of the version.
        items: item table of the cluster station; it holds the items of a version that an export made.

    Raises:
        UserError: the table is damaged.
    """
    file = version / schema.VERSION_ITEMS
    try:
        if file.is_file():
            return pq.read_table(file, schema=schema.VERSION_ITEM_SCHEMA)
        table = pq.read_table(items, schema=schema.ITEM_SCHEMA)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"Expected the items of {version}, could not read them: {error}. Export again.") from error
    listed = table.append_column("listed", pa.array(np.ones(table.num_rows, bool)))
    return listed.select(schema.VERSION_ITEM_SCHEMA.names).cast(schema.VERSION_ITEM_SCHEMA)


def renew(
    before: pa.Table,
    found: Details,
    known_features: Set[str],
    keep_missing: bool = False,
    content: VersionVectors | None = None,
) -> tuple[pa.Table, Changes]:
    """Returns the items of the next version.

    Items of the file are listed, with the title, the categories and the features that it gives. An item that the file
    lacks leaves. It stays in the table, because histories hold it. A new item needs a feature that the model knows, or
    a content vector: its vector is made of these. It gets the cluster with the most similar trained items, see
    `assign_cold_items`.

    Args:
        before: items of the version before.
        found: items of the file.
        known_features: features with a row in the model.
        keep_missing: items that the file lacks do not leave.
        content: vectors of both, for a model that reads some.
    """
    ids: list[str] = before["item_id"].to_pylist()
    known = set(ids)
    new = [row for row, item_id in enumerate(found.item_ids) if item_id not in known]
    described = np.zeros(len(found.item_ids), bool) if content is None else content.known[content.rows(found.item_ids)]
    added = [row for row in new if described[row] or not known_features.isdisjoint(found.features[row] or ())]
    row_of = {item_id: row for row, item_id in enumerate(found.item_ids)}
    source = [row_of.get(item_id, -1) for item_id in ids]
    in_file, was_listed = np.array(source) >= 0, before["listed"].to_numpy()
    columns, changed = _renewed(before, found, source)
    for name, values in (("title", found.titles), ("categories", found.categories), ("features", found.features)):
        columns[name] += [values[row] for row in added]
    labels = np.append(before["cluster"].to_numpy(), np.full(len(added), UNASSIGNED))
    cold = np.append(before["cold"].to_numpy(), np.ones(len(added), bool))
    counts = np.append(before["count"].to_numpy(), np.zeros(len(added), np.int64))
    is_listed = in_file | was_listed if keep_missing else in_file
    listed = np.append(is_listed, np.ones(len(added), bool))
    if content is not None:
        changed |= content.changed[content.rows(ids)]
    new_ids = [found.item_ids[row] for row in added]
    item_ids = pa.array(ids + new_ids, pa.string())
    near = np.full(len(labels), UNASSIGNED)
    if content is not None and added:
        near[len(ids) :] = content.nearest(np.where(cold, UNASSIGNED, labels)[: len(ids)], ids, new_ids)
    clusters = _with_clusters(labels, cold, columns, near) if added else labels
    arrays = columns | {"item_id": item_ids, "cluster": clusters, "cold": cold, "count": counts, "listed": listed}
    table = pa.table({name: arrays[name] for name in schema.VERSION_ITEM_SCHEMA.names}, schema.VERSION_ITEM_SCHEMA)
    order = order_items(clusters, counts, table["item_id"])
    order = order[np.argsort(~listed[order], kind="stable")]
    changes = Changes(
        new=len(added),
        returned=int((is_listed & ~was_listed).sum()),
        left=int((was_listed & ~is_listed).sum()),
        replaced=int((changed & is_listed).sum()),
        left_out=len(new) - len(added),
    )
    return table.take(pa.array(order)), changes


def listed_items(table: pa.Table, cluster_names: list[str]) -> ItemTable:
    """Returns the listed items of a version as the item table of an export."""
    listed = table.filter(table["listed"])
    ids = listed["item_id"].to_pylist()
    clusters = listed["cluster"].to_numpy()
    return ItemTable(
        item_ids=ids,
        counts=listed["count"].to_numpy(),
        clusters=clusters,
        offsets=tuple(int(offset) for offset in np.searchsorted(clusters, np.arange(len(cluster_names) + 1))),
        sequence_indices=np.arange(1, len(ids) + 1, dtype=np.int32),  # no sequences have these indices
        titles=[title or item_id for title, item_id in zip(listed["title"].to_pylist(), ids, strict=True)],
        cluster_names=cluster_names,
    )


def _renewed(before: pa.Table, found: Details, source: list[int]) -> tuple[dict[str, list], np.ndarray]:
    """Titles, categories and features of the earlier items, and which items have others than before, `[N]` bool."""
    columns: dict[str, list] = {}
    changed = np.zeros(len(source), bool)
    for name, values in (("title", found.titles), ("categories", found.categories), ("features", found.features)):
        earlier = before[name].to_pylist()
        columns[name] = [values[row] if row >= 0 else old for row, old in zip(source, earlier, strict=True)]
        # Of an item without categories or features, a file with other columns has none, not an empty list.
        changed |= [(now or None) != (old or None) for now, old in zip(columns[name], earlier, strict=True)]
    return columns, changed


def _with_clusters(labels: np.ndarray, cold: np.ndarray, columns: dict[str, list], near: np.ndarray) -> np.ndarray:
    """Labels with those of new items, by the traits of the trained items, else by the nearest centroid."""
    traits = traits_of(columns["features"], columns["categories"])
    used = np.flatnonzero(~cold | (labels == UNASSIGNED))
    assigned = labels.copy()
    assigned[used] = assign_cold_items(labels[used], [traits[row] for row in used], near[used])
    return assigned
