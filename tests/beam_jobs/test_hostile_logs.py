"""Logs that nobody would wish for, from damaged rows to a single item: each works, or is refused in a sentence."""

import gzip
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_oracle import KUAIRAND, MOVIELENS, Layout, account, account_json_lines, account_table, filter_users

from beam_jobs.sequences import prepare
from tfdnc import schema
from tfdnc.cli.road import CLUSTER, EXAMPLES, PREPARE
from tfdnc.config import parse_config
from tfdnc.data_config import DataConfig, ItemFile
from tfdnc.errors import UserError
from tfdnc.stations import run_station

CSV = Layout()
HOSTILE_FIELDS = [
    b"",
    b" ",
    b"0",
    b"-0",
    b"1e308",
    b"nan",
    b"9" * 18,
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"-9223372036854775809",
    b"9" * 400,
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",  # half of a surrogate pair
    "٣".encode(),
    b"\xef\xbb\xbf",
    b"\x1f",
    b"\r",
    b"\r\r",
    b'"',
    b'""',
    b'"a"b',
    b"=1+1",
    b"y" * 5_000,
]


def mutate(rng, line, separator):
    """Returns the row with one thing done to it."""
    fields = line.split(separator)
    place, column = rng.integers(len(line) + 1), rng.integers(len(fields))
    match rng.integers(9):
        case 0:  # another byte
            return line[:place] + bytes([rng.integers(256)]) + line[place + 1 :]
        case 1:  # cut short
            return line[:place]
        case 2:  # a byte more
            return line[:place] + bytes([rng.integers(256)]) + line[place:]
        case 3:  # a column more
            return separator.join([*fields[:column], fields[column], *fields[column:]])
        case 4:  # a column less
            return separator.join(fields[:column] + fields[column + 1 :])
        case 5:  # a quote anywhere, and perhaps another one
            return line[:place] + b'"' + line[place:] + b'"' * rng.integers(2)
        case 6:  # two rows in one
            return line + line
        case 7 if rng.random() < 0.02:  # longer than Python's csv module reads
            return line[:place] + b"z" * 140_000 + line[place:]
        case _:
            fields[column] = HOSTILE_FIELDS[rng.integers(len(HOSTILE_FIELDS))]
            return separator.join(fields)


def mutated_log(layout, num_rows, seed):
    """As many mutated rows as sound ones."""
    rng = np.random.default_rng(seed)
    lines = [",".join(layout.columns).encode()] if layout.header else []
    for row in range(2 * num_rows):
        user, item = (str(rng.zipf(1.3) % 50) for _ in range(2))
        values = dict.fromkeys(layout.columns, "1") | dict(zip(layout.roles, (user, item, str(row // 7)), strict=True))
        line = layout.separator.join(values.values()).encode()
        lines.append(line if row % 2 else mutate(rng, line, layout.separator.encode()))
    return b"\n".join(lines)


def mutated_json_lines(num_rows, seed):
    """As many mutated rows as sound ones, with ids and times as text or as numbers."""
    rng = np.random.default_rng(seed)
    lines = []
    for row in range(2 * num_rows):
        values = [int(rng.zipf(1.3) % 50), int(rng.zipf(1.3) % 50), row // 7]
        values = [str(value) if rng.random() < 0.1 else value for value in values]
        line = json.dumps({"more": [{"deep": None}], **dict(zip(CSV.roles, values, strict=True))}).encode()
        lines.append(line if row % 2 else mutate(rng, line, b","))
    return b"\n".join(lines)


def mutated_rows(num_rows, seed):
    """As many mutated rows as sound ones, {column: bytes or None}."""
    rng = np.random.default_rng(seed)
    rows = []
    for row in range(2 * num_rows):
        values = [b"%d" % (rng.zipf(1.3) % 50), b"%d" % (rng.zipf(1.3) % 50), b"%d" % (row // 7)]
        if row % 2 == 0:
            spoiled = rng.integers(3)
            hostile = [None, *HOSTILE_FIELDS, mutate(rng, values[spoiled], b",")]
            values[spoiled] = hostile[rng.integers(len(hostile))]
        rows.append(dict(zip(CSV.columns, values, strict=True)))
    return rows


MUTATED = {
    "csv": (CSV, "log.csv", {}),
    "csv.gz": (CSV, "log.csv.gz", {}),
    "movielens": (MOVIELENS, "ratings.dat", {"format": "movielens"}),
    "kuairand": (KUAIRAND, "log_standard_x.csv", {"format": "kuairand", "kuairand": {"tab": 1}}),
}


def write_mutated(kind, folder, num_rows):
    """Writes a log of that kind; returns its config, the file's name, and what must become of the rows."""
    if kind == "jsonl":
        data = mutated_json_lines(num_rows, seed=num_rows)
        (folder / "log.jsonl").write_bytes(data)
        return {"path": folder / "log.jsonl", "format": "jsonl"}, "log.jsonl", account_json_lines("log.jsonl", data)
    if kind == "parquet":
        rows = mutated_rows(num_rows, seed=num_rows)
        table = pa.Table.from_pylist(rows, pa.schema([(column, pa.binary()) for column in CSV.columns]))
        pq.write_table(table, folder / "log.parquet", row_group_size=num_rows // 7)
        return {"path": folder / "log.parquet", "format": "parquet"}, "log.parquet", account_table("log.parquet", rows)
    layout, name, config = MUTATED[kind]
    data = mutated_log(layout, num_rows, seed=num_rows)
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return {"path": folder if config else folder / name, **config}, name, account({name: data}, layout)


@pytest.mark.parametrize("num_rows", [400, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [*MUTATED, "jsonl", "parquet"])
def test_mutated_rows_are_each_in_one_account_whatever_the_chunk_size(tmp_path, read_users, bytes_of, kind, num_rows):
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
        ("log.csv", b"", "Expected a CSV header in the first line of .*log.csv, found an empty line"),
        ("log.csv.gz", b"", "Expected a CSV header in the first line of .*log.csv.gz, found an empty line"),
        ("log.csv", b"\n\n\n", "Expected a CSV header in the first line"),
        ("log.csv", HEADER, "Expected events in .*log.csv, found no rows"),
        ("log.csv", HEADER.rstrip(), "Expected events in .*log.csv, found no rows"),
        ("log.csv.gz", gzip.compress(HEADER), "Expected events in .*log.csv.gz, found no rows"),
        ("log.csv", HEADER + b"\n\r\n\n", "Expected events in .*log.csv, found no rows"),
        (
            "log.csv",
            HEADER + b"a,b,?\n,b,1\na\n",
            r"Expected at most 1.00% .* found 100.00% \(3 of 3; .*\n.*a,b,\?",
        ),
        ("log.csv", HEADER.decode().encode("utf-16"), "Expected CSV text in .*log.csv, could not read its first line"),
        ("log.csv", b"\x00\x01\x02\x03", "Expected column 'user_id' in .*log.csv"),
        ("log.csv", (HEADER + b"a,b,1\n").replace(b"\n", b"\r"), "Expected CSV text in .*log.csv, could not read"),
        ("log.csv", b"x" * 200_000, "Expected CSV text in .*log.csv, could not read its first line: field larger"),
        ("log.csv.gz", gzip.compress(HEADER + b"a,b,1\n" * 999)[:-9], "Expected a whole gzip file at .*log.csv.gz"),
        ("log.csv.gz", HEADER, "Expected a whole gzip file at .*log.csv.gz, could not decompress it: Not a gzipped"),
    ],
)
def test_a_file_that_is_no_log_is_refused_with_what_was_expected(tmp_path, prepare_log, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=f"^{message}"):
        prepare_log(tmp_path / name, max_malformed_share=0.01)


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
def travel(tmp_path, read_users):
    """Takes (user, item, time) rows through prepare, cluster and examples; returns their figures and folders."""

    def go(rows, name="log.csv", **config):
        (tmp_path / name).write_text("user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
        data = {"path": str(tmp_path / name), "min_item_events": 1, "min_user_events": 3, "num_shards": 2}
        config = {"name": "hostile", "data": data | config.pop("data", {}), **config}
        run = tmp_path / "runs" / "hostile"
        config = parse_config(config)
        return {s.name: run_station(s, config, run).figures for s in (PREPARE, CLUSTER, EXAMPLES)}, run

    return go


SMALL = {"num_clusters": 2, "epochs": 1, "dim": 4, "max_share": 1}


def test_one_user_is_enough(travel, read_users):
    rows = [("only", f"i{n % 7}", n) for n in range(40)]
    figures, run = travel(rows, cluster=SMALL)
    assert read_users(run / "prepare") == {"only": [(item, time) for _, item, time in rows]}
    assert figures["examples"]["records"] == {"train": 1, "validation": 1, "test": 1}
    assert figures["examples"]["positions"] == 38


def test_one_item_has_no_negatives(travel):
    rows = [(user, "only", time) for user in range(9) for time in range(5)]
    figures, _ = travel(rows, cluster={**SMALL, "num_clusters": 1})
    assert figures["examples"]["negatives"] == {"drawn": 0, "exact": 0, "redrawn": 0, "empty": 27}
    with pytest.raises(UserError, match="1"):
        travel(rows, cluster=SMALL)


def test_an_item_may_be_half_of_all_events(travel):
    rng = np.random.default_rng(0)
    rows = [(n % 80, "big" if n % 2 else f"i{rng.integers(30)}", n) for n in range(4000)]
    figures, run = travel(rows, cluster={**SMALL, "num_clusters": 3}, examples={"popularity_exponent": 1})
    items = pq.read_table(run / "cluster" / schema.ITEMS).to_pydict()
    assert items["count"][items["item_id"].index("big")] > 1900
    assert figures["examples"]["positions"] == 4000 - 2 * 80
    with pytest.raises(UserError, match=r"of the events in one cluster \(cluster.max_share\), found \d+.\d% in the"):
        travel(rows, cluster={"method": "random", "num_clusters": 3})


def test_equal_times_keep_the_order_of_the_file(travel, read_users):
    rows = [(n % 5, f"i{n * 7 % 11}", 0) for n in range(60)]
    _, run = travel(rows, cluster=SMALL)
    assert read_users(run / "prepare")["3"] == [(item, 0) for user, item, _ in rows if user == 3]


def test_times_reach_from_end_to_end_of_int64(travel, read_users):
    ends = [2**63 - 1, -(2**63), 0, 2**63 - 1, -(2**63), -1]
    _, run = travel([("a", f"i{n}", time) for n, time in enumerate(ends)], cluster=SMALL)
    ordered = [("i1", -(2**63)), ("i4", -(2**63)), ("i5", -1), ("i2", 0), ("i0", 2**63 - 1), ("i3", 2**63 - 1)]
    assert read_users(run / "prepare") == {"a": ordered}


def test_ids_may_hold_any_character_and_be_very_long(travel, read_users):
    marks = [chr(c) for c in range(1, 256) if chr(c) not in ',"\r\n'] + list("漢🙂\u2028\ufeff") + ["w" * 100_000]
    rows = [(f"u{mark}", mark, n) for n, mark in enumerate(marks) for _ in range(3)]
    rows += [("all", mark, n) for n, mark in enumerate(marks)]
    _, run = travel(rows, cluster=SMALL)
    assert [item for item, _ in read_users(run / "prepare")["all"]] == marks
    assert set(pq.read_table(run / "cluster" / schema.ITEMS)["item_id"].to_pylist()) == set(marks)


def test_a_file_that_lies_there_twice_counts_twice(tmp_path, read_users):
    rows = "".join(f"7,{video},{video},1,1\n" for video in (1, 2, 3))
    for name in ("log_standard_a.csv", "log_standard_copy_of_a.csv"):
        (tmp_path / name).write_text(f"{','.join(KUAIRAND.columns)}\n{rows}")
    config = {"path": str(tmp_path), "format": "kuairand", "min_item_events": 2, "min_user_events": 6}
    figures = prepare(DataConfig.model_validate(config), tmp_path / "out")
    assert read_users(tmp_path / "out") == {"7": [(str(video), video) for video in (1, 1, 2, 2, 3, 3)]}
    assert figures["rows_read"] == figures["events"] == 6


def test_a_user_with_a_million_events_is_one_sequence(travel):
    million = 1_000_000
    items = np.random.default_rng(0).integers(0, 500, million)
    rows = [("bot", item, time) for time, item in enumerate(items.tolist())]
    rows += [(user, item, item) for user in range(20) for item in range(10)]
    figures, run = travel(rows, cluster={"method": "random"})
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
