"""Training events and targets of every kind of split."""

import hashlib

import numpy as np
import pyarrow.parquet as pq
import pytest

from beam_jobs.splits import split_sequences
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError

BY_TIME = {"split": "time", "validation_from": 100, "test_from": 200, "min_user_events": 1}


def split(times_of_users, **config):
    """Returns (train_events, validation, test) of every user."""
    edges = np.cumsum([0, *map(len, times_of_users)])
    columns = split_sequences(edges, np.concatenate(times_of_users).astype(np.int64), DataConfig(**config))
    assert all(column.dtype == np.int32 for column in columns)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_the_last_two_are_left_out_at_any_times():
    assert split([[1, 1, 1], [1, 2, 3, 300]]) == [(1, 1, 2), (2, 2, 3)]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([1, 2, 100, 150, 200, 250], (2, 2, 4)),  # the first event of each window; the history of test is all before
        ([1, 99, 199, 200], (2, 2, 3)),
        ([1, 99, 200, 200], (2, -1, 2)),  # nothing to validate on
        ([1, 2, 100, 199], (2, 2, -1)),  # nothing to test on
        ([1, 2, 3], (3, -1, -1)),
        ([100, 150, 200], (0, -1, 2)),  # no history before the first event, which is no target then
        ([150, 150], (0, -1, -1)),
        ([200, 300], (0, -1, -1)),
        ([-5, 100, 100, 200], (1, 1, 3)),
    ],
)
def test_by_time_the_first_event_of_a_window_is_its_target_if_it_has_a_history(times, expected):
    assert split([[1, 100, 200], times, []], **BY_TIME) == [(1, 1, 2), expected, (0, -1, -1)]


@pytest.mark.parametrize(
    ("time_unit", "validation_from", "times"),
    [("s", "1970-01-01T00:01:40", [99, 100]), ("ms", "1970-01-01T00:01:40.0005Z", [100_000, 100_001])],
)
def test_boundaries_may_be_iso_text(time_unit, validation_from, times):
    iso = {"validation_from": validation_from, "test_from": "2000-01-01", "time_unit": time_unit}
    assert split([times], **BY_TIME | iso) == [(1, 1, -1)]


@pytest.fixture
def prepared(write_csv, prepare_log):
    rows = [("a", "x", 1), ("a", "y", 2), ("a", "x", 100), ("a", "new", 101), ("a", "newer", 200)]
    rows += [("b", "y", 5), ("b", "new", 120)]
    rows += [("c", "x", 6), ("c", "y", 300), ("c", "x", 400)]
    rows += [("d", "x", 7)]
    return prepare_log(write_csv(rows), **BY_TIME)


def test_sequences_hold_all_events_and_mark_the_split(prepared):
    sequences = pq.read_table(prepared[1] / schema.SEQUENCES).to_pylist()
    expected = {"a": (5, 2, 2, 4), "b": (2, 1, 1, -1), "c": (3, 1, -1, 1), "d": (1, 1, -1, -1)}
    names = ("train_events", "validation", "test")
    assert {row["user_id"]: (len(row["items"]), *(row[name] for name in names)) for row in sequences} == expected


def test_figures_count_the_targets_and_the_cold_ones_among_them(prepared):
    figures, _ = prepared
    cold_and_all = {kind: {"users": 2, "cold": 1, "without_history": 0} for kind in ("validation", "test")}
    assert figures["split"] == {"train_events": 5, **cold_and_all}
    assert figures["events"] == figures["rows_read"] == 11
    assert figures["items"] == 4  # cold ones included


def test_users_without_history_are_counted_by_the_window_of_their_first_event(write_csv, prepare_log):
    """They have no target in that window, so no recall counts them."""
    rows = [("a", "x", 1), ("a", "x", 100), ("a", "x", 200)]
    rows += [("new", "x", 100), ("new", "x", 199), ("new", "x", 200)]
    rows += [("newest", "x", 200), ("latest", "x", 250)]
    figures, _ = prepare_log(write_csv(rows), **BY_TIME)
    assert figures["split"] == {
        "train_events": 1,
        "validation": {"users": 1, "cold": 0, "without_history": 1},
        "test": {"users": 2, "cold": 0, "without_history": 2},
    }


def test_the_split_hash_has_a_line_for_every_user(prepared):
    lines = "a x newer\nb new -\nc - y\nd - -\n"
    assert prepared[0]["split_sha256"] == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize(
    ("validation_from", "test_from", "found"),
    [
        (0, 200, "0 are training events, 0 users have a validation target and 2 a test target"),
        (6, 7, "5 are training events, 0 users have a validation target and 2 a test target"),
        (500, "2030-01-01", "9 are training events, 0 users have a validation target and 0 a test target"),
    ],
)
def test_a_split_without_one_of_its_parts_is_refused(write_csv, prepare_log, validation_from, test_from, found):
    rows = [("a", "x", time) for time in (1, 2, 3, 101, 300)] + [("b", "x", time) for time in (4, 5, 300, 301)]
    with pytest.raises(UserError, match=rf"of 9 events of 2 users {found}\. Move data.validation_from"):
        prepare_log(write_csv(rows), **BY_TIME | {"validation_from": validation_from, "test_from": test_from})


def test_a_split_that_holds_nothing_out_trains_on_every_event(prepare_log, write_csv):
    """Such a run is for serving: it has no targets to measure by, and is not refused."""
    everything = {"split": "none", "min_user_events": 1}
    assert split([[1, 2, 3], [4]], **everything) == [(3, -1, -1), (1, -1, -1)]
    figures, _ = prepare_log(write_csv([("a", "x", 1), ("a", "y", 2)]), **everything)
    nothing = {"users": 0, "cold": 0}
    assert figures["split"] == {"train_events": 2, "validation": nothing, "test": nothing}
