"""Weights from the log's column to the sequences."""

import gzip
import json
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.logs.csv_rows import RowFormat, parse_block, parse_quoted
from beam_jobs.logs.event_weights import BAD_WEIGHT, weights_of
from beam_jobs.logs.json_rows import JsonFormat
from beam_jobs.logs.log_times import BAD_TIME
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import WEIGHT, sequence_schema

WEIGHTED = RowFormat(b",", quotes="doubled", num_columns=4, user=0, item=1, time=3, features={WEIGHT: 2})
HEADER = "user_id,item_id,timestamp,stars"
COLUMNS = {"weight": "stars"}

GOOD = {"1": 1, "0": 0, "-0": 0, "+2": 2, ".5": 0.5, "5.": 5, "1e-3": 1e-3, "2.5E2": 250, "1e-400": 0, "007": 7}
BAD = ["", "-1", "-1e-9", "nan", "inf", "-inf", "1e39", "1e400", "x", "1 ", "1,5", "0x1", "1_0", "1e", ".", "٣"]


@pytest.mark.parametrize("type_", [pa.string(), pa.binary()])
def test_a_weight_is_a_finite_decimal_number_that_is_not_negative(type_):
    texts = [*GOOD, *BAD]
    weights = weights_of(pa.array([text.encode() for text in texts], pa.binary()).cast(type_)).to_pylist()
    assert [text for text, weight in zip(texts, weights, strict=True) if weight is None] == BAD
    np.testing.assert_array_equal(np.float32(weights[: len(GOOD)]), np.float32(list(GOOD.values())))


def test_bytes_that_are_no_text_and_nulls_are_no_weights():
    assert weights_of(pa.array([b"1", b"\xff", None])).to_pylist() == [1, None, None]


@pytest.mark.parametrize("type_", [pa.float64(), pa.float32(), pa.int16()])
def test_the_same_rule_holds_for_numbers(type_):
    assert weights_of(pa.array([3, -1, None, 0], type_)).to_pylist() == [3, None, None, 0]
    assert weights_of(pa.array([np.nan, np.inf, 1e39])).null_count == 3


@pytest.mark.parametrize("parse", ["block", "quoted"])
def test_a_row_with_a_bad_weight_is_malformed_and_the_others_keep_theirs(parse):
    text = b"a,x,0.5,1\nb,y,-2,2\nc,z,much,no\nd,x,3,4\n"
    if parse == "block":
        rows = parse_block(text, 0, WEIGHTED)
    else:
        (rows,) = parse_quoted(text.splitlines(keepends=True), 0, WEIGHTED)
    assert [(place, reason) for place, _, reason in rows.malformed] == [(10, BAD_WEIGHT), (19, BAD_TIME)]
    assert rows.events["weight"].to_pylist() == [0.5, 3]
    assert rows.events["time"].to_pylist() == [1, 4]


@pytest.mark.parametrize("others", [0, 200])  # a single bad line is parsed by itself, among many lines in halves
def test_a_weight_in_json_lines_is_a_json_number(others):
    weights = ["1", "0.5", "1e-3", "-1", "null", '"2"', "true", "1e39", "NaN", "1" + "0" * 400, "[1]", "-0.0", "3"]
    good = {0: 1, 1: 0.5, 2: np.float32(1e-3), 11: 0, 12: 3}
    lines = [f'{{"u": 1, "i": 2, "t": {n}, "w": {weight}}}' for n, weight in enumerate(weights)]
    lines += [f'{{"u": 1, "i": 2, "t": {n}, "w": 4}}' for n in range(1000, 1000 + others)]
    lines.append('{"u": 1, "i": 2, "t": 2000}')
    rows = JsonFormat("u", "i", "t", numbers=frozenset("uit"), features={WEIGHT: "w"}).parse(
        "\n".join(lines).encode(), 0
    )
    found = dict(zip(rows.events["time"].to_pylist(), rows.events["weight"].to_pylist(), strict=True))
    assert found == good | dict.fromkeys(range(1000, 1000 + others), 4)
    assert {reason for _, _, reason in rows.malformed} == {BAD_WEIGHT}


@pytest.mark.parametrize(
    "type_", [pa.float64(), pa.float32(), pa.string(), pa.large_binary(), pa.dictionary(pa.int32(), pa.string())]
)
def test_parquet_holds_weights_as_numbers_or_text(prepare_log, tmp_path, type_):
    texts = ["0.5", "2", None, "-1", "3"]
    weights = (
        pa.array(texts, pa.string()).cast(pa.float64() if pa.types.is_floating(type_) else pa.string()).cast(type_)
    )
    columns = {"user_id": ["a"] * 5, "item_id": [1, 2, 3, 4, 5], "timestamp": range(5)}
    pq.write_table(pa.table({**columns, "stars": weights}), tmp_path / "log.parquet")
    figures, prepared = prepare_log(tmp_path / "log.parquet", format="parquet", columns=COLUMNS)
    assert weights_by_user(prepared) == {"a": [0.5, 2, 3]}
    assert figures["rows_malformed"] == {BAD_WEIGHT: 2}


def test_parquet_columns_of_other_types_are_refused(prepare_log, tmp_path):
    columns = {"user_id": ["a"], "item_id": [1], "timestamp": [1], "stars": [True]}
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    with pytest.raises(
        UserError, match=r"Expected numbers or text in column 'stars' of .*, found bool; cast it to double"
    ):
        prepare_log(tmp_path / "log.parquet", format="parquet", columns=COLUMNS)


def weights_by_user(prepared):
    """Returns {user: weights} of the sequences."""
    users = {}
    for path in sorted((prepared / schema.SEQUENCES).iterdir()):
        assert pq.read_schema(path) == sequence_schema([WEIGHT])
        users |= {row["user_id"]: row["weights"] for row in pq.read_table(path).to_pylist()}
    return users


@pytest.mark.parametrize("chunk_bytes", [20, 1 << 20])
def test_a_weight_goes_with_its_event_through_filters_and_sorting(write_csv, prepare_log, chunk_bytes):
    # The weight encodes its event: 100 * user + time, and .5 for the item that is too rare.
    rows = [(user, f"i{t % 3}", t, 100 * user + t) for t in (5, 3, 4, 1, 2) for user in (1, 2, 3)]
    rows[2:2] = [(2, "rare", 0, 0.5), (9, "i1", 0, 7)]  # user 9 has too few events
    path = write_csv(rows, header=HEADER)
    _, prepared = prepare_log(path, [f"--chunk_bytes={chunk_bytes}"], columns=COLUMNS, min_item_events=2, num_shards=8)
    assert weights_by_user(prepared) == {str(user): [100 * user + t for t in range(1, 6)] for user in (1, 2, 3)}


def test_rules_of_a_user_leave_out_events_with_their_weights(write_csv, prepare_log):
    # Times 0..9 and 100..109 in turn for items 0 0 1 1 2 2 ...; the weight is the time.
    rows = [("a", (t % 100) // 2, t, t) for t in (*range(10), *range(100, 110))]
    rules = {"max_events_per_user": 19, "session_gap": 50, "repeats": "collapse", "filter_rounds": 2}
    _, prepared = prepare_log(write_csv(rows, header=HEADER), columns=COLUMNS, **rules)
    assert weights_by_user(prepared) == {"a:1": [1, 2, 4, 6, 8], "a:2": [100, 102, 104, 106, 108]}


def _csv(table, quote=""):
    rows = [table.column_names, *(row.values() for row in table.to_pylist())]
    return "".join(",".join(f"{quote}{value}{quote}" for value in row) + "\n" for row in rows).encode()


def _jsonl(table):
    return "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()


def _parquet(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=100)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("shuffle", ["files", "engine"])
@pytest.mark.parametrize(
    ("suffix", "encode"),
    [
        pytest.param("csv", _csv, id="csv"),
        pytest.param("csv", partial(_csv, quote='"'), id="quoted"),
        pytest.param("csv.gz", lambda table: gzip.compress(_csv(table)), id="gzip"),
        pytest.param("jsonl", _jsonl, id="jsonl"),
        pytest.param("parquet", _parquet, id="parquet"),
    ],
)
def test_in_every_format_a_weight_stays_beside_the_event_of_its_row(suffix, encode, shuffle, prepare_log, tmp_path):
    rng = np.random.default_rng(3)
    users, items, times = rng.integers(0, 20, 600), rng.integers(0, 4, 600), rng.integers(0, 1000, 600)
    rows = pa.table({"user_id": users, "item_id": items, "timestamp": times, "stars": np.arange(600) / 8})
    path = tmp_path / f"log.{suffix}"
    path.write_bytes(encode(rows))
    rules = {"max_events_per_user": 25, "session_gap": 60, "repeats": "collapse", "min_user_events": 2}
    split = {"split": "time", "validation_from": 600, "test_from": 800}
    config = {"format": suffix.removesuffix(".gz"), "columns": COLUMNS, "num_shards": 3, **rules, **split}
    figures, prepared = prepare_log(path, [f"--shuffle={shuffle}", "--chunk_bytes=2000"], **config)
    assert all(figures["rows_filtered"][rule] for rule in ("max_events_per_user", "repeats", "min_user_events"))
    ids = [None, *pq.read_table(prepared / schema.VOCABULARY)["item_id"].to_pylist()]
    sequences = pq.read_table(prepared / schema.SEQUENCES).to_pylist()
    assert len(sequences) > 20  # sessions
    for sequence in sequences:
        read = (np.array(sequence["weights"]) * 8).astype(int)  # the weight encodes the row
        assert {str(user) for user in users[read]} == {sequence["user_id"].split(":")[0]}
        assert [str(item) for item in items[read]] == [ids[item] for item in sequence["items"]]
        assert times[read].tolist() == sequence["times"]


def test_weights_change_nothing_but_the_weights(write_csv, prepare_log, read_users):
    rows = [(user, f"i{t}", t, 0) for t in range(5) for user in "abc"]  # events of weight 0 are events
    path = write_csv(rows, header=HEADER)
    plain, weighted = prepare_log(path, name="plain"), prepare_log(path, name="weighted", columns=COLUMNS)
    assert plain[0] == weighted[0]
    assert read_users(plain[1]) == read_users(weighted[1])


def test_rows_with_bad_weights_reach_the_dead_letters(write_csv, prepare_log):
    rows = [("a", "x", 1, 1), ("a", "y", 2, "?"), ("a", "x", 3, -1), ("a", "x", 4, 2), ("a", "z", 5, 3)]
    figures, prepared = prepare_log(write_csv(rows, header=HEADER), columns=COLUMNS)
    assert figures["rows_malformed"] == {BAD_WEIGHT: 2}
    letters = (prepared / schema.DEAD_LETTER / "log.csv.jsonl").read_text().splitlines()
    assert [(json.loads(line)["text"], json.loads(line)["reason"]) for line in letters] == [
        ("a,y,2,?", BAD_WEIGHT),
        ("a,x,3,-1", BAD_WEIGHT),
    ]
    assert weights_by_user(prepared) == {"a": [1, 2, 3]}


def test_a_weight_column_that_is_not_there_is_a_user_error(write_csv, prepare_log):
    path = write_csv([("a", "x", 1)])
    with pytest.raises(UserError, match=r"Expected column 'stars' .* set data\.columns\.weight"):
        prepare_log(path, columns=COLUMNS)
