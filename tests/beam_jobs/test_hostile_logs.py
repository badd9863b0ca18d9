"""Unusual logs, from damaged rows to a single item: each works, or is refused with a clear message."""

import bz2
import gzip
import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from mutations import KINDS, write_mutated
from row_oracle import KUAIRAND, filter_users

from beam_jobs.sequences import prepare
from tfdnc.contracts import schema
from tfdnc.contracts.config import parse_config
from tfdnc.contracts.data_config import DataConfig, ItemFile
from tfdnc.contracts.errors import UserError
from tfdnc.pipeline.engine import run_station
from tfdnc.pipeline.stations import CLUSTER, EXAMPLES, PREPARE


@pytest.mark.parametrize("num_rows", [400, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_rows_are_each_in_one_account_for_every_chunk_size(tmp_path, read_users, bytes_of, kind, num_rows):
    config, name, expected = write_mutated(kind, tmp_path, num_rows)
    config = DataConfig.model_validate({"num_shards": 2, "max_malformed_share": 1, **config})
    users, rare = filter_users(expected.kept, config.min_item_events, config.min_user_events)

    figures = prepare(config, tmp_path / "whole")
    assert read_users(tmp_path / "whole") == users
    letters = (tmp_path / "whole" / schema.DEAD_LETTER / f"{name}.jsonl").read_bytes()
    assert [json.loads(line) for line in letters.split(b"\n")[:-1]] == expected.letters[name]
    assert Counter(figures["rows_filtered"]) == expected.filtered + rare
    assert figures["rows_read"] == expected.num_rows
    assert len(expected.reasons) >= 4

    assert prepare(config, tmp_path / "cut", [f"--chunk_bytes={61 * num_rows // 400}"]) == figures
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")
    with pytest.raises(UserError, match=r"Expected at most 1.00% malformed rows in .*, found \d+.\d+% "):
        prepare(config.model_copy(update={"max_malformed_share": 0.01}), tmp_path / "strict")


HEADER = b"user_id,item_id,timestamp\n"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("log.csv", b"", "Expected events in .*log.csv, found an empty file"),
        ("log.csv.gz", b"", "Expected events in .*log.csv.gz, found an empty file"),
        ("log.csv.bz2", bz2.compress(b""), "Expected events in .*log.csv.bz2, found an empty file"),
        ("log.csv", b"\n\n\n", "Expected a CSV header in the first line"),
        ("log.csv", HEADER, "Expected events in .*log.csv, found no rows"),
        ("log.csv", HEADER.rstrip(), "Expected events in .*log.csv, found no rows"),
        ("log.csv.gz", gzip.compress(HEADER, mtime=0), "Expected events in .*log.csv.gz, found no rows"),
        ("log.csv", HEADER + b"\n\r\n\n", "Expected events in .*log.csv, found no rows"),
        (
            "log.csv",
            HEADER + b"a,b,?\n,b,1\na\n",
            r"Expected at most 1.00% .* found 100.00% \(3 of 3; .*\n.*a,b,\?",
        ),
        ("log.csv", HEADER.decode().encode("utf-16"), "Expected CSV text in .*log.csv, could not read its first line"),
        ("log.csv", b"\x00\x01\x02\x03", "Expected column 'user_id' in .*log.csv"),
        ("log.csv", b"user_id;item_id;timestamp\n", "Expected column 'user_id' .*; set data.separator: \";\""),
        ("log.csv", b"user_id\titem_id\ttimestamp\n", r'Expected column .*; set data.separator: "\\t"'),
        ("log.csv", b'"user_id"|"item_id"\n', r"Expected CSV text in .*log.csv, .*; set data.separator: \"\|\""),
        ("log.csv", b"user_id\n", "Expected column 'item_id' in .*; separate the fields by data.separator"),
        (
            "log.csv",
            b"a,b,1\n",
            "Expected column 'user_id' .*found a, b, 1; begin the file with a line of column names",
        ),
        ("log.csv", b"user_id,sku,timestamp\n", "Expected column 'item_id' .*; set data.columns.item"),
        ("log.csv", HEADER + b"a,b,2024-05-01\n", r"Expected at most .*data.time_unit \(iso is for dates as text\)"),
        (
            "log.csv",
            (HEADER + b"a,b,1\n").replace(b"\n", b"\r"),
            "Expected CSV text in .*log.csv, .*; end lines by line",
        ),
        ("log.csv", b"x" * 200_000, "Expected column 'user_id' in .*log.csv, found x{500}; separate the"),
        (
            "log.csv",
            HEADER.replace(b"u", b'"u', 1),
            "Expected CSV text in .*log.csv, could not read its first line, '\"u",
        ),
        (
            "log.csv.gz",
            gzip.compress(HEADER + b"a,b,1\n" * 999, mtime=0)[:-9],
            "Expected a whole gzip file at .*log.csv.gz",
        ),
        ("log.csv.bz2", bz2.compress(HEADER + b"a,b,1\n" * 999)[:-9], "Expected a whole bzip2 file at .*log.csv.bz2"),
        ("log.csv.bz2", HEADER, "Expected a whole bzip2 file at .*log.csv.bz2, could not decompress it: Invalid data"),
        (
            "log.csv.bz2",
            bz2.compress(HEADER + b"a,b,1\n" * 9) + b"?" + bz2.compress(b"a,b,2\n" * 9),
            "Expected a whole bzip2 file at .*log.csv.bz2, could not decompress it",
        ),
        ("log.csv", b"user_id,item_id,timestamp,item_id\na,b,1,c\n", "Expected one column 'item_id' in .*, found 2 of"),
        ("log.csv.xz", HEADER, "Expected a whole xz file at .*log.csv.xz, could not decompress it"),
        (
            "log.csv.zip",
            HEADER,
            "Expected files that are plain or compressed as .*, found .*log.csv.zip; unpack it, and",
        ),
        ("log.tar.gz", HEADER, "Expected files that are plain or compressed as .*, found .*log.tar.gz; unpack it, and"),
        ("log.csv.gz", HEADER, "Expected a whole gzip file at .*log.csv.gz, could not decompress it: Not a gzipped"),
    ],
)
def test_a_file_that_is_no_log_is_refused_with_the_expected_content(tmp_path, prepare_log, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=f"^{message}"):
        prepare_log(tmp_path / name, max_malformed_share=0.01)


def test_quotes_of_spark_are_refused_or_read_with_the_setting(prepare_log, read_users, tmp_path):
    """Regression: six of the nine rows were read, the other three were taken for text of the row before."""
    titles = ["cable", '"disk 3.5\\""', "cable"]
    rows = [f"u{user},i{place},{place},{title}\n" for user in range(3) for place, title in enumerate(titles)]
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp,title\n" + "".join(rows))
    with pytest.raises(UserError, match=r"33.33% \(3 of 9; a quote after a backslash: 3\).*need data.quotes: escaped."):
        prepare_log(tmp_path / "log.csv", max_malformed_share=0.01)
    figures, prepared = prepare_log(tmp_path / "log.csv", quotes="escaped", max_malformed_share=0)
    assert figures["events"] == 9
    assert read_users(prepared)["u1"] == [("i0", 0), ("i1", 1), ("i2", 2)]


@pytest.mark.parametrize("role", ["log", "items"])
@pytest.mark.parametrize("place", [0, 2, 12, 30, -5])  # mark, method, header of the log, more text, checksum
def test_a_gzip_file_with_a_wrong_byte_is_refused(tmp_path, prepare_log, role, place):
    texts = {"log": HEADER + b"a,b,1\nc,b,2\n" * 99, "items": b"item_id,title\nb,B\n"}
    files = {name: tmp_path / f"{name}.csv.gz" for name in texts}
    for name, text in texts.items():
        data = bytearray(gzip.compress(text, mtime=0))
        data[place] ^= 0xFF if name == role else 0
        files[name].write_bytes(data)
    with pytest.raises(UserError, match=f"^Expected .* {files[role]}, "):
        prepare_log(files["log"], items=ItemFile(path=files["items"], title="title"))


@pytest.mark.parametrize("chunk_bytes", [1, 1000])
@pytest.mark.parametrize("where", ["header", "first row", "between"])
def test_a_byte_order_mark_begins_a_file_or_belongs_to_an_id(tmp_path, prepare_log, read_users, where, chunk_bytes):
    mark, rows = b"\xef\xbb\xbf", b"a,x,1\na,y,2\na,z,3\na,x,4\n"
    data = {"header": mark + HEADER + rows, "first row": HEADER + mark + rows, "between": HEADER + rows + mark + rows}
    (tmp_path / "log.csv").write_bytes(data[where])
    _, prepared = prepare_log(tmp_path / "log.csv", [f"--chunk_bytes={chunk_bytes}"])
    lengths = {user: len(events) for user, events in read_users(prepared).items()}
    assert lengths == {"a": {"header": 4, "first row": 3, "between": 7}[where]}


def test_movielens_may_begin_with_a_byte_order_mark(tmp_path, prepare_log, read_users):
    (tmp_path / "ratings.dat").write_bytes(b"\xef\xbb\xbf" + b"".join(b"1::%d::5::9\n" % item for item in (3, 1, 2)))
    _, prepared = prepare_log(tmp_path, format="movielens")
    assert read_users(prepared) == {"1": [("3", 9), ("1", 9), ("2", 9)]}


@pytest.fixture
def run_stations_on(tmp_path, read_users):
    """Returns a function that runs prepare, cluster and examples on rows; it returns their figures and folders."""

    def go(rows, name="log.csv", **config):
        (tmp_path / name).write_text("user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
        data = {"path": str(tmp_path / name), "min_item_events": 1, "min_user_events": 3, "num_shards": 2}
        config = {"name": "hostile", "data": data | config.pop("data", {}), **config}
        run = tmp_path / "runs" / "hostile"
        config = parse_config(config)
        return {s.name: run_station(s, config, run).figures for s in (PREPARE, CLUSTER, EXAMPLES)}, run

    return go


RECORDED = {"loss": "bce", "negatives": "records"}
SMALL = {"num_clusters": 2, "epochs": 1, "dim": 4, "max_share": 1}


def test_one_user_is_enough(run_stations_on, read_users):
    rows = [("only", f"i{n % 7}", n) for n in range(40)]
    figures, run = run_stations_on(rows, cluster=SMALL)
    assert read_users(run / "prepare") == {"only": [(item, time) for _, item, time in rows]}
    assert figures["examples"]["records"] == {"train": 1, "validation": 1, "test": 1}
    assert figures["examples"]["positions"] == 38


def test_one_item_has_no_negatives(run_stations_on):
    rows = [(user, "only", time) for user in range(9) for time in range(5)]
    figures, _ = run_stations_on(rows, cluster={**SMALL, "num_clusters": 1}, train=RECORDED)
    assert figures["examples"]["negatives"] == {"drawn": 0, "exact": 0, "redrawn": 0, "empty": 27}
    with pytest.raises(UserError, match="1"):
        run_stations_on(rows, cluster=SMALL)


def test_an_item_may_be_half_of_all_events(run_stations_on):
    rng = np.random.default_rng(0)
    rows = [(n % 80, "big" if n % 2 else f"i{rng.integers(30)}", n) for n in range(4000)]
    figures, run = run_stations_on(rows, cluster={**SMALL, "num_clusters": 3}, examples={"popularity_exponent": 1})
    items = pq.read_table(run / "cluster" / schema.ITEMS).to_pydict()
    assert items["count"][items["item_id"].index("big")] > 1900
    assert figures["examples"]["positions"] == 4000 - 2 * 80
    with pytest.raises(UserError, match=r"of the events in one cluster \(cluster.max_share\), found \d+.\d% in the"):
        run_stations_on(rows, cluster={"method": "random", "num_clusters": 3})


def test_equal_times_keep_the_order_of_the_file(run_stations_on, read_users):
    rows = [(n % 5, f"i{n * 7 % 11}", 0) for n in range(60)]
    _, run = run_stations_on(rows, cluster=SMALL)
    assert read_users(run / "prepare")["3"] == [(item, 0) for user, item, _ in rows if user == 3]


def test_times_reach_from_end_to_end_of_int64(run_stations_on, read_users):
    ends = [2**63 - 1, -(2**63), 0, 2**63 - 1, -(2**63), -1]
    _, run = run_stations_on([("a", f"i{n}", time) for n, time in enumerate(ends)], cluster=SMALL)
    ordered = [("i1", -(2**63)), ("i4", -(2**63)), ("i5", -1), ("i2", 0), ("i0", 2**63 - 1), ("i3", 2**63 - 1)]
    assert read_users(run / "prepare") == {"a": ordered}


def test_ids_may_hold_any_character_and_be_very_long(run_stations_on, read_users):
    marks = [chr(c) for c in range(1, 256) if chr(c) not in ',"\r\n'] + list("漢🙂\u2028\ufeff") + ["w" * 100_000]
    rows = [(f"u{mark}", mark, n) for n, mark in enumerate(marks) for _ in range(3)]
    rows += [("all", mark, n) for n, mark in enumerate(marks)]
    _, run = run_stations_on(rows, cluster=SMALL)
    assert [item for item, _ in read_users(run / "prepare")["all"]] == marks
    assert set(pq.read_table(run / "cluster" / schema.ITEMS)["item_id"].to_pylist()) == set(marks)


def test_two_copies_of_a_file_count_twice(tmp_path, read_users):
    rows = "".join(f"7,{video},{video},1,1\n" for video in (1, 2, 3))
    for name in ("log_standard_a.csv", "log_standard_copy_of_a.csv"):
        (tmp_path / name).write_text(f"{','.join(KUAIRAND.columns)}\n{rows}")
    config = {"path": str(tmp_path), "format": "kuairand", "min_item_events": 2, "min_user_events": 6}
    figures = prepare(DataConfig.model_validate(config), tmp_path / "out")
    assert read_users(tmp_path / "out") == {"7": [(str(video), video) for video in (1, 1, 2, 2, 3, 3)]}
    assert figures["rows_read"] == figures["events"] == 6


def test_a_user_with_a_million_events_is_one_sequence(run_stations_on):
    million = 1_000_000
    items = np.random.default_rng(0).integers(0, 500, million)
    rows = [("bot", item, time) for time, item in enumerate(items.tolist())]
    rows += [(user, item, item) for user in range(20) for item in range(10)]
    figures, run = run_stations_on(rows, cluster={"method": "random"}, train=RECORDED)
    [longest] = [
        len(items)
        for path in (run / "prepare" / schema.SEQUENCES).iterdir()
        for user, items in zip(*pq.read_table(path).select(["user_id", "items"]).to_pydict().values(), strict=True)
        if user == "bot"
    ]
    assert longest == million
    assert figures["prepare"]["events"] == million + 200
    assert figures["examples"]["positions"] == million - 2 + 20 * 8
    # Every item is the bot's own, so it has no negatives; the others have all of theirs.
    assert figures["examples"]["negatives"]["empty"] == million - 2
