"""Times of a log in any spelling become integers of one unit, or null."""

import calendar
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs.logs.log_times import BAD_ISO_TIME, BAD_TIME, complaint, times_of_text, times_of_timestamps

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(*texts):
    return times_of_text(pa.array(texts, pa.binary()), "iso").to_pylist()


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_integers_stay_unchanged(unit):
    texts = ["7", "007", "-5", "999999999999999999", "1.0", "1600000000.5", "1e3", " 7", "", None, "9" * 19]
    assert times_of_text(pa.array(texts), unit).to_pylist() == [7, 7, -5, 10**18 - 1, *[None] * 7]
    assert complaint(unit) == BAD_TIME


def test_iso_text_is_read_as_datetime_reads_it():
    rng = np.random.default_rng(1)
    texts, expected = [], []
    for separator in "T ":
        for offset in (None, UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=2))):
            for timespec in ("minutes", "seconds", "milliseconds", "microseconds"):
                # From year 2 to 9998, so that every offset stays in the range of `datetime`.
                moment = datetime(2, 1, 1, tzinfo=offset) + timedelta(
                    seconds=float(rng.uniform(0, 9996 * 365.2 * 86_400))
                )
                texts.append(moment.isoformat(separator, timespec).replace("+00:00", "Z"))
                back = datetime.fromisoformat(texts[-1])
                back = back if back.tzinfo else back.replace(tzinfo=UTC)
                expected.append((back - EPOCH) // timedelta(microseconds=1))
    assert microseconds(*map(str.encode, texts)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01", 0),
        ("1969-12-31", -86_400_000_000),
        ("1969-12-31T23:59:59.5", -500_000),
        ("1969-12-31T23:59:59.9999999Z", -1),  # cut off to a microsecond, not rounded up to 1970
        ("2020-02-29 10:20:30.123456789", 1_582_971_630_123_456),
        ("2020-01-01T10:20+0200", 1_577_866_800_000_000),
        ("2020-01-01T10:20:30-02", 1_577_881_230_000_000),
        ("2020-01-01 10:20:30 UTC", 1_577_874_030_000_000),  # BigQuery
        ("2020-01-01 10:20:30.5 GMT", 1_577_874_030_500_000),
        ("2020-01-01 10:20UTC", 1_577_874_000_000_000),
        ("2020-01-01T10:20:30.123456789 UTC", 1_577_874_030_123_456),
        ("2020-01-01 10:20:30.000 +0200", 1_577_866_830_000_000),  # Snowflake
        ("2020-01-01 10:20:30 Z", 1_577_874_030_000_000),
    ],
)
def test_iso_texts_that_need_care(text, expected):
    assert microseconds(text.encode()) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1600000000",
        "2020-1-1",
        "2020-13-01",
        "2020-00-10",
        "2020-04-31",
        "2021-02-29",
        "1900-02-29",
        "2020-01-01T24:00",
        "2020-01-01T10",
        "2020-01-01T10:60",
        "2020-01-01T10:20:60",
        "2020-01-01T10:20:30.",
        "2020-01-01T10:20:30+24:00",
        "2020-01-01Z",
        "2020-01-01T10:20:30 utc",
        "2020-01-01T10:20:30  UTC",
        "2020-01-01T10:20:30 UTC+1",
        "2020-01-01T10:20:30 CET",
        "2020-01-01 UTC",
        "2020-01-01T10:20:30\n",
        "20200101T102030Z",
        "01/02/2020",
        b"2020-01-01\xff",
    ],
)
def test_other_text_than_iso_times_is_null_and_affects_no_other(text):
    text = text if isinstance(text, bytes) else text.encode()
    assert microseconds(b"1970-01-01", text, None, b"1970-01-02Z", b"1970-01-02T00:00Z") == [
        0,
        None,
        None,
        None,
        86_400_000_000,
    ]
    assert complaint("iso") == BAD_ISO_TIME


def test_exactly_the_days_of_the_calendar_are_dates():
    years = [4, 100, 400, 1900, 1970, 2000, 2023, 2024, 2100, 9999]
    days = [(year, month, day) for year in years for month in range(14) for day in range(33)]
    found = (
        times_of_text(pa.array([f"{year:04}-{month:02}-{day:02}" for year, month, day in days]), "iso")
        .is_valid()
        .to_pylist()
    )
    assert found == [1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1] for year, month, day in days]
    leap_days = times_of_text(pa.array([f"{year:04}-02-29" for year in range(10_000)]), "iso")
    assert leap_days.is_valid().to_pylist() == [calendar.isleap(year) for year in range(10_000)]


@pytest.mark.parametrize("unit", ["iso", "s"])
def test_no_texts_are_no_times(unit):
    assert times_of_text(pa.array([], pa.binary()), unit).equals(pa.array([], pa.int64()))


@pytest.mark.parametrize(
    ("unit", "ticks", "expected"),
    [
        ("s", [-1, None, 2**62], [-1_000_000, None, None]),  # the last one is no int64 of microseconds
        ("ms", [-1, None, 2**62], [-1_000, None, None]),
        ("us", [-1, None, 2**62], [-1, None, 2**62]),
        ("ns", [-1, None, 1_999], [-1, None, 1]),  # down, also before 1970
    ],
)
@pytest.mark.parametrize("zone", [None, "Europe/Paris"])
def test_timestamps_are_microseconds_of_utc_rounded_down(unit, ticks, expected, zone):
    assert times_of_timestamps(pa.array(ticks, pa.timestamp(unit, zone))).to_pylist() == expected


def test_dates_are_midnights():
    assert times_of_timestamps(pa.array([-1, None], pa.date32())).to_pylist() == [-86_400_000_000, None]
