"""Points in time, as a config gives them, in the unit of a log."""

import pytest

from tfdnc.contracts.data_config import UNITS_PER_SECOND
from tfdnc.contracts.times import days_of, first_time_from, misread_by


@pytest.mark.parametrize(
    ("instant", "unit", "time"),
    [
        (17, "ms", 17),
        ("1970-01-02", "s", 86_400),
        ("1970-01-01T00:00:01Z", "us", 1_000_000),
        ("1970-01-01 02:00:00+02:00", "ms", 0),
        ("1970-01-01T00:00:00.25", "s", 1),  # the first whole second that is not before it
        ("1970-01-01T00:00:00.25", "ms", 250),
        ("1969-12-31T23:59:58.5", "s", -1),
        ("1969-12-31T23:59:58.5", "iso", -1_500_000),
    ],
)
def test_the_first_time_of_a_log_at_or_after_an_instant(instant, unit, time):
    assert first_time_from(instant, UNITS_PER_SECOND[unit]) == time


@pytest.mark.parametrize(
    ("times", "unit", "days"),
    [
        ([956_703_932, 1_046_454_590], "s", ["2000-04-25", "2003-02-28"]),
        ([956_703_932_999, 1_046_454_590_000], "ms", ["2000-04-25", "2003-02-28"]),
        ([0, 1_046_454_590], "s", None),
        ([956_703_932, 1_046_454_590_000], "s", None),
        ([-(2**63), 2**63 - 1], "us", None),
    ],
)
def test_times_are_shown_as_days_where_they_can_be_some(times, unit, days):
    assert days_of(times, UNITS_PER_SECOND[unit]) == days


@pytest.mark.parametrize(
    ("times", "unit", "factor"),
    [
        ([956_703_932, 1_046_454_590], "s", None),
        ([956_703_932, 1_046_454_590], "ms", 1),
        ([956_703_932, 1_046_454_590], "us", 2),
        ([956_703_932, 1_046_454_590], "iso", 2),  # from milliseconds that were taken for nanoseconds
        ([956_703, 1_046_454], "iso", 3),  # from seconds
        ([956_703_932_000, 1_046_454_590_000], "us", 1),
        ([956_703_932_000, 1_046_454_590_000], "s", -1),
        ([956_703_932 * 10**9, 1_046_454_590 * 10**9], "s", -3),
        # Counters, clocks that start with the log, and times that are dates in no unit.
        *(([1, 10**7], unit, None) for unit in UNITS_PER_SECOND),
        ([0, 30 * 86_400_000], "ms", None),
        ([-956_703_932, -1], "ms", None),
        ([0, 1_046_454_590_000], "s", None),
    ],
)
def test_times_that_would_be_dates_in_another_unit(times, unit, factor):
    """Seconds read as milliseconds passed in silence, and sessions fell together."""
    assert misread_by(times, UNITS_PER_SECOND[unit]) == factor
