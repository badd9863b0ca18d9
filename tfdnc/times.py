"""Points in time as a config gives them, in the unit in which a log counts time."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _check_instant(value: object) -> object:
    """Returns a number as it is, and what is ISO 8601 as text; YAML makes dates of unquoted text by itself."""
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("expected a time in ISO 8601, such as 2022-05-01T00:00, or a number") from None
    return value


Instant = Annotated[int | str, BeforeValidator(_check_instant)]
"""A number in the log's own unit, or ISO 8601 text, which means UTC unless it names a zone."""


def first_time_from(instant: Instant, ticks_per_second: int) -> int:
    """Returns the first time that a log can have at or after an instant, in the log's unit since 1970."""
    if isinstance(instant, int):
        return instant
    moment = datetime.fromisoformat(instant)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    return -(-microseconds * ticks_per_second // 1_000_000)  # rounded up
