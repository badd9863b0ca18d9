"""Points in time, as a config gives them, in the unit of a log."""

import pytest

from tfdnc.data_config import UNITS_PER_SECOND
from tfdnc.times import first_time_from


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
