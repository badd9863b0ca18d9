"""Declared numbers of events (`data.events`) from the log's column to the records."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.examples import build_examples
from beam_jobs.logs.feature_values import numbers_of
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExamplesConfig
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import Kind, event_feature, features_of_file, log_features, sequence_schema

UNKNOWN = np.float32(schema.UNKNOWN_NUMBER).item()
DWELL = event_feature("dwell", Kind.NUMBER)
EVENTS = {"dwell": "number"}
BAD = "dwell is neither empty nor a finite number above -1e+30"


@pytest.mark.parametrize("type_", [pa.string(), pa.binary()])
def test_an_empty_text_is_an_unknown_number_and_other_text_is_none(type_):
    texts = ["1.5", "-2", "", None, "NaN", "nan", "0", "much", "inf", "1e39", "-1e30", "1,5", " "]
    found = numbers_of(pa.array(texts, pa.string()).cast(type_)).to_pylist()
    assert found == [1.5, -2, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, 0, None, None, None, None, None, None]


@pytest.mark.parametrize("type_", [pa.float64(), pa.float32()])
def test_the_same_rule_holds_for_numbers(type_):
    assert numbers_of(pa.array([3, None, np.nan, -4], type_)).to_pylist() == [3, UNKNOWN, UNKNOWN, -4]
    assert numbers_of(pa.array([np.inf, -np.inf, -1e30], type_)).null_count == 3


def test_integers_may_be_missing_too():
    assert numbers_of(pa.array([3, None], pa.int64())).to_pylist() == [3, UNKNOWN]


ROWS = [("a", "x", 3, 0.5), ("a", "y", 1, None), ("a", "z", 2, -7), ("a", "x", 4, 8), ("a", "y", 5, "?")]


def _csv(quote):
    lines = [("user_id", "item_id", "timestamp", "dwell"), *ROWS]
    return "".join(",".join(f"{quote}{'' if v is None else v}{quote}" for v in row) + "\n" for row in lines).encode()


def _jsonl():
    keys = ("user_id", "item_id", "timestamp", "dwell")
    rows = [{key: value for key, value in zip(keys, row, strict=True) if value is not None} for row in ROWS]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet():
    user, item, time, dwell = zip(*ROWS, strict=True)
    sink = pa.BufferOutputStream()
    texts = [None if value is None else str(value) for value in dwell]
    pq.write_table(pa.table({"user_id": user, "item_id": item, "timestamp": time, "dwell": texts}), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("format_", "content"),
    [
        pytest.param("csv", _csv(""), id="csv"),
        pytest.param("csv", _csv('"'), id="quoted"),
        pytest.param("jsonl", _jsonl(), id="jsonl"),
        pytest.param("parquet", _parquet(), id="parquet"),
    ],
)
def test_in_every_format_a_number_stays_with_its_event_and_bad_text_is_malformed(
    format_, content, prepare_log, tmp_path
):
    path = tmp_path / f"log.{format_}"
    path.write_bytes(content)
    figures, prepared = prepare_log(path, format=format_, events=EVENTS, num_shards=1)
    assert figures["rows_malformed"] == {BAD: 1}
    [file] = (prepared / schema.SEQUENCES).iterdir()
    assert features_of_file(pq.read_schema(file)) == log_features(DataConfig(events=EVENTS))
    [row] = pq.read_table(file).to_pylist()
    assert (row["times"], row[DWELL.column]) == ([1, 2, 3, 4], [UNKNOWN, -7, 0.5, 8])


def test_movielens_and_kuairand_have_columns_to_declare_too(prepare_log, tmp_path):
    (tmp_path / "ratings.dat").write_text("".join(f"1::{item}::{item % 5}::{item}\n" for item in range(1, 6)))
    _, prepared = prepare_log(tmp_path, name="movies", format="movielens", events={"rating": "number"}, num_shards=1)
    [row] = pq.read_table(prepared / schema.SEQUENCES).to_pylist()
    assert row["event_rating"] == [1, 2, 3, 4, 0]
    log = "user_id,video_id,time_ms,is_click,tab,play_time_ms\n"
    (tmp_path / "log_standard_1.csv").write_text(log + "".join(f"1,{v},{v},1,0,{v * 10}\n" for v in range(4)))
    plays = {"format": "kuairand", "num_shards": 1}
    _, prepared = prepare_log(tmp_path, name="videos", events={"play_time_ms": "number"}, **plays)
    [row] = pq.read_table(prepared / schema.SEQUENCES).to_pylist()
    assert row["event_play_time_ms"] == [0, 10, 20, 30]
    with pytest.raises(UserError, match=r"columns in data\.events that tell events apart, got is_click"):
        prepare_log(tmp_path, events={"is_click": "number"}, **plays)


def test_a_log_without_the_column_is_refused_with_the_key(prepare_log, write_csv):
    with pytest.raises(UserError, match=r"Expected column 'dwell' in .*; set data\.events\.dwell"):
        prepare_log(write_csv([("a", "x", 1)]), events=EVENTS)


@pytest.mark.parametrize("name", ["item_id", "time", "watch time"])
def test_names_with_another_meaning_are_refused(name):
    with pytest.raises(ValueError, match="events"):
        DataConfig(events={name: "number"})


def test_a_sequence_file_holds_the_declarations():
    """The examples job reads them from the file, without the config of the log."""
    declared = log_features(DataConfig(columns={"weight": "stars"}, events=EVENTS))
    assert features_of_file(sequence_schema(declared)) == declared
    stranger = sequence_schema(declared).append(pa.field("more", pa.list_(pa.float32())))
    assert features_of_file(stranger) is None
    assert features_of_file(sequence_schema([]).remove(2)) is None


def test_records_have_the_numbers_of_histories_and_never_that_of_a_target(write_csv, prepare_log, write_items):
    """Numbers of an event are known only after it, so those of a target must not be in its record."""
    tf = pytest.importorskip("tensorflow")
    rows = [("a", f"i{time}", time, time / 2 if time else "") for time in range(5)]
    log = write_csv(rows, header="user_id,item_id,timestamp,dwell")
    _, prepared = prepare_log(log, events=EVENTS, num_shards=1)
    items = write_items([0] * 5, vocabulary=prepared / schema.VOCABULARY)
    build_examples(prepared / schema.SEQUENCES, items, ExamplesConfig(), 1, prepared / "examples")
    expected = {schema.TRAIN: [UNKNOWN, 0.5, 1], schema.VALIDATION: [UNKNOWN, 0.5, 1]}
    expected[schema.TEST] = [UNKNOWN, 0.5, 1, 1.5]
    for split, values in expected.items():
        [file] = (prepared / "examples" / split).iterdir()
        [record] = tf.data.TFRecordDataset([str(file)])
        found = tf.train.Example.FromString(record.numpy()).features.feature
        assert list(found[DWELL.key].float_list.value) == values
        assert not [name for name in found if name.startswith("target_") and "dwell" in name]
