"""Items that a query shows after a refresh of the bundle."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfdnc.contracts import schema
from tfdnc.contracts.items import ItemTable
from tfdnc.operations.shown_items import shown_items

ITEMS = ItemTable(
    item_ids=["a", "b"],
    counts=np.array([2, 1]),
    clusters=np.array([0, 1], np.int32),
    offsets=(0, 1, 2),
    sequence_indices=np.array([2, 1], np.int32),
    titles=["A", "b"],
    cluster_names=["first", "second"],
)


def test_items_of_a_refresh_have_titles_and_clusters_too(tmp_path):
    """A list with a new item was refused as that of another run."""
    assert shown_items(ITEMS, tmp_path) is ITEMS
    file = tmp_path / schema.VERSION_ITEMS
    file.parent.mkdir()
    ids, titles, categories = ["new", "b", "a"], [None, "a new title", None], [["k"], None, ["x"]]
    columns = {"item_id": ids, "cluster": [0, 1, 0], "title": titles, "categories": categories}
    pq.write_table(pa.table(columns), file)
    found = shown_items(ITEMS, tmp_path)
    assert found.item_ids == ["a", "b", "new"]
    assert found.titles == ["a", "a new title", "new"]
    assert found.clusters.tolist() == [0, 1, 0]
    assert found.categories == [["x"], [], ["k"]]
    assert found.counts.tolist() == [2, 1, 0]
    assert found.sequence_indices.tolist() == [2, 1, 3]
