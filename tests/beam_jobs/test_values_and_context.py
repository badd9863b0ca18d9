"""Categories (`value`), hours and days of the context, and kinds of targets, from the log's columns to the records."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.event_inputs import local_seconds
from beam_jobs.examples import build_examples
from beam_jobs.logs.feature_values import values_of
from beam_jobs.splits import split_sequences
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExamplesConfig
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import features_of_file, sequence_features
from tfdnc.contracts.input_forms import FORMS, Kind

INPUTS = {"events": {"action": "value"}, "context": {"device": "value"}}
HEADER = ("user_id", "item_id", "timestamp", "action", "device")
ROWS = [("a", "x", 1, "view", "web"), ("a", "y", 2, None, "app"), ("a", "z", 3, "buy", None), ("a", "x", 4, "view", 7)]


def test_a_category_is_text_and_a_missing_one_is_empty():
    assert values_of(pa.array(["buy", None, "", "é"])).to_pylist() == ["buy", "", "", "é"]
    assert values_of(pa.array([b"buy", b"\xff", None])).to_pylist() == ["buy", None, ""]
    assert values_of(pa.array([3, None, 3])).to_pylist() == ["3", "", "3"]
    assert values_of(pa.array([True, None])).to_pylist() == ["true", ""]


def _csv(quote):
    lines = [HEADER, *ROWS]
    return "".join(",".join(f"{quote}{'' if v is None else v}{quote}" for v in row) + "\n" for row in lines).encode()


def _jsonl():
    rows = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
    return "".join(json.dumps(row) + "\n" for row in [*rows, rows[0] | {"timestamp": 5, "action": 1.5}]).encode()


def _parquet():
    columns = dict(zip(HEADER, zip(*ROWS, strict=True), strict=True))
    texts = {"device": [None if one is None else str(one) for one in columns["device"]]}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns | texts), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("format_", "content", "malformed"),
    [
        pytest.param("csv", _csv(""), {}, id="csv"),
        pytest.param("csv", _csv('"'), {}, id="quoted"),
        pytest.param("jsonl", _jsonl(), {"action is no text in UTF-8": 1}, id="jsonl"),
        pytest.param("parquet", _parquet(), {}, id="parquet"),
    ],
)
def test_in_every_format_a_category_stays_with_its_event(format_, content, malformed, prepare_log, tmp_path):
    path = tmp_path / f"log.{format_}"
    path.write_bytes(content)
    figures, prepared = prepare_log(path, format=format_, num_shards=1, **INPUTS)
    assert figures["rows_malformed"] == malformed
    [file] = (prepared / schema.SEQUENCES).iterdir()
    assert features_of_file(pq.read_schema(file)) == sequence_features(DataConfig(**INPUTS))
    [row] = pq.read_table(file).to_pylist()
    assert row["event_action"] == ["view", "", "buy", "view"]
    assert row["event_device"] == ["web", "app", "", "7"]


def test_a_column_of_fractions_is_no_category(prepare_log, tmp_path):
    path = tmp_path / "log.parquet"
    rows = {"user_id": ["a"], "item_id": ["x"], "timestamp": [1], "action": [0.5], "device": ["web"]}
    pq.write_table(pa.table(rows), path)
    with pytest.raises(UserError, match="Expected text, integers or truth values in column 'action'"):
        prepare_log(path, format="parquet", **INPUTS)


def test_values_are_known_that_occur_twice_in_the_training_part(prepare_log, write_csv):
    """Those of held-out events are unknown, because their weights would not be trained."""
    kinds = ["view", "view", "once", "held", "held"]
    rows = [(user, f"i{time}", time, kinds[time], "web") for user in "a" for time in range(5)]
    figures, prepared = prepare_log(write_csv(rows, header=",".join(HEADER)), num_shards=1, **INPUTS)
    assert json.loads((prepared / schema.INPUT_VALUES).read_text()) == {"action": ["view"], "device": ["web"]}
    assert figures["input_values"] == {"action": 1, "device": 1}


def test_records_have_numbers_of_values_and_held_out_ones_the_context_of_the_target(
    write_csv, prepare_log, write_items
):
    tf = pytest.importorskip("tensorflow")
    devices = ["web", "app", "web", "app", "app"]
    rows = [("a", f"i{time}", time, "view", devices[time]) for time in range(5)]
    rows += [("b", f"i{time}", time, "view", devices[time]) for time in range(5)]
    log = write_csv(rows, header=",".join(HEADER))
    _, prepared = prepare_log(log, num_shards=1, **INPUTS)
    items = write_items([0] * 5, vocabulary=prepared / schema.VOCABULARY)
    build_examples(prepared / schema.SEQUENCES, items, ExamplesConfig(), 1, prepared / "examples")
    assert json.loads((prepared / "examples" / schema.INPUT_VALUES).read_text())["device"] == ["app", "web"]
    found = {}
    for split in (schema.TRAIN, schema.TEST):
        [file] = (prepared / "examples" / split).iterdir()
        record = next(iter(tf.data.TFRecordDataset([str(file)])))
        features = tf.train.Example.FromString(record.numpy()).features.feature
        found[split] = {name: list(features[name].int64_list.value) for name in features}
    assert found[schema.TRAIN]["event_device"] == [2, 1, 2]
    assert found[schema.TEST]["event_device"] == [2, 1, 2, 1]
    assert found[schema.TEST]["target_event_device"] == [1]
    assert "target_event_action" not in found[schema.TEST]  # known only once the event has happened


def test_hours_and_days_are_those_of_a_clock_in_the_time_zone():
    """In Berlin the clock went from 1:59 to 3:00 on 2024-03-31, a Sunday."""
    utc = np.array([1711846799, 1711846800], np.int64)
    local = local_seconds(utc, "Europe/Berlin")
    assert FORMS[Kind.HOUR].of_seconds(local).tolist() == [1, 3]
    assert FORMS[Kind.WEEKDAY].of_seconds(local).tolist() == [6, 6]
    assert FORMS[Kind.HOUR].of_seconds(np.array([-1])).tolist() == [23]
    assert FORMS[Kind.WEEKDAY].of_seconds(np.array([0, -1])).tolist() == [3, 2]  # 1970 began on a Thursday


def test_times_far_from_ours_have_an_hour_too():
    assert len(local_seconds(np.array([-(2**62), 2**62]), "Europe/Berlin")) == 2


def test_only_targets_are_held_out_and_other_events_stay_in_the_history():
    edges, weights = np.array([0, 6, 9, 12]), np.array([1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 1, 1])
    times = np.zeros(12, np.int64)
    split = split_sequences(edges, times, DataConfig(), weights)
    assert split.validation.tolist() == [2, -1, 1]
    assert split.test.tolist() == [3, -1, 2]
    assert split.train_events.tolist() == [2, 3, 1]  # the first event of the second user has no history


def test_only_targets_have_a_weight(prepare_log, write_csv):
    rows = [("a", f"i{time}", time, kind, "web") for time, kind in enumerate(["buy", "view", "cart", "buy", "view"])]
    targets = {"action": {"buy": 1, "cart": 0.5}}
    figures, prepared = prepare_log(write_csv(rows, header=",".join(HEADER)), num_shards=1, targets=targets, **INPUTS)
    [row] = pq.read_table(prepared / schema.SEQUENCES).to_pylist()
    assert row["weights"] == [1, 0, 0.5, 1, 0]
    assert (row["train_events"], row["validation"], row["test"]) == (2, 2, 3)
    assert figures["split"]["test"]["users"] == 1


def test_a_kind_of_targets_that_no_event_has_is_told(prepare_log, write_csv, caplog):
    """It was taken silently beside a known one, and alone the message was about the split."""
    rows = [("a", f"i{time}", time, kind, "web") for time, kind in enumerate(["buy", "view"] * 4)]
    log = write_csv(rows, header=",".join(HEADER))
    prepare_log(log, targets={"action": ["buy"]}, **INPUTS)
    assert not caplog.records
    prepare_log(log, targets={"action": ["buy", "byu"]}, **INPUTS)
    assert "have action byu of data.targets; they have buy, view. Is the spelling" in caplog.text


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"targets": {"action": ["buy"]}}, "targets to name one key of events of kind value, got action"),
        ({"context": {"dwell": "number"}, "events": {"dwell": "number"}}, "dwell in one of events and context"),
        ({"time_zone": "Berlin"}, "expected the name of a time zone"),
        ({"context": {"hour": "hour_of_day"}, "columns": {"time": None}}, "columns.time to name a column with hour_of"),
        ({"events": {"request_kind": "value"}}, "another name than request_kind in events"),
        ({"users": {"features": {"age": "number"}}}, "users.path to name the file of users with format csv"),
    ],
)
def test_declarations_that_contradict_others_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**config)
