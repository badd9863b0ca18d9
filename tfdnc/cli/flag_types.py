"""Readers of flags with numbers; their error texts name the expected values."""

import argparse
from collections.abc import Callable

from tfdnc.contracts.times import Instant, check_instant


def _number(kind: type[int] | type[float], fits: Callable[[float], bool], expected: str) -> Callable[[str], float]:
    """Returns the reader of a flag; argparse itself would show the name of a function in an error."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError as error:
            whole = "whole " if kind is int else ""
            raise argparse.ArgumentTypeError(f"expected a {whole}number, got {text}") from error
        if not fits(value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text}")
        return value

    return read


share = _number(float, lambda value: 0 <= value <= 1, "a share in 0..1")
"""Reader of a share in [0, 1]."""

at_least_zero = _number(float, lambda value: value >= 0, "a number of 0 or more")  # refuses NaN too
"""Reader of an alpha or of seconds."""

count = _number(int, lambda value: 1 <= value < 2**31, "1 or more, and below 2^31")
"""Reader of a count in 1..2^31-1."""

count_or_none = _number(int, lambda value: 0 <= value < 2**31, "0 or more, and below 2^31")
"""Reader of a count in 0..2^31-1."""


def instant(text: str) -> Instant:
    """Reads a time: a number in the unit of the log, or ISO 8601."""
    value: Instant = int(text) if text.lstrip("-").isdecimal() else text
    try:
        check_instant(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, got {text}") from error
    return value
