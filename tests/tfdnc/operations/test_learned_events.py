"""A comparison says which version has learned the events that it is compared on."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfdnc.contracts.config import parse_config
from tfdnc.operations.learned_events import learned_note
from tfdnc.pipeline.learned import last_learned
from tfdnc.pipeline.manifests import MANIFEST

DAY = 86_400
NOV_28 = 1_795_824_000
"""2026-11-28 in seconds."""


def config_of(**values):
    return parse_config({"name": "x", "data": {"path": "log.csv"}} | values)


def note(last, since, **data):
    return learned_note({"last_learned": last}, config_of(data={"path": "log.csv"} | data).data, since)


@pytest.mark.parametrize("data", [{}, {"split": "none"}, {"until": "2026-11-28"}])
def test_events_after_the_last_learned_one_are_new(data):
    assert note(NOV_28 - 1, "2026-11-28", **data) is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "has learned events up to 2026-11-28T00:00:00+00:00, all but the last two of a user: "),
        ({"split": "none"}, "has learned events up to 2026-11-28T00:00:00+00:00: "),
        ({"split": "time", "validation_from": "2026-11-29", "test_from": "2026-11-30"}, "has learned events up to"),
    ],
)
def test_events_that_a_version_has_learned_are_told(data, words):
    """Only the final fit said something, and it did so for later events, too."""
    said = note(NOV_28, "2026-11-28", **data)
    assert said.startswith(words)
    assert said.endswith("counts only on later events, and --since 2026-11-28 is not after them")


def test_times_are_compared_in_the_unit_of_the_version():
    assert note(1000 * NOV_28, "2026-11-28", time_unit="ms")
    assert note(1000 * NOV_28 - 1, "2026-11-28", time_unit="ms") is None
    assert note(7, 8) is None
    assert "up to 8," in note(8, 8)


def test_the_last_event_of_each_user_is_new_if_it_is_held_out():
    assert note(NOV_28, None) is None
    assert "was trained on every event of its own log, up to 2026-11-28" in note(NOV_28, None, split="none")
    by_time = {"split": "time", "validation_from": "2026-11-27", "test_from": "2026-11-30"}
    assert "every event before data.validation_from, 2026-11-27: its recall" in note(NOV_28 - DAY - 1, None, **by_time)


def test_a_version_of_an_earlier_export_says_what_it_knows():
    assert note(None, "2026-11-28") is None
    assert note(None, "2026-11-28", split="none").startswith("was trained on every event of its own log: ")


@pytest.fixture
def runs(tmp_path):
    """Two runs with a training; `write` makes their sequences, users with times and a number of training events."""

    def write(name, users):
        folder = tmp_path / name / "prepare" / "sequences"
        folder.mkdir(parents=True)
        for number, shard in enumerate([users[:1], users[1:]]):
            columns = {"times": pa.array([one for one, _ in shard], pa.list_(pa.int64()))}
            columns["train_events"] = pa.array([one for _, one in shard], pa.int32())
            pq.write_table(pa.table(columns), folder / f"{number}.parquet")
        return tmp_path / name

    return write


def test_the_last_training_event_counts_and_no_held_out_one(runs):
    users = [([1, 5, 90], 1), ([2, 3, 4, 91], 2), ([80, 99], 0)]
    assert last_learned(config_of(), runs("a", users)) == 3
    assert last_learned(config_of(data={"path": "log.csv", "columns": {"time": None}}), runs("b", users)) is None


@pytest.mark.parametrize(("earlier", "last"), [(2, 3), (7, 7), (None, None)])
def test_a_warm_start_has_learned_what_the_earlier_run_had(runs, earlier, last):
    initial = runs("initial", [([1], 1)])
    (initial / "train").mkdir()
    manifest = {"files": {}, "figures": {"last_learned": earlier}}
    (initial / "train" / MANIFEST).write_text(json.dumps(manifest))
    run = runs("a", [([1, 3, 9], 2)])
    assert last_learned(config_of(train={"initial": str(initial)}), run) == last
