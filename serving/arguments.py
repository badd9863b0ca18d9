"""Arguments of a client as lists and arrays, from ordered collections of any library; other values are refused.

The truth value of a collection is never used: that of an array is an error, and an empty generator is true.
"""

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NoReturn

import numpy as np

TextRows = Iterable[Iterable[str]]
"""[B] sequences of text."""

NumberRows = Iterable[Iterable[int]]
"""[B] sequences of whole numbers."""

Known = str | float | None
"""Value of a declared input; None is unknown."""

Features = Mapping[str, Iterable[Iterable[Known]] | Iterable[Known] | Known]
"""Values by name of a declared input: of events [B] sequences, of requests and users one value for all or [B]."""

WholeNumbers = int | Iterable[int]
"""One whole number for all users, or [B]."""

Numbers = float | Iterable[float]
"""One number for all users, or [B]."""

ClusterNumbers = Iterable[float] | Iterable[Iterable[float]]
"""[K] numbers for all users, or [B, K]."""

Words = str | Iterable[str]
"""One word for all users, or [B]."""

_UNORDERED = "Sets and dicts say nothing about the order: give a list."
_TABLE = "Give the one column of the table that holds them."
_FLAT = "Give one list for each user, also for a single one."
_NOT_TEXT = "Make text of every id with str, as it is in the log."


def text_rows(values: Any, name: str) -> list[list[str]]:
    """Returns an ordered collection of ordered collections of text as lists.

    Raises:
        ValueError: Another value; the message calls it `name`.
    """
    what = "item ids as text"
    rows = number_rows(values, name, what)
    for place, row in enumerate(rows):
        for value in row:
            if not isinstance(value, str):
                _refuse(name, what, value, _NOT_TEXT, place)
    return rows


def number_rows(values: Any, name: str, what: str = "numbers") -> list[list[Any]]:
    """Returns an ordered collection of ordered collections as lists; `per_row` checks the elements.

    Raises:
        ValueError: Another value.
    """
    return [_listed(row, name, what, place) for place, row in enumerate(_listed(values, name, what))]


def listed(values: Any) -> list[Any] | None:
    """Returns an ordered collection as a list; None for anything else: one value, text, a set, a dict, a table."""
    if type(values) in (list, tuple):  # the usual types, first for speed
        return list(values)
    if isinstance(values, Set | Mapping | str | bytes) or _is_table(values):
        return None
    if hasattr(values, "to_pylist"):  # an array of Arrow, which yields Arrow scalars
        return values.to_pylist()
    try:
        iterator = iter(values)
    except TypeError:  # a single value, or an array without dimensions
        return None
    return list(iterator)


def _is_table(values: Any) -> bool:
    """Returns True for a table of pandas, polars or Arrow; iterating it yields column names or columns."""
    return hasattr(values, "columns")


def _listed(values: Any, name: str, what: str, place: int | None = None) -> list[Any]:
    found = listed(values)
    if found is None:
        unordered = isinstance(values, Set | Mapping)
        _refuse(name, what, values, _UNORDERED if unordered else _TABLE if _is_table(values) else _FLAT, place)
    return found


def _refuse(name: str, what: str, came: Any, advice: str, place: int | None) -> NoReturn:
    where = "" if place is None else f" in row {place}"
    raise ValueError(
        f"Expected {name} to be a sequence of {what} for each user, got {shown(came)} "
        f"({type(came).__name__}){where}. {advice}"
    )


def shown(value: Any) -> str:
    """Returns a value in one line, shortened if it is long."""
    return " ".join(reprlib.repr(value).split())


def per_row(value: Any, rows: int, dtype: type, name: str, least: int | None = None) -> np.ndarray:
    """Returns `value` as an array [rows], repeated if it is a single number.

    Raises:
        ValueError: Neither one number of the kind of `dtype` nor one for each row, NaN, or less than `least`.
    """
    array = _numbers(value, dtype)
    if array is None:
        raise ValueError(f"Expected {name} in numbers of {np.dtype(dtype).name}, got {shown(value)}.")
    if array.ndim and array.shape != (rows,):
        raise ValueError(f"Expected one {name} or {rows}, one per history, got shape {list(array.shape)}.")
    if least is not None and np.any(array < least):
        raise ValueError(f"Expected {name} from {least} up, got {shown(value)}.")
    if np.any(np.isnan(array)):
        raise ValueError(f"Expected {name} in numbers, got {shown(value)}.")
    return np.broadcast_to(array, (rows,))


def word_per_row(value: Any, rows: int, choices: Sequence[str], name: str) -> np.ndarray:
    """Returns `value` as an array of text [rows], repeated if it is a single word.

    Raises:
        ValueError: Neither one of `choices` nor one of them for each row.
    """
    words = [value] * rows if isinstance(value, str) else listed(value)
    if words is None or not all(word in choices for word in words):
        raise ValueError(f"Expected {name} as one of {', '.join(map(repr, choices))}, got {shown(value)}.")
    if len(words) != rows:
        raise ValueError(f"Expected one {name} or {rows}, one per history, got {len(words)}.")
    return np.array(words, object)


def per_cluster(value: Any, rows: int, dtype: type, name: str, least: int | None = None) -> np.ndarray:
    """Returns `value`, [K] or [rows, K], as an array [rows, K].

    Raises:
        ValueError: It is of another shape or kind, or not finite and at least `least`.
    """
    array = _numbers(value, dtype)
    if array is None or not (array.ndim == 1 or (array.ndim == 2 and len(array) == rows)):
        raise ValueError(
            f"Expected {name} in numbers of {np.dtype(dtype).name}, one per cluster, or {rows} rows of these, "
            f"got {shown(value)}."
        )
    if least is not None and not np.all(np.isfinite(array) & (array >= least)):
        raise ValueError(f"Expected {name} to be finite numbers from {least} up, got {shown(value)}.")
    return np.broadcast_to(array, (rows, array.shape[-1]))


def _numbers(value: Any, dtype: type) -> np.ndarray | None:
    """Returns an array of `dtype`, or None if `dtype` cannot hold `value`; a float is never a whole number."""
    value = list(value) if isinstance(value, Iterator) else value
    try:
        array = np.asarray(value)
        if array.dtype == object:  # nullable integers of pandas
            array = np.asarray(array.tolist())
    except (ValueError, TypeError):  # rows of different lengths, a missing number
        return None
    if not array.size:
        return array.astype(dtype)
    whole = np.issubdtype(dtype, np.integer)
    if array.dtype.kind not in ("iu" if whole else "iuf"):
        return None
    if whole and not (np.iinfo(dtype).min <= array.min() and array.max() <= np.iinfo(dtype).max):
        return None
    return array.astype(dtype)
