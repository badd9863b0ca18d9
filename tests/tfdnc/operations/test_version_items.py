"""Items of a refreshed version: which are listed, in which cluster, with which attributes."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.item_details import Details
from tfdnc.contracts import schema
from tfdnc.operations.version_items import listed_items, read_version_items, renew

FEATURES = {"a0": ["tag=x"], "a1": ["tag=x", "tag=z"], "b0": ["tag=y"], "b1": ["tag=y"], "b2": ["tag=y", "tag=z"]}
KNOWN = {"tag=x", "tag=y", "tag=z"}


def items(**columns):
    """Two clusters; b2 is cold."""
    size = len(FEATURES)
    columns = {
        **{"item_id": list(FEATURES), "cluster": [0, 0, 1, 1, 1], "cold": [False] * 4 + [True]},
        **{"count": [9, 5, 8, 7, 0], "title": [name.upper() for name in FEATURES], "categories": [["c"]] * size},
        **{"features": list(FEATURES.values()), "listed": [True] * size},
    } | columns
    return pa.table(columns, schema.VERSION_ITEM_SCHEMA)


def file(**features):
    """An item file with these items."""
    ids = list(features)
    return Details(ids, [name.upper() for name in ids], [["c"]] * len(ids), list(features.values()))


def column(table, name):
    return dict(zip(table["item_id"].to_pylist(), table[name].to_pylist(), strict=True))


def test_the_same_file_changes_nothing():
    table, changes = renew(items(), file(**FEATURES), KNOWN)
    assert table.equals(items())
    assert changes == (0, 0, 0, 0, 0)


def test_new_items_join_the_cluster_of_similar_trained_items_behind_its_items():
    # b2 is cold, so naive Bayes does not count it: both clusters have one trained item with z, or none.
    added = {"n1": ["tag=x"], "n0": ["tag=x"], "m": ["tag=y", "tag=z"]}
    table, changes = renew(items(), file(**FEATURES, **added), KNOWN)
    assert table["item_id"].to_pylist() == ["a0", "a1", "n0", "n1", "b0", "b1", "b2", "m"]
    assert column(table, "cluster")["m"] == 1
    assert column(table, "cold") == dict.fromkeys(["a0", "a1", "b0", "b1"], False) | dict.fromkeys(
        ["n0", "n1", "b2", "m"], True
    )
    assert changes.new == 3
    assert listed_items(table, ["A", "B"]).offsets == (0, 4, 8)


def test_an_item_without_a_feature_of_the_model_is_left_out():
    table, changes = renew(items(), file(**FEATURES, odd=["tag=new"], bare=[]), KNOWN)
    assert table.equals(items())
    assert (changes.new, changes.left_out) == (0, 2)
    without_features, changes = renew(items(), file(**FEATURES, n=["tag=x"]), set())
    assert without_features.equals(items())
    assert changes.left_out == 1


def test_items_that_the_file_lacks_leave_the_lists_and_stay_in_the_vocabulary():
    stay = {name: FEATURES[name] for name in ("a1", "b1")}
    table, changes = renew(items(), file(**stay), KNOWN)
    assert table["item_id"].to_pylist() == ["a1", "b1", "a0", "b0", "b2"]
    assert table["listed"].to_pylist() == [True, True, False, False, False]
    assert column(table, "features") == FEATURES
    assert changes.left == 3
    again, changes = renew(table, file(**FEATURES), KNOWN)
    assert again.equals(items())
    assert (changes.returned, changes.new, changes.left) == (3, 0, 0)


def test_a_file_of_new_items_is_enough_if_missing_ones_do_not_leave():
    left, _ = renew(items(), file(**{name: FEATURES[name] for name in ("a0", "a1", "b0")}), KNOWN)
    table, changes = renew(left, file(n=["tag=x"]), KNOWN, keep_missing=True)
    assert table["item_id"].to_pylist() == ["a0", "a1", "n", "b0", "b1", "b2"]
    assert column(table, "listed") == {**dict.fromkeys(["a0", "a1", "n", "b0"], True), "b1": False, "b2": False}
    assert (changes.new, changes.left, changes.replaced) == (1, 0, 0)


def test_titles_categories_and_features_are_replaced_and_clusters_are_not():
    changed = file(**FEATURES | {"a0": ["tag=y"]})
    changed.titles[1], changed.categories[2] = "new title", ["d"]
    table, changes = renew(items(), changed, KNOWN)
    assert changes.replaced == 3
    assert column(table, "features")["a0"] == ["tag=y"]
    assert column(table, "title")["a1"] == "new title"
    assert column(table, "categories")["b0"] == ["d"]
    assert column(table, "cluster") == column(items(), "cluster")


def test_a_cluster_may_lose_all_its_items():
    table, _ = renew(items(), file(a0=["tag=x"]), KNOWN)
    listed = listed_items(table, ["A", "B"])
    assert listed.offsets == (0, 1, 1)
    np.testing.assert_allclose(listed.cluster_prior(), [1, 0], atol=1e-3)


def test_the_items_of_a_version_are_those_in_it_or_those_of_the_run(tmp_path):
    run_items = tmp_path / "items.parquet"
    with_indices = items().drop_columns(["listed"])
    for place, name in enumerate(("item_index", "sequence_index")):
        with_indices = with_indices.add_column(place, name, pa.array(np.arange(1, 6, dtype=np.int32)))
    pq.write_table(with_indices.select(schema.ITEM_SCHEMA.names).cast(schema.ITEM_SCHEMA), run_items)
    assert read_version_items(tmp_path / "1", run_items).equals(items())
    left, _ = renew(items(), file(a0=["tag=x"]), KNOWN)
    (tmp_path / "2" / schema.VERSION_ITEMS).parent.mkdir(parents=True)
    pq.write_table(left, tmp_path / "2" / schema.VERSION_ITEMS)
    assert read_version_items(tmp_path / "2", run_items).equals(left)
