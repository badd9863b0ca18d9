"""The item table as arrays for the examples job."""

import pytest

from beam_jobs.item_table import read_item_table
from tfdnc.contracts.errors import UserError


def test_item_table_becomes_offsets_and_a_map(write_items):
    table = read_item_table(write_items([0, 0, 2], counts=[3, 0, 1], order=[5, 1, 3]))
    assert table.offsets.tolist() == [1, 3, 3, 4]  # cluster 1 is empty
    assert table.cluster.tolist() == [0, 0, 0, 2]
    assert table.index_of_sequence.tolist() == [0, 2, 0, 3, 0, 1]
    assert table.counts.tolist() == [0, 3, 0, 1]


@pytest.mark.parametrize(
    ("clusters", "order", "message"),
    [([1, 0], None, "clusters from 0 on, never decreasing"), ([0, 0], [2, 2], "sequence_index >= 1 once")],
)
def test_item_table_is_checked(write_items, clusters, order, message):
    with pytest.raises(UserError, match=message):
        read_item_table(write_items(clusters, order=order))


def test_missing_and_damaged_item_tables_are_user_errors(tmp_path):
    path = tmp_path / "items.parquet"
    with pytest.raises(UserError, match=r"Expected an item table at .*items.parquet, could not read it"):
        read_item_table(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"Expected an item table at .*items.parquet, could not read it"):
        read_item_table(path)
