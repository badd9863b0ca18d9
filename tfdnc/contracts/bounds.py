"""Bounds on the results with a value of an attribute as text, such as `country=local>=10`, and their Python form.

A bound is a condition with one value, an operator, and a number of results:

    country=local>=10   at least 10 results have this value, as far as there are items
    brand=acme<=3       at most 3 results have this value
    brand=*<=3          at most 3 results of each value of the column; a value with a bound of its own has only that one
    brand=\\*<=3         at most 3 results with the value `*` itself

An item with several values of a column counts for each.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

import numpy as np

from tfdnc.contracts.conditions import required

EACH = "*"
"""Text in place of a value for each value of a column."""

EACH_ITSELF = "\\*"
"""Text for the value `*`."""

BOUND = r"(?s)^([^=<>!]+)=(.+)(>=|<=)([0-9]{1,9})$"
"""Pattern of a bound: column, value, operator, number of results; the same for Python and for RE2."""

MAX_BOUNDS = 32
"""Most bounds of one row: each may need a search of its own."""

LEAST, MOST = "minimum", "maximum"

Columns = Mapping[str, Mapping[Any, float]]
"""Column -> value -> a count of results, or a share of the list."""


def bound_texts(least: Columns, most: Columns, length: int) -> list[str]:
    """Returns the bounds of `{"country": {"local": 0.2}}` and `{"brand": {"acme": 3, "*": 5}}` in a list of `length`.

    Raises:
        ValueError: A value that no bound can express, or two bounds that no list can keep; the message is one sentence.
    """
    lower, upper = _counts(LEAST, least, length), _counts(MOST, most, length)
    for value, count in lower.items():
        column = value.partition("=")[0]
        if value == f"{column}={EACH}":
            raise ValueError(
                f"Expected {LEAST} of a value, got {value}. Each value of a column can have a {MOST} only."
            )
        limit = value if value in upper else f"{column}={EACH}"
        if limit in upper and count > upper[limit]:
            raise ValueError(
                f"Expected {LEAST} at most {MOST}, got {value}>={count} and {limit}<={upper[limit]} in a list of "
                f"{length} (a share is rounded up as a minimum, and down as a maximum)."
            )
        if count > length:
            raise ValueError(
                f"Expected bounds that one list can keep, got {value}>={count} and num_candidates {length}."
            )
    found = [f"{value}>={count}" for value, count in lower.items()]
    return [*found, *(f"{value}<={count}" for value, count in upper.items())]


def count_of(key: str, name: str, value: float, length: int) -> int:
    """Returns the count that a whole number or a share means in a list; shares are rounded so that the list keeps them.

    Args:
        key: `LEAST` or `MOST`.
        name: Name of what is bounded, for the message.
        value: A whole number is a count, a float is a share in 0..1.
        length: Length of the list.

    Raises:
        ValueError: The value is neither.
    """
    if isinstance(value, Real) and not isinstance(value, bool | np.bool_):
        if isinstance(value, Integral) and 0 <= value <= np.iinfo(np.int32).max:
            return int(value)
        if not isinstance(value, Integral) and 0 <= value <= 1:
            # From the decimal digits: 0.07 of 100 is 7. The binary fraction is slightly larger and would round up to 8.
            exact = Fraction(str(value)) * length
            return math.ceil(exact) if key == LEAST else math.floor(exact)
    expected = "a count (a whole number) or a share of the list (0.0 to 1.0)"
    raise ValueError(f"Expected {key} of {name!r} to be {expected}, got {value!r}.")


def _counts(key: str, columns: Columns, length: int) -> dict[str, int]:
    """Returns the count by `column=value`."""
    counts: dict[str, int] = {}
    for column, values in columns.items():
        if not isinstance(values, Mapping) or not values:
            raise ValueError(f"Expected {key} of {column!r} as a dict of its values, got {values!r}.")
        for value, bound in values.items():
            [text] = required({column: [value]})
            # Longer than any list is no bound, and the text of a bound has at most nine digits.
            counts[text] = min(count_of(key, text, bound, length), 999_999_999)
    return counts
