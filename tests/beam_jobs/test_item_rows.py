"""Item files in every format of logs give the same details."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.item_accounts import ItemAccounts
from beam_jobs.item_details import find_details, read_details
from beam_jobs.item_rows import NOT_UTF8, TOO_FEW_FIELDS, JsonItems, MoviesDat, ParquetItems
from beam_jobs.logs.inputs import InputFile
from tfdnc.contracts.data_config import DataConfig, ItemFile
from tfdnc.contracts.errors import UserError

ITEMS = [
    {"sku": 7, "name": "Seven", "tags": ["a", "b"], "price": 2.5, "sold": True},
    {"sku": 8, "name": None, "tags": [], "price": None, "sold": None},
    {"sku": 9, "name": 'Nine, the "ninth"', "tags": ["c"], "price": 40.0, "sold": False},
]
FEATURES = {"tags": "values", "price": "number", "sold": "value"}


def write_text(path, separator, quotes="doubled"):
    def field(value):
        text = "" if value is None else "|".join(value) if isinstance(value, list) else str(value)
        text = text.lower() if isinstance(value, bool) else text
        mark = {"doubled": '""', "escaped": '\\"', "none": '"'}[quotes]
        return text if quotes == "none" or '"' not in text else f'"{text.replace(chr(34), mark)}"'

    lines = [separator.join(ITEMS[0]), *(separator.join(map(field, row.values())) for row in ITEMS)]
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write(path, **settings):
    if "jsonl" in path.name or settings.get("format") == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ITEMS))
    elif "parquet" in path.name:
        pq.write_table(pa.Table.from_pylist(ITEMS), path)
    else:
        separator = settings.get("field_separator", "\t" if ".tsv" in path.name else ",")
        write_text(path, separator, settings.get("quotes", "doubled"))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("items.csv", {}),
        ("items.csv", {"quotes": "escaped"}),
        ("items.tsv", {}),
        ("items.tsv.gz", {"quotes": "none"}),
        ("items.txt", {"field_separator": ";"}),
        ("items.jsonl", {}),
        ("items.txt", {"format": "jsonl"}),
        ("items.parquet", {}),
    ],
)
def test_every_format_gives_the_same_details(tmp_path, name, settings):
    """Regression: all formats but CSV with commas ended in a decode error."""
    path = tmp_path / name
    write(path, **settings)
    items = ItemFile(path=path, item="sku", title="name", categories="tags", features=FEATURES, **settings)
    accounts = ItemAccounts()
    known = read_details(find_details(DataConfig(path="log.csv", items=items)), ["9", "7", "8", "1"], False, accounts)
    assert known.titles == ['Nine, the "ninth"', "Seven", None, None]
    assert known.categories == [["c"], ["a", "b"], [], None]
    assert known.features == [
        ["tags=c", "price=40..40", "sold=false"],
        ["tags=a", "tags=b", "price=2.5..2.5", "sold=true"],
        [],
        None,
    ]
    assert not accounts.malformed


def test_unreadable_rows_of_json_are_malformed(tmp_path):
    path = tmp_path / "items.jsonl"
    rows = [
        '{"item_id": "a", "title": {"en": "A"}}',
        "[1]",
        '{"item_id": 1.5}',
        '{"title": "x"}',
        "{",
        '{"item_id": 7}',
    ]
    path.write_text("".join(f"{row}\n" for row in rows))
    accounts = ItemAccounts()
    details = find_details(DataConfig(path="log.csv", items=ItemFile(path=path, title="title")))
    assert read_details(details, ["7"], False, accounts).item_ids == ["7"]
    assert [reason for _, _, reason in accounts.malformed] == [
        "a value that is neither text, a number nor a list of these",
        "not one JSON object",
        "id is neither text nor an integer",
        "empty item id",
        "not one JSON object",
    ]
    assert [text.decode() for _, text, _ in accounts.malformed] == rows[:5]


def test_ids_in_parquet_are_text_or_integers(tmp_path):
    """7.0 is no id of a log: pandas writes it for 7 in a column with a missing id."""
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item_id": [7.0, None]}), path)
    accounts = ItemAccounts()
    read_details(find_details(DataConfig(path="log.csv", items=ItemFile(path=path))), ["7"], False, accounts)
    assert accounts.malformed == [
        (0, b'{"item_id": 7.0}', "id is neither text nor an integer"),
        (1, b'{"item_id": null}', "empty item id"),
    ]


def test_errors_name_missing_columns(tmp_path):
    path = tmp_path / "items.parquet"
    path.write_text("item_id,title\n")
    with pytest.raises(UserError, match=r"Expected a Parquet file at .*items\.parquet"):
        find_details(DataConfig(path="log.csv", items=ItemFile(path=path)))
    pq.write_table(pa.table({"item_id": [7]}), path)
    with pytest.raises(UserError, match=r"Expected column 'title' in .*found item_id; set data\.items\.title"):
        find_details(DataConfig(path="log.csv", items=ItemFile(path=path, title="title")))


def test_a_line_of_movies_without_separators_is_malformed(tmp_path):
    """Regression: it ended in a traceback; a line with one separator was counted."""
    path = tmp_path / "movies.dat"
    path.write_bytes(b"1::One (1999)::Drama\ngarbage\n2::Two\n")
    rows = list(MoviesDat(InputFile(str(path), path.stat().st_size, 0)).read(()))
    assert [row.fault for row in rows] == [None, TOO_FEW_FIELDS, TOO_FEW_FIELDS]
    assert (rows[0].item_id, rows[0].values) == ("1", ["One (1999)", "Drama", "Drama", "1999"])


def test_half_a_pair_of_surrogates_is_no_text(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"sku": 1, "name": "\\ud800"}\n{"sku": 2, "name": "fine"}\n')
    rows = list(JsonItems(InputFile(str(path), path.stat().st_size, 0), ("sku", "name")).read(()))
    assert [row.fault for row in rows] == [NOT_UTF8, None]


def test_parquet_values_that_python_cannot_hold_are_a_sentence(tmp_path):
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"sku": ["a"], "made": pa.array([1], pa.timestamp("ns"))}), path)
    items = ParquetItems(InputFile(str(path), path.stat().st_size, 0), ("sku", "made"))
    with pytest.raises(UserError, match=r"^Expected values that Python can hold in sku, made of .*Cast these columns"):
        list(items.read(()))
