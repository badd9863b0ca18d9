"""A warning of a log whose times are read in another unit than they were written in."""

import logging

from beam_jobs.logs.log_times import ISO
from tfdnc.contracts.data_config import NANOSECONDS, DataConfig
from tfdnc.contracts.times import FAR_FUTURE, days_of, misread_by

_log = logging.getLogger(__name__)

_UNITS = ("s", "ms", "us", NANOSECONDS)  # each a thousandth of the one before
_SECONDS_PER_YEAR = 365.2425 * 86_400


def warn_of_unit(figures: dict, config: DataConfig) -> None:
    """Logs a warning when the times of the log make no sense, or would make sense in another unit."""
    last, factor = figures["times"][1] / config.ticks_per_second, misread_by(figures["times"], config.ticks_per_second)
    if factor is not None and config.unit != ISO and not 0 <= _UNITS.index(config.unit) - factor < len(_UNITS):
        factor = None  # no log is written in longer ticks than seconds: these are counted from the log's own start
    if factor is None and last <= FAR_FUTURE.timestamp():
        return
    _log.warning(
        "The times of the log reach the year %d: %s%s Gaps of sessions and dates of a split are counted in it.",
        1970 + last / _SECONDS_PER_YEAR,
        _question_of_unit(config),
        "" if factor is None else _unit_that_makes_sense(figures["times"], config, factor),
    )


def _question_of_unit(config: DataConfig) -> str:
    if config.unit == ISO:
        return "were the dates made of numbers in another unit than was thought?"
    brought = config.unit != config.time_unit  # by the format
    unit = f"the {config.unit} of data.format {config.format}" if brought else f"data.time_unit = {config.unit}"
    return f"are they in another unit than {unit}?"


def _unit_that_makes_sense(times: list[int], config: DataConfig, factor: int) -> str:
    """Returns what to do about times whose ticks are 1000 ** factor times as long as they were taken for."""
    first, last = days_of(times, config.ticks_per_second * 1000.0**-factor)
    if config.unit == ISO:
        return f" Ticks 1000^{factor} times as long would make them {first} to {last}."
    unit = _UNITS[_UNITS.index(config.unit) - factor]
    advice = "divide them by 1000 for us" if unit == NANOSECONDS else f"set data.time_unit: {unit}"
    return f" In {unit} they would be {first} to {last}: {advice}."
