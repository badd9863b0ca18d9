"""Items that a query or a page shows: those of the run, and those that refreshes of its bundle have added."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfdnc.contracts import schema
from tfdnc.contracts.items import ItemTable


def left_items(version: Path) -> set[str]:
    """Returns the ids of the items of a version that only histories hold, none for a version of an export."""
    file = version / schema.VERSION_ITEMS
    if not file.is_file():
        return set()
    table = pq.read_table(file, columns=["item_id", "listed"])
    return set(table.filter(pc.invert(table["listed"]))["item_id"].to_pylist())


def shown_items(items: ItemTable, version: Path) -> ItemTable:
    """Returns the items of a version of a run's bundle, for look-ups by id.

    Items that a refresh has added come last, so their clusters are not in order, and no sequence has their indices.

    Args:
        items: of the run.
        version: folder of the version.
    """
    file = version / schema.VERSION_ITEMS
    if not file.is_file():
        return items
    table = pq.read_table(file, columns=["item_id", "cluster", "title", "categories"])
    ids, known = table["item_id"].to_pylist(), set(items.item_ids)
    added = np.array([row for row, item_id in enumerate(ids) if item_id not in known], np.int64)
    titles, categories = (dict(zip(ids, table[name].to_pylist(), strict=True)) for name in ("title", "categories"))
    item_ids = [*items.item_ids, *(ids[row] for row in added)]
    indices = np.arange(len(known) + 1, len(item_ids) + 1)
    return dataclasses.replace(
        items,
        item_ids=item_ids,
        counts=np.append(items.counts, np.zeros(len(added), items.counts.dtype)),
        clusters=np.append(items.clusters, table["cluster"].to_numpy()[added]),
        sequence_indices=np.append(items.sequence_indices, indices),
        titles=[titles[item_id] or item_id for item_id in item_ids],
        categories=[categories[item_id] or [] for item_id in item_ids] if any(categories.values()) else None,
    )
