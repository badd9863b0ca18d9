"""Attributes of items, read from the item file."""

import numpy as np
import pytest

from beam_jobs.item_attributes import read_attributes
from tfdnc.contracts.attributes import example_rules
from tfdnc.contracts.data_config import DataConfig, ItemFile
from tfdnc.contracts.errors import UserError

KINDS = {"brand": "value", "tags": "values", "stock": "boolean", "price": "number"}
ROWS = [
    {"id": "a", "brand": " acme ", "tags": "new|sale|new", "stock": "True", "price": "19.5"},
    {"id": "b", "brand": "", "tags": "", "stock": "", "price": ""},
    {"id": "a", "brand": "other row", "tags": "", "stock": "false", "price": "1"},
    {"id": "x", "brand": "of no item", "tags": "", "stock": "maybe", "price": "cheap"},
]


def csv_of(tmp_path, rows):
    path = tmp_path / "items.csv"
    path.write_text("\n".join([",".join(ROWS[0]), *(",".join(row.values()) for row in rows)]) + "\n")
    return DataConfig(path="log.csv", items=ItemFile(path=path, item="id"))


def test_columns_of_every_kind_in_the_order_of_the_items(tmp_path):
    brand, tags, stock, price = read_attributes(csv_of(tmp_path, ROWS[:3]), KINDS, ["b", "a", "missing"])
    assert brand.texts == [(), ("acme",), ()]
    assert tags.texts == [(), ("new", "sale"), ()]
    assert stock.texts == [(), ("true",), ()]
    np.testing.assert_array_equal(price.numbers, [np.nan, 19.5, np.nan])
    assert [one.kind for one in (brand, tags, stock, price)] == list(KINDS.values())
    all_rules = ["brand=acme", "tags=new", "stock=true", "price<=19.5"]
    assert example_rules([brand, tags, stock, price]) == [[rule] for rule in all_rules] + [all_rules]
    assert example_rules([]) == []


def test_rows_of_items_that_are_not_in_the_log_are_not_read(tmp_path):
    brand, *_ = read_attributes(csv_of(tmp_path, ROWS), KINDS, ["a"])
    assert brand.texts == [("acme",)]


def test_json_lines_bring_their_own_types(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"id": 7, "brand": "acme", "tags": ["new", "a|b"], "stock": true, "price": 3}\n')
    config = DataConfig(path="log.csv", items=ItemFile(path=path, item="id"))
    brand, tags, stock, price = read_attributes(config, KINDS, ["7"])
    assert (brand.texts, tags.texts, stock.texts) == ([("acme",)], [("new", "a|b")], [("true",)])
    assert price.numbers.tolist() == [3]


def test_movielens_has_genres_and_years(tmp_path):
    (tmp_path / "movies.dat").write_text("1::Toy Story (1995)::Animation|Comedy\n")
    config = DataConfig(format="movielens", path=tmp_path)
    year, genre = read_attributes(config, {"year": "number", "genre": "values"}, ["1"])
    assert (year.numbers.tolist(), genre.texts) == ([1995], [("Animation", "Comedy")])
    with pytest.raises(UserError, match=r"in export.attributes, genre and year, got 'brand'"):
        read_attributes(config, {"brand": "value"}, ["1"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stock": "maybe"}, "Expected true or false, .* found 'maybe'; set export.attributes.stock to value"),
        ({"price": "cheap"}, "Expected numbers in column 'price' .* found 'cheap'; set export.attributes.price"),
    ],
)
def test_values_of_another_kind_are_refused(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        read_attributes(csv_of(tmp_path, [ROWS[0] | change]), KINDS, ["a"])


def test_a_list_in_a_column_of_one_value_is_refused(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"id": "a", "brand": ["x", "y"]}\n')
    config = DataConfig(path="log.csv", items=ItemFile(path=path, item="id"))
    with pytest.raises(
        UserError, match=r"one value per item in column 'brand' .* set export.attributes.brand to values"
    ):
        read_attributes(config, {"brand": "value"}, ["a"])


def test_a_file_without_the_column_or_the_items_is_refused(tmp_path):
    config = csv_of(tmp_path, ROWS)
    with pytest.raises(UserError, match=r"export\.attributes"):
        read_attributes(config, {"colour": "value"}, ["a"])
    with pytest.raises(UserError, match="Expected items of the log, such as 'z'"):
        read_attributes(config, {"brand": "value"}, ["z"])
    with pytest.raises(UserError, match=r"Expected an item file with export\.attributes"):
        read_attributes(DataConfig(path="log.csv"), KINDS, ["a"])
