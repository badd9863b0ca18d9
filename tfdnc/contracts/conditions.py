"""Conditions of the shop's rules as text, such as `in_stock=true` or `price<=20`, and their Python form.

A condition is the name of a column, an operator, and a value:

    brand=acme      the item has this value; several values of one column are alternatives
    brand!=acme     the item does not have this value
    price>=5        and <=, <, >: the item has a number, and it is in the range
    cluster=Comedy  the item is in a cluster of this name

All columns of a row must agree. An item without a value in a column matches no `=` and no range, and every `!=`.
"""

import math
import re
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np

CLUSTER = "cluster"
"""Column of the clusters' names, which every bundle with attributes has; no attribute may have this name."""

CONDITION = r"(?s)^([^=<>!]+)(!=|<=|>=|=|<|>)(.*)$"
"""Pattern of a condition: column, operator, value; the same for Python and for RE2."""

NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"
"""Pattern of the value of a range."""

MAX_CONDITIONS = 256
"""Most conditions of one row: every one costs a pass over the bits of all items."""

COLUMN_NAME = r"^[^=<>!\s]([^=<>!\r\n]*[^=<>!\s])?$"
"""Pattern of the name of a column."""

Rule = Mapping[str, Any]
"""Column -> a value, a list of alternatives, or a range `(least, most)` with None for no bound."""


def required(rule: Rule) -> list[str]:
    """Returns the conditions of `{"in_stock": True, "brand": ["acme", "umbrella"], "price": (None, 20)}`.

    A tuple of two numbers, or of a number and None, is a range with both ends; every other sequence is alternatives.

    Raises:
        ValueError: A column or value that no condition can express; the message is one sentence.
    """
    found: list[str] = []
    for name, value in rule.items():
        column = _column(name)
        if _is_range(value):
            found += [
                f"{column}{sign}{_text(column, end)}"
                for sign, end in zip((">=", "<="), value, strict=True)
                if end is not None
            ]
        else:
            found += [f"{column}={_text(column, one)}" for one in _alternatives(column, value)]
    return found


def forbidden(rule: Rule) -> list[str]:
    """Returns the conditions of `{"brand": ["acme"], "tags": "adult"}`: no item has one of these values.

    Raises:
        ValueError: As for `required`, and for a range.
    """
    found: list[str] = []
    for name, value in rule.items():
        column = _column(name)
        if _is_range(value):
            raise ValueError(
                f"Expected values to forbid of {column!r}, got the range {value!r}. Require the other range."
            )
        found += [f"{column}!={_text(column, one)}" for one in _alternatives(column, value)]
    return found


def checked(texts: Iterable[str]) -> list[str]:
    """Returns conditions that are given as text.

    Raises:
        ValueError: One of them is not a condition.
    """
    found = list(texts)
    for text in found:
        if not isinstance(text, str) or not re.match(CONDITION, text):
            raise ValueError(f"Expected a condition such as in_stock=true, brand!=acme or price<=20, got {text!r}.")
        _encodable(text, "a condition")
    return found


def _column(name: object) -> str:
    if not isinstance(name, str) or not re.match(COLUMN_NAME, name):
        raise ValueError(f"Expected the name of a column without any of = < > !, got {name!r}.")
    return _encodable(name, "the name of a column")


def _is_range(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return all(end is None or _is_number(end) for end in value)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def _alternatives(column: str, value: Any) -> list[Any]:
    several = [value] if isinstance(value, str | bool | np.bool_ | Real) else value
    if isinstance(several, Mapping) or not isinstance(several, Iterable):
        raise ValueError(f"Expected a value of {column!r}, a list of these, or a range (least, most), got {value!r}.")
    listed = list(several)
    if not listed:
        raise ValueError(f"Expected at least one value of {column!r}, got none. Leave the column out.")
    return listed


def _text(column: str, value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, str):
        if value.strip() != value or not value:
            raise ValueError(f"Expected a value of {column!r} without spaces around it, got {value!r}.")
        return _encodable(value, f"a value of {column!r}")
    if isinstance(value, Real):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"Expected a finite number for {column!r}, got {value!r}. None leaves an end open.")
        return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
    raise ValueError(f"Expected text, a number, True or False for {column!r}, got {value!r} ({type(value).__name__}).")


def _encodable(text: str, meaning: str) -> str:
    """Returns the text; refuses a lone surrogate, which no request can carry."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"Expected {meaning} that UTF-8 can express, got {text!r}.") from error
    return text
