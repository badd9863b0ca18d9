"""Days of a log, as ranges of its times."""

from typing import NamedTuple

from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.times import Instant, days_of, first_time_from

_SECONDS = 86_400


class Day(NamedTuple):
    """A day: its events are those from `start` to before `stop`, in the log's unit."""

    start: int
    stop: int
    name: str  # the date, or the number `start` in a log without dates


def days_from(data: DataConfig, first: Instant, count: int) -> list[Day]:
    """Returns `count` days of 24 hours, one after the other.

    Args:
        data: of the log; its unit counts.
        first: time at which the first day starts.
        count: number of days.

    Raises:
        UserError: the log has no times.
    """
    if not data.has_times:
        raise UserError("Expected a log with times to play its days, but data.columns.time is null.")
    start, length = first_time_from(first, data.ticks_per_second), _SECONDS * data.ticks_per_second
    starts = [start + number * length for number in range(count)]
    names = days_of(starts, data.ticks_per_second) or map(str, starts)
    return [Day(begin, begin + length, name) for begin, name in zip(starts, names, strict=True)]
