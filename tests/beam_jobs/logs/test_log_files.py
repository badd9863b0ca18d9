"""Files of a log and their pieces: every row belongs to exactly one piece."""

import bz2
import gzip
import lzma

import pytest

from beam_jobs.logs.log_files import Piece, cut, read_piece
from beam_jobs.logs.log_formats import find_log, read_header
from tfdnc.contracts.data_config import ColumnMapping, DataConfig
from tfdnc.contracts.errors import UserError


def pieces_of(log, chunk_bytes):
    return [piece for number in range(len(log.files)) for piece in cut(log, number, chunk_bytes)]


def read_all(log, chunk_bytes):
    """Returns (user, item, time) of every row, piece after piece."""
    found = []
    for piece in pieces_of(log, chunk_bytes):
        for rows in read_piece(log, piece, chunk_bytes):
            columns = (rows.events["user"].cast("string"), rows.events["item"].cast("string"), rows.events["time"])
            found += zip(*(column.to_pylist() for column in columns), strict=True)
    return found


ROWS = [(f"u{i}", "i" * (i % 7 + 1), i) for i in range(50)]


@pytest.mark.parametrize("chunk_bytes", [1, 2, 7, 64, 10_000])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_byte_ranges_read_every_row_once_in_order(tmp_path, chunk_bytes, line_end):
    path = tmp_path / "log.csv"
    text = line_end.join(["user_id,item_id,timestamp", *(",".join(map(str, row)) for row in ROWS)])
    path.write_bytes(text.encode())  # the last line has no end
    log = find_log(DataConfig(path=path))
    assert read_all(log, chunk_bytes) == ROWS
    assert len(pieces_of(log, chunk_bytes)) == -(-(len(text) - log.files[0].data_start) // chunk_bytes)


@pytest.mark.parametrize("chunk_bytes", [1, 64, 10_000])
@pytest.mark.parametrize(("ending", "module"), [("gz", gzip), ("bz2", bz2), ("xz", lzma)])
def test_a_compressed_log_is_one_piece_read_in_blocks(tmp_path, chunk_bytes, ending, module):
    path = tmp_path / f"log.csv.{ending}"
    lines = ["user_id,item_id,timestamp", *(",".join(map(str, row)) for row in ROWS)]
    path.write_bytes(module.compress("\n".join(lines).encode()))
    log = find_log(DataConfig(path=path))
    assert pieces_of(log, chunk_bytes) == [Piece(0, log.files[0].data_start, None)]
    assert read_all(log, chunk_bytes) == ROWS


@pytest.mark.parametrize("chunk_bytes", [1, 64, 10_000])
@pytest.mark.parametrize("compress", [False, True])
def test_quoted_line_ends_make_one_piece(tmp_path, chunk_bytes, compress):
    rows = [*ROWS, ('a "b"\nc,d', "x\n\ny", 7), ("z", "z", 8)]
    lines = ["user_id,item_id,timestamp", *(f"{u},{i},{t}" for u, i, t in ROWS)]
    lines += ['"a ""b""\nc,d","x\n\ny",7', "z,z,8"]
    text = "\n".join(lines).encode()
    path = tmp_path / ("log.csv.gz" if compress else "log.csv")
    path.write_bytes(gzip.compress(text) if compress else text)
    log = find_log(DataConfig(path=path))
    assert len(pieces_of(log, chunk_bytes)) == 1
    assert read_all(log, chunk_bytes) == rows


def test_columns_are_found_by_name_in_any_order(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b'\xef\xbb\xbftime_ms,"video, id",who\n5,v,w\n')
    columns = ColumnMapping(user="who", item="video, id", time="time_ms")
    log = find_log(DataConfig(path=path, columns=columns))
    assert read_all(log, 100) == [("w", "v", 5)]
    assert read_header(log.files[0].file)[0] == ["time_ms", "video, id", "who"]


@pytest.mark.parametrize("separator", ["\t", ";", "|", " ", "\x1f"])
@pytest.mark.parametrize("quotes", ["doubled", "none"])
def test_fields_may_be_separated_by_any_character(tmp_path, separator, quotes):
    path = tmp_path / "log.csv"
    rows = [("user_id", "item_id", "timestamp"), ("a,b", "c", "1"), ("d", '"e"', "2")]
    path.write_text("".join(separator.join(row) + "\n" for row in rows))
    log = find_log(DataConfig(path=path, separator=separator, quotes=quotes))
    assert read_all(log, 10) == [("a,b", "c", 1), ("d", "e" if quotes == "doubled" else '"e"', 2)]


@pytest.mark.parametrize("name", ["log.tsv", "log.TSV.gz", "log.tab.bz2"])
def test_files_named_tsv_are_separated_by_tabs(tmp_path, name):
    write = {"gz": gzip.compress, "bz2": bz2.compress}.get(name[-3:].lstrip("."), bytes)
    (tmp_path / name).write_bytes(write(b"user_id\titem_id\ttimestamp\na,b\tc\t1\n"))
    assert read_all(find_log(DataConfig(path=tmp_path / name)), 10) == [("a,b", "c", 1)]


@pytest.mark.parametrize("separator", ["", ",,", '"', "\n", "é"])
def test_a_separator_is_one_character(separator):
    with pytest.raises(ValueError, match="expected one ASCII character that is no quote and no line end"):
        DataConfig(path="log.csv", separator=separator)
    assert DataConfig(path="log.csv", separator=r"\t").separator == "\t"  # unquoted in YAML


def test_an_empty_file_is_a_part_without_rows(tmp_path):
    (tmp_path / "part-0.csv").touch()
    (tmp_path / "part-1.csv").write_text("user_id,item_id,timestamp\na,b,1\n")
    (tmp_path / "part-2.csv.gz").write_bytes(gzip.compress(b""))
    log = find_log(DataConfig(path=f"{tmp_path}/part-*"))
    assert (read_all(log, 100), log.names) == ([("a", "b", 1)], ["part-1.csv"])
    with pytest.raises(UserError, match=r"Expected events in .*, found 2 empty files"):
        find_log(DataConfig(path=(f"{tmp_path}/part-0.csv", f"{tmp_path}/part-2.csv.gz")))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "Expected data.path to name the log"),
        ({"path": "nowhere.csv"}, "Expected a file at nowhere.csv, found no file there; set data.path"),
        ({"path": "empty.csv"}, "Expected events in empty.csv, found an empty file"),
        ({"path": "log.csv", "columns": {"time": "when"}}, "column 'when' in .*found user_id, item_id, timestamp; set"),
        ({"path": ".", "format": "movielens"}, r"Expected ratings.dat \(user::item::rating::time\) in folder"),
        ({"path": "not.csv.gz"}, "Expected a whole gzip file at .*not.csv.gz, could not decompress it"),
    ],
)
def test_errors_name_the_expected_content(tmp_path, monkeypatch, config, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").touch()
    (tmp_path / "not.csv.gz").write_text("plain")
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n")
    with pytest.raises(UserError, match=message):
        find_log(DataConfig.model_validate(config))
