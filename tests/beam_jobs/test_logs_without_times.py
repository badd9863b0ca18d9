"""A log without times is in order of its files and rows, in every format and for every size of pieces."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfdnc.contracts.config import parse_config
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError

ROWS = [(f"u{n % 3}", f"i{n * 7 % 11}") for n in range(60)]
ORDER = {user: [(item, 0) for other, item in ROWS if other == user] for user in ("u0", "u1", "u2")}
NO_TIMES = {"columns": {"time": None}}


def write(folder, format_, rows, name):
    path = folder / f"{name}.{format_}"
    match format_:
        case "csv":
            path.write_text("user_id,item_id,title\n" + "".join(f'{u},{i},"a\n""b"""\n' for u, i in rows))
        case "jsonl":
            path.write_text("".join(json.dumps({"user_id": u, "item_id": i, "timestamp": "?"}) + "\n" for u, i in rows))
        case "parquet":
            columns = dict(zip(("user_id", "item_id"), map(pa.array, zip(*rows, strict=True)), strict=True))
            pq.write_table(pa.table(columns), path, row_group_size=7)
    return str(path)


@pytest.mark.parametrize("format_", ["csv", "jsonl", "parquet"])
def test_the_order_is_that_of_files_and_rows(tmp_path, prepare_log, read_users, bytes_of, format_):
    # Files are in order of their names; the first one is larger, and has many pieces.
    paths = [write(tmp_path, format_, rows, name) for name, rows in (("b", ROWS[40:]), ("a", ROWS[:40]))]
    figures, prepared = prepare_log(paths, ["--chunk_bytes=50"], format=format_, **NO_TIMES)
    assert read_users(prepared) == ORDER
    assert (figures["times"], figures["days"], figures["rows_malformed"]) == ([0, 0], None, {})
    if format_ == "csv":
        assert prepare_log(paths, name="whole", format=format_, **NO_TIMES)[0] == figures
        assert bytes_of(tmp_path / "whole") == bytes_of(prepared)


def test_published_files_of_pairs_need_no_header(tmp_path, prepare_log, read_users):
    (tmp_path / "pairs.txt").write_text("".join(f"{user} {item}\n" for user, item in ROWS))
    pairs = {"header": ["who", "what"], "separator": " ", "columns": {"user": "who", "item": "what", "time": None}}
    _, prepared = prepare_log(tmp_path / "pairs.txt", ["--chunk_bytes=50"], **pairs)
    assert read_users(prepared) == ORDER


def test_rules_go_by_the_order_of_the_log(tmp_path, prepare_log, read_users):
    rows = [("u", item) for item in "abbca"] + [("v", item) for item in "ccabb"]
    path = write(tmp_path, "jsonl", rows, "log")
    _, prepared = prepare_log(path, format="jsonl", repeats="collapse", max_events_per_user=4, **NO_TIMES)
    items = {user: "".join(item for item, _ in events) for user, events in read_users(prepared).items()}
    assert items == {"u": "bca", "v": "cab"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"session_gap": 60}, "columns.time to name a column with session_gap, got null"),
        ({"split": "time", "validation_from": 1, "test_from": 2}, "to name a column with split: time, got null"),
    ],
)
def test_rules_that_read_times_need_a_column_of_times(data, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(path="log.csv", **NO_TIMES, **data)


@pytest.mark.parametrize(("key", "value"), [("times", True), ("popular_days", 7)])
def test_a_model_that_reads_times_needs_a_column_of_them(key, value):
    config = {"name": "x", "data": {"path": "log.csv", **NO_TIMES}, "model": {key: value}}
    with pytest.raises(UserError, match=rf"expected data.columns.time to name a column with model.{key}, got null"):
        parse_config(config)


def test_the_advice_on_a_log_without_the_column_names_null(tmp_path, prepare_log):
    for format_ in ("csv", "parquet"):
        path = write(tmp_path, format_, ROWS, "log")
        with pytest.raises(UserError, match=r"set data.columns.time, or to null if the log has no times and its rows"):
            prepare_log(path, format=format_)
