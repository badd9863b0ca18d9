"""Warning for a log whose times seem to have another unit than the config gives."""

import logging
from collections.abc import Sequence
from typing import Any

from beam_jobs.logs.log_times import ISO
from tfdnc.contracts.data_config import NANOSECONDS, DataConfig
from tfdnc.contracts.times import FAR_FUTURE, days_of, misread_by

_log = logging.getLogger(__name__)

_UNITS = ("s", "ms", "us", NANOSECONDS)  # each is a thousandth of the one before
_SECONDS_PER_YEAR = 365.2425 * 86_400


def warn_of_unit(figures: dict[str, Any], config: DataConfig) -> None:
    """Logs a warning if the times of the log are too late for dates, or would be dates in another unit."""
    last, factor = figures["times"][1] / config.ticks_per_second, misread_by(figures["times"], config.ticks_per_second)
    if factor is not None and config.unit != ISO and not 0 <= _UNITS.index(config.unit) - factor < len(_UNITS):
        factor = None  # no unit is longer than a second: such times do not count from 1970
    if factor is None and last <= FAR_FUTURE.timestamp():
        return
    _log.warning(
        "The times of the log reach the year %d: %s%s Gaps of sessions and dates of a split are counted in it.",
        1970 + last / _SECONDS_PER_YEAR,
        _question_of_unit(config),
        "" if factor is None else _advice_on_unit(figures["times"], config, factor),
    )


def _question_of_unit(config: DataConfig) -> str:
    if config.unit == ISO:
        return "were the dates made of numbers in another unit than was thought?"
    by_format = config.unit != config.time_unit  # the format determines the unit
    unit = f"the {config.unit} of data.format {config.format}" if by_format else f"data.time_unit = {config.unit}"
    return f"are they in another unit than {unit}?"


def _advice_on_unit(times: Sequence[int], config: DataConfig, factor: int) -> str:
    """Returns advice for times whose ticks are 1000 ** factor times as long as those of the config."""
    days = days_of(times, config.ticks_per_second * 1000.0**-factor)
    if days is None:  # `misread_by` does not return such a factor
        return ""
    first, last = days
    if config.unit == ISO:
        return f" Ticks 1000^{factor} times as long would make them {first} to {last}."
    unit = _UNITS[_UNITS.index(config.unit) - factor]
    advice = "divide them by 1000 for us" if unit == NANOSECONDS else f"set data.time_unit: {unit}"
    return f" In {unit} they would be {first} to {last}: {advice}."
