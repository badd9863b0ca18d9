"""Events that are in the log twice, and targets that lists leave out."""

import logging

import pyarrow as pa
import pytest

from beam_jobs.repetitions import count_repetitions
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import DataConfig

ITEMS, DAYS = "abcdefgh", range(8)
ONCE = [(f"u{user}", item, day // 4) for user in range(12) for day, item in zip(DAYS, ITEMS, strict=True)]


def read_log(paths, prepare_log, caplog, **config):
    """Returns the figures and the warnings of the accounts."""
    with caplog.at_level(logging.WARNING, "beam_jobs"):
        figures, _ = prepare_log(paths, **config)
    return figures, " ".join(caplog.messages)


def test_one_bucket_by_hand():
    columns = [["a", "b"], [[1, 2, 1, 1, 2], [3, 3, 4]], [[0, 0, 0, 1, 1], [0, 1, 1]], [3, 1], [3, 1], [4, 2]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema.SEQUENCE_SCHEMA, strict=True)]
    sequences = pa.RecordBatch.from_arrays(arrays, schema=schema.SEQUENCE_SCHEMA)
    assert count_repetitions(sequences, has_times=True) == {
        "events equal to an earlier one": 1,  # item 1 at time 0
        "validation targets seen": 2,
        "validation targets equal": 0,
        "validation targets in_a_row": 2,
        "test targets seen": 1,  # item 2
        "test targets equal": 0,
        "test targets in_a_row": 0,
    }
    assert count_repetitions(sequences, has_times=False)["events equal to an earlier one"] == 0


@pytest.mark.parametrize("chunk_bytes", [100, 1 << 20])
@pytest.mark.parametrize("copies", [1, 2])
def test_an_export_that_is_there_twice_gets_a_warning_or_is_dropped(
    write_csv, prepare_log, caplog, copies, chunk_bytes
):
    """Regression: with days a b c a b c no event followed its copy, so none was collapsed and every recall was 0."""
    paths = [str(write_csv(ONCE, f"day-{copy}.csv")) for copy in range(copies)]
    arguments = (paths, prepare_log, caplog)
    runner_args = [f"--chunk_bytes={chunk_bytes}"]
    figures, said = read_log(*arguments, repeats="collapse", runner_args=runner_args, name="kept")
    assert figures["rows_filtered"]["repeats"] == 0
    if copies == 1:
        assert (figures["equal_events"], figures["seen_targets"]["test"]["seen"], said) == (0, 0, "")
    else:
        assert figures["equal_events"] == len(ONCE)
        assert figures["seen_targets"]["test"] == {"seen": 12, "equal": 12, "in_a_row": 0}
        assert "96 of 192 events have the user, item and time of an earlier one" in said
        assert "12 of 12 test targets are items that the user's history holds already." in said
        assert "Most of them are events that came twice: set data.duplicates: drop." in said
    caplog.clear()
    figures, said = read_log(*arguments, duplicates="drop", runner_args=runner_args, name="dropped")
    assert figures["rows_filtered"]["duplicates"] == len(ONCE) * (copies - 1)
    assert (figures["events"], figures["equal_events"], said) == (len(ONCE), 0, "")


@pytest.mark.parametrize(
    ("last", "advice"),
    [("gg", "set data.repeats: collapse."), ("ba", "set data.seen: allow.")],
)
def test_the_warning_about_seen_targets_has_advice(write_csv, prepare_log, caplog, last, advice):
    rows = [(f"u{user}", item, day) for user in range(12) for day, item in enumerate(f"abcdef{last}")]
    _, said = read_log(write_csv(rows), prepare_log, caplog)
    assert "no recall can exceed 0.00" in said
    assert advice in said
    caplog.clear()
    _, said = read_log(write_csv(rows), prepare_log, caplog, seen="allow", name="allowed")
    assert said == ""  # lists do not leave them out


def test_dropped_repetitions_get_a_hint_where_lists_may_hold_them(write_csv, prepare_log, caplog):
    rows = [(f"u{user}", item, day) for user in range(12) for day, item in enumerate("abbcdefg")]
    _, said = read_log(write_csv(rows), prepare_log, caplog, seen="allow", repeats="collapse")
    assert "12 events were dropped because they repeat the event before, while data.seen: allow" in said
    assert "Set data.repeats: keep." in said


def test_without_times_no_event_equals_another():
    with pytest.raises(ValueError, match=r"expected columns\.time to name a column with duplicates: drop, got null"):
        DataConfig(path="log.csv", columns={"time": None}, duplicates="drop")
