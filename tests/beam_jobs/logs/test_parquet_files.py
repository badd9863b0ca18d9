"""Parquet logs: types of columns that can be read, and malformed rows."""

import datetime
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.logs.log_files import cut, read_piece
from beam_jobs.logs.log_formats import find_log
from beam_jobs.logs.log_rows import EMPTY_ITEM, EMPTY_USER, NOT_UTF8
from beam_jobs.logs.log_times import BAD_ISO_TIME, BAD_TIME
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError

S = 1_000_000


@pytest.fixture
def find_parquet(tmp_path):
    """Returns a function that writes columns as a Parquet file and returns the log of a config with it."""

    def find(table, row_group_size=None, **config):
        path = tmp_path / "log.parquet"
        pq.write_table(pa.table(table), path, row_group_size=row_group_size)
        return find_log(DataConfig(format="parquet", path=path, **config))

    return find


def read(log, chunk_bytes=1 << 20):
    """Returns [(user, item, time)] and [(offset, text, reason)] of the whole log."""
    events, malformed = [], []
    for piece in cut(log, 0, chunk_bytes):
        for rows in read_piece(log, piece, chunk_bytes):
            columns = (rows.events["user"].cast("string"), rows.events["item"].cast("string"), rows.events["time"])
            events += zip(*(column.to_pylist() for column in columns), strict=True)
            malformed += rows.malformed
    return events, malformed


def columns(user=(1, 2), item=("a", "b"), time=(5, 6)):
    return {"user_id": pa.array(user), "item_id": pa.array(item), "timestamp": pa.array(time)}


IDS = [
    pa.array([7, -8]),
    pa.array([7, 8], pa.uint16()),
    pa.array(["7", "é"]),
    pa.array(["7", "8"], pa.large_string()),
    pa.array([b"7", b"8"]),
    pa.array([b"7", b"8"], pa.large_binary()),
    pa.array(["7", "8"]).dictionary_encode(),
    pa.array(["7", "8"], pa.large_string()).dictionary_encode(),
    pa.array([7, 8]).dictionary_encode(),
    pa.array(["7", "é"], pa.string_view()),
    pa.array([b"7", b"8"], pa.binary_view()),
    pa.array([7, -(10**30)], pa.decimal128(38, 0)),  # as Snowflake writes every integer
    pa.array([7, 8], pa.decimal256(50, 0)),
]


@pytest.mark.parametrize("ids", IDS, ids=lambda ids: str(ids.type))
def test_ids_are_integers_text_or_bytes(find_parquet, ids):
    expected = [value.decode() if isinstance(value, bytes) else str(value) for value in ids.to_pylist()]
    events, malformed = read(find_parquet(columns(user=ids, item=ids)))
    assert events == list(zip(expected, expected, [5, 6], strict=True))
    assert malformed == []


@pytest.mark.parametrize(
    ("time_unit", "times"),
    [
        ("s", pa.array([5, 6])),
        ("ms", pa.array([5, 6], pa.int16())),
        ("us", pa.array([5, 6], pa.uint64())),
        ("s", pa.array(["5", "6"])),
        ("s", pa.array(["5", "6"]).dictionary_encode()),
        ("s", pa.array([5, 6]).dictionary_encode()),
        ("s", pa.array(["5", "6"], pa.string_view())),
        ("ms", pa.array([5, 6], pa.decimal128(38, 0))),
        ("iso", pa.array(["1970-01-01T00:00:00.000005Z", "1970-01-01 00:00:00.000006 UTC"], pa.string_view())),
        ("iso", pa.array(["1970-01-01T00:00:00.000005", "1970-01-01T00:00:00.000006Z"])),
        ("iso", pa.array([5, 6], pa.timestamp("us"))),
        ("iso", pa.array([5_999, 6_000], pa.timestamp("ns", "Asia/Tokyo"))),
    ],
    ids=str,
)
def test_times_are_integers_in_the_unit_or_text_or_have_their_own_unit(find_parquet, time_unit, times):
    events, malformed = read(find_parquet(columns(time=times), time_unit=time_unit))
    assert [time for _, _, time in events] == [5, 6]
    assert malformed == []


def test_timestamps_of_any_unit_become_microseconds(find_parquet):
    day = datetime.date(1969, 12, 31)
    for times in (pa.array([-86_400, 1], pa.timestamp("ms")), pa.array([day, day])):
        events, _ = read(find_parquet(columns(time=times), time_unit="iso"))
        assert events[0][2] == (-86_400 * 1000 if pa.types.is_timestamp(times.type) else -86_400 * S)


def test_malformed_rows_are_reported_with_their_number_and_as_json(find_parquet):
    table = {
        "user_id": pa.array(["u", None, "", "u", "u", b"\xff"], pa.binary()),
        "item_id": pa.array([1, 2, 3, None, 5, 6]),
        "timestamp": pa.array([1, None, 3, 4, None, 6]),
        "rating": pa.array([1.0] * 6),
    }
    log = find_parquet(table, row_group_size=4)
    events, malformed = read(log)
    assert events == [("u", "1", 1)]
    assert [(offset, reason) for offset, _, reason in malformed] == [
        (1, EMPTY_USER),
        (2, EMPTY_USER),
        (3, EMPTY_ITEM),
        (4, BAD_TIME),
        (5, NOT_UTF8),
    ]
    assert json.loads(malformed[2][1]) == {"user_id": "u", "item_id": None, "timestamp": 4}
    assert json.loads(malformed[4][1]) == {"user_id": "�", "item_id": 6, "timestamp": 6}


def test_a_decimal_that_is_no_time_is_a_malformed_row(find_parquet):
    times = pa.array([10**30, None, 7], pa.decimal128(38, 0))
    events, malformed = read(find_parquet(columns(user=[1, 2, 3], item=["a", "b", "c"], time=times)))
    assert events == [("3", "c", 7)]
    assert [json.loads(text)["timestamp"] for _, text, _ in malformed] == [str(10**30), None]


def test_a_malformed_row_shows_times_that_python_cannot_hold(find_parquet):
    times = pa.array([2**62, 1], pa.timestamp("ms"))
    _, [(_, far, reason)] = read(find_parquet(columns(time=times), time_unit="iso"))
    assert reason == BAD_ISO_TIME
    assert json.loads(far)["user_id"] == 1
    times = pa.array([1, 2], pa.timestamp("ns", "UTC"))
    _, [(_, near, _)] = read(find_parquet(columns(user=[None, 1], time=times), time_unit="iso"))
    assert json.loads(near)["timestamp"] == "1970-01-01 00:00:00.000000001"


@pytest.mark.parametrize("chunk_bytes", [1, 100, 1 << 20])
def test_a_piece_is_a_row_group_read_in_blocks(find_parquet, chunk_bytes):
    log = find_parquet(columns(range(50), [f"i{i % 5}" for i in range(50)], range(50)), row_group_size=20)
    assert [(piece.start, piece.end) for piece in cut(log, 0, chunk_bytes)] == [(0, 1), (1, 2), (2, 3)]
    events, _ = read(log, chunk_bytes)
    assert events == [(str(n), f"i{n % 5}", n) for n in range(50)]
    [first, *_] = read_piece(log, list(cut(log, 0, chunk_bytes))[1], chunk_bytes)
    assert first.offset == 20


def test_a_file_without_rows_has_none(find_parquet):
    empty = {name: values.slice(0, 0) for name, values in columns().items()}
    assert read(find_parquet(empty)) == ([], [])


@pytest.mark.parametrize(
    ("table", "config", "message"),
    [
        (columns(), {"columns": {"item": "sku"}}, "column 'sku' in .*found user_id, item_id, timestamp; set data.colu"),
        (columns(user=[1.0, 2.0]), {}, "integers or text in column 'user_id' of .*log.parquet, found double; cast"),
        (columns(item=[[1], [2]]), {}, "integers or text in column 'item_id' of .*found list"),
        (columns(user=pa.array([1, 2], pa.decimal128(38, 2))), {}, r"found decimal128\(38, 2\); cast it to one"),
        (columns(time=[1.0, 2.0]), {}, r"integers \(s\) or text in column 'timestamp' of .*found double; cast it"),
        (columns(time=pa.array([1, 2], pa.timestamp("ms"))), {}, r"found timestamp\[ms\]; set data.time_unit: iso"),
        (columns(), {"time_unit": "iso"}, "timestamps or text in .*found int64; set data.time_unit to s, ms or us"),
    ],
)
def test_columns_that_cannot_be_read_are_refused_before_anything_is(find_parquet, table, config, message):
    with pytest.raises(UserError, match=message):
        find_parquet(table, **config)


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "log.parquet").write_text("user_id,item_id,timestamp\n")
    with pytest.raises(UserError, match=r"Expected a Parquet file at .*log.parquet, could not read its schema"):
        find_log(DataConfig(format="parquet", path=tmp_path / "log.parquet"))


def test_a_damaged_page_is_a_sentence_with_the_name_of_the_file(find_parquet, tmp_path):
    """Regression: with an undamaged footer the file was accepted, and its rows ended in a traceback."""
    log = find_parquet({"user_id": ["a"] * 999, "item_id": [str(row) for row in range(999)], "timestamp": range(999)})
    path = tmp_path / "log.parquet"
    data = bytearray(path.read_bytes())
    data[200:1500] = bytes(1300)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"^Expected a whole Parquet file at .*log.parquet, could not read its rows"):
        read(log)


def test_two_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "log.parquet"
    columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"]), pa.array([1])]
    pq.write_table(pa.table(columns, names=["user_id", "item_id", "item_id", "timestamp"]), path)
    with pytest.raises(UserError, match=r"^Expected one column 'item_id' in .*, found several; rename all but one"):
        find_log(DataConfig(format="parquet", path=path))
