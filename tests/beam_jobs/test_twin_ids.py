"""Ids that are written in two ways, `7` and `7.0`: counted, with a warning, or an error if most events have them."""

import logging

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs.ids import buckets_of
from beam_jobs.twin_ids import count_twins, without_point
from tfdnc.contracts.errors import UserError


def test_only_integers_lose_their_point():
    ids = ["7", "7.0", "-3.0", "07.00", "7.5", "v7.0", "7.0.0", ".0", "7.", "", "1e3.0"]
    expected = ["7", "7", "-3", "07", "7.5", "v7.0", "7.0.0", ".0", "7.", "", "1e3.0"]
    assert without_point(pa.array(ids)).to_pylist() == expected
    assert without_point(pa.array([], pa.string())).to_pylist() == []


@pytest.mark.parametrize(
    ("ids", "twins", "events"),
    [
        (["7", "8", "7.0"], 1, 1 + 4),
        (["7.0", "8.0", "9.0"], 0, 0),  # all of one spelling
        (["7.0", "7.00", "7", "8", "x.0"], 1, 1 + 2 + 4),
        (["7", "8.0", "9.5"], 0, 0),
        ([], 0, 0),
    ],
)
def test_ids_are_counted_once_with_the_events_of_all_spellings(ids, twins, events):
    counts = count_twins("items", pa.array(ids, pa.string()), 2 ** np.arange(len(ids)))
    assert counts == ({"twin ids: items": twins, "events of twin ids: items": events} if twins else {})


def test_users_that_are_written_in_two_ways_share_a_bucket():
    ids = [str(number) for number in range(50)]
    expected = buckets_of(pa.array(ids), 64).tolist()
    assert buckets_of(pa.array([f"{number}.0" for number in ids]), 64).tolist() == expected
    assert len(set(expected)) > 20


def rows_of(share):
    """Returns 40 users with 10 events each; this share of them writes item ids with a point, as some table tools do."""
    return [(f"u{u}", f"{i}.0" if u < 40 * share else i, i) for u in range(40) for i in range(10)]


def test_a_log_of_two_spellings_is_refused(write_csv, prepare_log):
    """Regression: `7` and `7.0` were two items, each with half of the events, without a warning."""
    message = r"that 10 items are written in two ways, as 7 and 7.0, .*; 400 of 400 events .*astype\('Int64'\)"
    with pytest.raises(UserError, match=message):
        prepare_log(write_csv(rows_of(0.5)), max_events_per_user=20, filter_rounds=2)
    users = [(f"{u % 40}{'.0' if u > 39 else ''}", f"i{i}", i) for u in range(80) for i in range(5)]
    with pytest.raises(UserError, match="40 users are written in two ways"):
        prepare_log(write_csv(users), name="users", num_shards=5)


def test_a_few_ids_of_two_spellings_are_a_warning_and_in_the_figures(write_csv, prepare_log, caplog):
    rows = [*rows_of(0), ("7", "x", 1), ("7", "3.0", 2), ("7", "y", 3), *[("7.0", f"i{n}", n) for n in range(4)]]
    with caplog.at_level(logging.WARNING):
        figures, _ = prepare_log(write_csv(rows))
    assert figures["twin_ids"] == {"items": 1, "users": 1}
    said = [record.getMessage() for record in caplog.records if "two ways" in record.getMessage()]
    assert ["1 items" in said[0], "41 of 407 events" in said[0], "7 of 407 events" in said[1]] == [True] * 3
    caplog.clear()
    figures, _ = prepare_log(write_csv(rows_of(1)), name="one")  # a single spelling with a point is allowed
    assert figures["twin_ids"] == {"items": 0, "users": 0}
    assert "two ways" not in caplog.text
