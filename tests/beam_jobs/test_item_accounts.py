"""Joins with an item file: matches are counted, a partial join gets a warning, a meaningless one an error."""

import json

import pyarrow.parquet as pq
import pytest

from beam_jobs.item_accounts import headline
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import ItemFile
from tfdnc.contracts.errors import UserError

ROWS = [(user, item, time) for user in "uvw" for time, item in enumerate("abcd")]


@pytest.fixture
def join(write_csv, prepare_log, tmp_path):
    """Prepares a log of the items a, b, c and d with an item file; returns the figures of the join, and the folder."""

    def run(text, catalogue="log", **items):
        path = tmp_path / "items.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        items = ItemFile(path=path, **({"title": "title"} | items))
        figures, prepared = prepare_log(write_csv(ROWS), items=items, catalogue=catalogue, max_malformed_share=1)
        counts = figures["item_file"]
        kinds = ("repeated", "of_other_items", "described", "added")
        assert counts["rows"] == sum(counts[kind] for kind in kinds) + sum(counts["malformed"].values())
        return counts, prepared

    return run


def titles(prepared):
    return pq.read_table(prepared / schema.VOCABULARY)["title"].to_pylist()


def test_a_join_of_all_items_is_counted_without_a_warning(join, caplog):
    counts, _ = join("item_id,title\na,A\nb,B\nc,C\nd,D\n")
    assert (counts["items"], counts["described"], counts["with"]) == (4, 4, {"title": 4})
    assert headline(counts) == "4 items, 4 described"
    assert "items.csv" not in caplog.text


def test_a_partial_join_is_counted_and_gets_a_warning(join, caplog):
    """Regression: 3 of 384 items were described, without a warning."""
    counts, prepared = join("item_id,title\nb,B\n7,x\n8,y\n9,z\n")
    assert (counts["described"], counts["of_other_items"]) == (1, 3)
    assert headline(counts) == "4 items, 1 described; 3 rows of the item file left out"
    assert "Only 1 of the 4 items of the log are described in items.csv" in caplog.text
    assert titles(prepared) == [None, "B", None, None]


def test_rows_that_repeat_an_item_are_counted_and_get_a_warning(join, caplog):
    """Regression: the first of three rows per item was kept without a warning."""
    counts, _ = join("item_id,title\n" + "".join(f"{item},{n}\n" for item in "abcd" for n in range(3)))
    assert (counts["described"], counts["repeated"]) == (4, 8)
    assert headline(counts) == "4 items, 4 described; 8 rows of the item file left out"
    assert "8 rows of items.csv repeat an item: the first row of each item counts" in caplog.text


def test_items_of_the_file_alone_are_added_with_catalogue_items_and_else_left_out(join):
    text = "item_id,title\na,A\nb,B\nc,C\nd,D\nz,Z\nz,again\n"
    counts, _ = join(text, catalogue="items")
    assert (counts["added"], counts["repeated"], counts["of_other_items"]) == (1, 1, 0)
    assert headline(counts) == "4 items, 4 described and 1 more; 1 rows of the item file left out"


def test_a_named_column_without_values_gets_a_warning(join, caplog):
    text = "item_id,title,tag,size\na,A,,\nb,B,,\nc,C,x,\nd,,,\n"
    counts, _ = join(text, categories="tag", features={"tag": "values", "size": "number"})
    assert counts["with"] == {"title": 3, "categories": 1, "feature tag": 1, "feature size": 0}
    assert "No item of the log has a value in feature size of items.csv." in caplog.text


def test_malformed_rows_are_dead_letters_with_their_offsets(join, caplog):
    text = b'item_id,title\na,A\nb\nc,"x" y\n,nothing\nd,\xff\nb,B\n'
    counts, prepared = join(text)
    reasons = ["wrong number of columns", "text after a closing quote", "empty item id", "not UTF-8"]
    assert counts["malformed"] == dict.fromkeys(reasons, 1)
    letters = [json.loads(line) for line in (prepared / schema.DEAD_LETTER / "item file.jsonl").open()]
    assert [letter["reason"] for letter in letters] == reasons
    assert {letter["file"] for letter in letters} == {"items.csv"}
    for letter in letters[:3]:
        assert text[letter["offset"] :].startswith(letter["text"].encode())
    assert "4 rows of items.csv are malformed" in caplog.text


@pytest.mark.parametrize(
    ("title", "reason"),
    [
        ('"Rome', "a quote that never closes: 1"),
        ('"disk 3.5\\""', "Quotes that are escaped by a backslash need data.items"),
    ],
)
def test_too_many_malformed_rows_are_refused(join, prepare_log, write_csv, tmp_path, title, reason):
    """Regression: a quote that never closes hid every row after it."""
    path = tmp_path / "items.csv"
    path.write_text(f"item_id,title\na,A\nb,{title}\nc,C\nd,D\n")
    items = ItemFile(path=path, title="title")
    with pytest.raises(
        UserError, match=r"Expected at most 1\.00% malformed rows in items\.csv, found 25\.00%"
    ) as error:
        prepare_log(write_csv(ROWS), items=items, max_malformed_share=0.01)
    assert reason in str(error.value)
    counts, prepared = join(path.read_text())
    assert counts["described"] == 3
    assert titles(prepared) == ["A", None, "C", "D"]


def test_a_quoted_text_that_holds_the_row_of_an_item_is_no_text(join):
    """Regression: two single quotes, at the beginning and the end of fields, made one row of three."""
    counts, prepared = join('item_id,title\na,"Rome\nb,B\nc,Bonn"\nd,"D, or\nD, perhaps"\n')
    assert counts["malformed"] == {"a quoted field that holds a whole row": 3}
    assert titles(prepared) == [None, None, None, "D, or\nD, perhaps"]


def test_a_long_field_that_is_not_read_refuses_nothing(join):
    counts, prepared = join(f'item_id,title,html\na,A,"{"z" * 140_000}"\nb,B,x\nc,C,x\nd,D,x\n')
    assert counts["described"] == 4
    assert titles(prepared) == ["A", "B", "C", "D"]
