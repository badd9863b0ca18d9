"""Points in time as a config gives them, in the unit in which a log counts time."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONG_AGO, FAR_FUTURE = datetime(1980, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""Bounds of times that are read as dates; smaller numbers may be counts of events, larger ones have another unit."""

_FACTORS = (1, 2, 3, -1, -2, -3)  # powers of 1000 between two of s, ms, us and ns


def check_instant(value: object) -> object:
    """Returns a number or ISO 8601 text as it is, and a date of YAML, which is unquoted text, as ISO 8601 text.

    Raises:
        ValueError: the text is not ISO 8601.
    """
    if isinstance(value, date):  # the base of datetime
        return value.isoformat()
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("expected a time in ISO 8601, such as 2022-05-01T00:00, or a number") from None
    return value


Instant = Annotated[int | str, BeforeValidator(check_instant)]
"""A number in the log's own unit, or ISO 8601 text, in UTC unless it names a zone."""


def first_time_from(instant: Instant, ticks_per_second: int) -> int:
    """Returns the first time that a log can have at or after an instant, in the log's unit since 1970."""
    if isinstance(instant, int):
        return instant
    moment = datetime.fromisoformat(instant)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    return -(-microseconds * ticks_per_second // 1_000_000)  # rounded up


def misread_by(times: Iterable[int], ticks_per_second: int) -> int | None:
    """Returns k if the times of a log are no dates, but would be in a unit of 1000 ** k times the length.

    Returns None if they are dates, or if no unit makes them dates. Counters, and clocks that start with the log, begin
    near 0 in every unit.

    Args:
        times: the first and the last one.
        ticks_per_second: of the unit in which they were read.
    """
    if _are_dates(times, ticks_per_second):
        return None
    return next((k for k in _FACTORS if _are_dates(times, ticks_per_second * 1000.0**-k)), None)


def _are_dates(times: Iterable[int], ticks_per_second: float) -> bool:
    """True if every time is between `LONG_AGO` and `FAR_FUTURE`."""
    return all(LONG_AGO.timestamp() <= time / ticks_per_second <= FAR_FUTURE.timestamp() for time in times)


def shown_time(time: int, ticks_per_second: int) -> str:
    """Returns a time of a log as ISO 8601 text in UTC, or as the number that it is where that is no date."""
    if not _are_dates([time], ticks_per_second):
        return str(time)
    return datetime.fromtimestamp(time // ticks_per_second, UTC).isoformat()


def days_of(times: Iterable[int], ticks_per_second: float) -> list[str] | None:
    """Returns times of a log as dates (UTC); None if one is not between `LONG_AGO` and `FAR_FUTURE`."""
    if not _are_dates(times, ticks_per_second):
        return None
    return [datetime.fromtimestamp(time / ticks_per_second, UTC).date().isoformat() for time in times]
