"""Input files: paths, globs, lists and URLs, their order, and stores that are read like disks."""

import bz2
import gzip
import json
import lzma
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.logs.inputs import InputFile, find_beside, find_files, open_bytes
from beam_jobs.logs.log_formats import find_log
from beam_jobs.sequences import prepare
from tests.beam_jobs.scheme_fs import BucketFileSystem
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Makes a working folder with some files."""
    for name in ("b/2.csv", "b/1.csv", "a/2.csv", "a/x.txt", "a/deep/1.csv", "a[1].csv", "a1.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    for name in (
        "part-0.csv",
        "_SUCCESS",
        ".part-0.csv.crc",
        "_committed_1",
        "day=1/part-1.csv",
        "_temporary/part-2.csv",
    ):
        (tmp_path / "spark" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "spark" / name).touch()
    (tmp_path / "spark" / ".hidden").mkdir()
    (tmp_path / "spark" / ".hidden" / "part-3.csv").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("locations", "expected"),
    [
        (["b/1.csv"], ["b/1.csv"]),
        (["b/2.csv", "b/1.csv", "./b/2.csv"], ["b/1.csv", "b/2.csv"]),
        (["b/*.csv"], ["b/1.csv", "b/2.csv"]),
        (["?/2.csv", "b/1.csv"], ["b/1.csv", "a/2.csv", "b/2.csv"]),  # by name, then by path
        (["[!s]**1.csv"], ["a/deep/1.csv", "b/1.csv", "a1.csv"]),
        (["*[1].csv"], ["a1.csv"]),
        (["a[1].csv"], ["a[1].csv"]),  # exists, and so is no glob
        (["spark/*"], ["spark/part-0.csv"]),
        (["spark/**"], ["spark/day=1/part-1.csv", "spark/part-0.csv"][::-1]),
        (["spark/_SUCCESS", "spark/*"], ["spark/_SUCCESS", "spark/part-0.csv"]),  # named exactly
        (["spark/_S*"], ["spark/_SUCCESS"]),
        (["spark/_temporary/*.csv"], ["spark/_temporary/part-2.csv"]),
    ],
)
def test_files_come_once_and_in_order_of_their_names(folder, locations, expected):
    assert [file.path for file in find_files(locations, "data.path")] == [str(folder / name) for name in expected]


def test_a_file_has_its_size_and_time(folder):
    [file] = find_files(["b/1.csv"], "data.path")
    assert file == InputFile(str(folder / "b/1.csv"), 7, os.stat("b/1.csv").st_mtime)
    assert (file.name, file.local, file.compressed) == ("1.csv", True, False)


def test_files_of_a_folder_of_any_name_are_found(folder):
    (folder / "?").mkdir()
    (folder / "?" / "2.csv").touch()
    assert [file.path for file in find_beside("?", "*.csv")] == [str(folder / "?" / "2.csv")]
    assert find_beside("nowhere", "*.csv") == []


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("c/*.csv", r"Expected a file at c/\*.csv, found no file there; set data.path"),
        ("b", r"Expected files at b, found a folder; set data.path to its files, as in b/\*.csv"),
        ("spark/.*.crc/*", r"Expected a file at spark/\.\*\.crc/\*, found no file there"),
        (
            "spark/?SUCCESS",
            "found only files whose names, or those of their folders, begin with _ or ., such as .*_SUCC",
        ),
        ("nobody://bucket/log.csv", "Expected to find nobody://bucket/log.csv, could not look there"),
    ],
)
def test_a_location_without_files_is_an_error(folder, location, message):
    with pytest.raises(UserError, match=message):
        find_files(["b/1.csv", location], "data.path")


def test_the_advice_on_a_folder_depends_on_the_format(folder):
    for format_ in ("csv", "jsonl", "parquet"):
        with pytest.raises(UserError, match=rf"set data.path to its files, as in b/\*\.{format_}\."):
            find_log(DataConfig(path="b/", format=format_))


def test_a_gzip_file_that_ends_early_is_an_error(tmp_path):
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(os.urandom(1000))[:500])
    [file] = find_files([str(path)], "data.path")
    with pytest.raises(UserError, match=r"Expected a whole gzip file at .*log.csv.gz"), open_bytes(file) as stream:
        stream.read()


ROWS = [(user, item, 10 * user + item) for item in (3, 1, 2, 4) for user in range(1, 10)]
CSV = "user_id,item_id,timestamp\n" + "".join(f"{user},{item},{time}\n" for user, item, time in ROWS)
TABLE = pa.table(dict(zip(("user_id", "item_id", "timestamp"), map(list, zip(*ROWS, strict=True)), strict=True)))
KUAIRAND = "user_id,video_id,time_ms,is_click\n" + "".join(f"{user},{item},{time},1\n" for user, item, time in ROWS)
RATINGS = "".join(f"{user}::{item}::5::{time}\n" for user, item, time in ROWS)


@pytest.fixture
def parquet_bytes():
    sink = pa.BufferOutputStream()
    pq.write_table(TABLE, sink, row_group_size=10)
    return sink.getvalue().to_pybytes()


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Makes a store that Python's own functions cannot open; returns a function that puts an object there."""
    root = tmp_path / "bucket"
    root.mkdir()
    monkeypatch.setattr(BucketFileSystem, "root", root)

    def put(url, content):
        with BucketFileSystem(None).create(url) as stream:
            stream.write(content)

    return put


def prepared(data, output):
    data = {"min_item_events": 1, "min_user_events": 3, "num_shards": 2, **data}
    figures = prepare(DataConfig.model_validate(data), output, ["--chunk_bytes=100"])
    assert figures["rows_read"] == figures["events"] + sum(figures["rows_malformed"].values())
    return figures["split_sha256"], {path.name: path.read_bytes() for path in Path(output).rglob("*.parquet")}


@pytest.fixture
def expected(tmp_path):
    (tmp_path / "log.csv").write_text(CSV)
    return prepared({"path": tmp_path / "log.csv"}, tmp_path / "expected")


def test_every_format_in_a_store_gives_the_bytes_of_a_csv_on_a_disk(bucket, parquet_bytes, expected, tmp_path):
    lines = "".join(json.dumps(row) + "\n" for row in TABLE.to_pylist())
    logs = [
        ("csv", "log.csv", CSV.encode()),
        ("csv", "log.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("csv", "log.csv.bz2", bz2.compress(CSV.encode())),
        ("jsonl", "log.jsonl", lines.encode()),
        ("jsonl", "log.jsonl.xz", lzma.compress(lines.encode())),
        ("jsonl", "log.jsonl.gz", gzip.compress(b"\xef\xbb\xbf" + lines.encode(), mtime=0)),
        ("parquet", "log.parquet", parquet_bytes),
        ("kuairand", "1k/log_standard_1k.csv", KUAIRAND.encode()),
        ("movielens", "ml/ratings.dat", RATINGS.encode()),
    ]
    for number, (format_, name, content) in enumerate(logs):
        bucket(f"bucket://logs/{name}", content)
        data = {"format": format_, "path": f"bucket://logs/{name.partition('/')[0]}"}
        assert prepared(data, tmp_path / str(number)) == expected, name


def test_a_log_may_be_many_files_and_the_item_file_may_be_elsewhere(bucket, expected, tmp_path):
    header, *lines = CSV.splitlines()
    for number in range(4):
        part = [header, *lines[number * 9 : number * 9 + 9]]
        if number % 2:  # another order of columns in this file
            part = [",".join(reversed(line.split(","))) for line in part]
        bucket(f"bucket://logs/part-{number}.csv", "\n".join(part).encode())
    bucket("bucket://shop/items.csv", b"item_id,name\n1,One\n3,Three\n")
    globs = {"path": ["bucket://logs/part-[23].csv", "bucket://logs/part-0.csv", "bucket://logs/*1.csv"]}
    assert prepared(globs, tmp_path / "parts") == expected
    details = {"items": {"path": "bucket://shop/items.csv", "title": "name"}}
    prepared(globs | details, tmp_path / "titles")
    titles = pq.read_table(tmp_path / "titles" / schema.VOCABULARY)["title"].to_pylist()
    assert titles == ["One", None, "Three", None]


def test_malformed_rows_of_files_of_one_name_are_kept_apart(tmp_path):
    for day in ("01", "02"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "log.csv").write_text(CSV + f"bad {day}\n")
    prepared({"path": f"{tmp_path}/0?/log.csv", "max_malformed_share": 0.1}, tmp_path / "out")
    letters = tmp_path / "out" / schema.DEAD_LETTER
    found = [json.loads((letters / day / "log.csv.jsonl").read_text()) for day in ("01", "02")]
    assert [(letter["file"], letter["text"]) for letter in found] == [
        ("01/log.csv", "bad 01"),
        ("02/log.csv", "bad 02"),
    ]
    with pytest.raises(UserError, match=r"bad 01.*\n.*bad 02"):
        prepared({"path": f"{tmp_path}/0?/log.csv"}, tmp_path / "refused")


def test_a_file_that_lacks_a_column_is_named(tmp_path):
    (tmp_path / "a.csv").write_text(CSV)
    (tmp_path / "b.csv").write_text(CSV.replace("item_id", "sku"))
    with pytest.raises(
        UserError, match=r"Expected column 'item_id' in .*b.csv, found user_id, sku, timestamp; set data"
    ):
        prepared({"path": f"{tmp_path}/*.csv"}, tmp_path / "out")


@pytest.mark.parametrize("format_", ["movielens", "kuairand"])
def test_a_folder_is_one_folder(format_):
    with pytest.raises(
        UserError, match=f"Expected data.path to be one folder for data.format {format_}, found 2 paths"
    ):
        prepared({"format": format_, "path": ["a", "b"]}, "nowhere")
