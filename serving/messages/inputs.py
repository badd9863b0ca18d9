"""Tensors of a signature from the arguments of a client, by the shape that a signature declares for each input."""

import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from serving import arguments
from tfdnc.contracts.bundle import (
    ALLOWED,
    BOUNDED,
    CONDITIONS,
    EXCLUDED,
    PER_CLUSTER,
    PER_EVENT,
    PER_EXPOSURE,
    PER_USER,
    Row,
)

Histories = Sequence[Sequence[str]]


def tensor_of(row: Row, value: Any, histories: Histories) -> np.ndarray:
    """Returns `value` as the tensor of an input, or the input's neutral values if it is None.

    Args:
        row: Declaration of the input.
        value: Value of the argument `row.says`.
        histories: [B] histories of the request, for the number of rows and the number of events of each.

    Raises:
        ValueError: The value is of another kind or shape, or below `row.least`.
    """
    if value is None:
        return row.blank({"B": len(histories)})
    return _READERS.get(row.shape, _as_it_is)(row, value, histories)


def history_array(rows: Histories) -> np.ndarray:
    """Returns rows of text as one object array [B, L], padded with "".

    Every row begins with "", so L is at least 1. A server that pads requests of different lengths into one batch
    repeats the first element of a request, which must not be an item. A row of padding is a cold start.
    """
    return _fill(np.full((len(rows), 1 + max(map(len, rows), default=0)), "", object), rows)


def _fill(array: np.ndarray, rows: Iterable[Sequence[Any] | np.ndarray]) -> np.ndarray:
    """Writes each row of values into a row of `array` [B, L], after its first column, and returns the array."""
    for padded, values in zip(array, rows, strict=True):
        padded[1 : 1 + len(values)] = values
    return array


def _per_user(row: Row, value: Any, histories: Histories) -> np.ndarray:
    if row.choices:
        return arguments.word_per_row(value, len(histories), [*row.choices, str(row.neutral)], row.says)
    if _is_declared(row):
        several = arguments.listed(value)
        known = _known(row, [value] if several is None else several)
        value = known[0] if several is None else known
        if row.dtype == "string":
            return _texts(row, value, len(histories))
    return arguments.per_row(value, len(histories), row.numpy_dtype.type, row.says, row.least)


def _per_cluster(row: Row, value: Any, histories: Histories) -> np.ndarray:
    return arguments.per_cluster(value, len(histories), row.numpy_dtype.type, row.says, row.least)


def _per_event(row: Row, value: Any, histories: Histories) -> np.ndarray:
    """Returns an array [B, L], as wide as the histories: a value for each item, or none for all items of a user."""
    text = row.dtype == "string" and not _is_declared(row)
    rows = arguments.text_rows(value, row.says) if text else arguments.number_rows(value, row.says)
    lengths = _check_lengths(row, rows, histories)
    array = row.blank({"B": len(rows), "L": 1 + max(lengths, default=0)})
    return _fill(array, rows if text else (_values(row, given) for given in rows))


def _check_lengths(row: Row, rows: Sequence[Sequence[Any]], histories: Histories) -> list[int]:
    """Returns the lengths of the histories, and raises unless there is a value for each item, or none of a user."""
    lengths = [len(history) for history in histories]
    if len(rows) != len(lengths) or any(len(given) not in (0, n) for given, n in zip(rows, lengths, strict=True)):
        raise ValueError(
            f"Expected {row.says} for each of {len(lengths)} histories, none or as many as it has items ({lengths}), "
            f"got {[len(given) for given in rows]}."
        )
    return lengths


def _per_exposure(row: Row, value: Any, histories: Histories) -> np.ndarray:
    """Returns an array [B, L, X], whose first column is padding: sequences of item ids for each item, or none."""
    rows = arguments.number_rows(value, row.says, "sequences of item ids, one for each item of the history,")
    lengths = _check_lengths(row, rows, histories)
    given = [arguments.text_rows([[] if one is None else one for one in of_user], row.says) for of_user in rows]
    most = max((len(items) for of_user in given for items in of_user), default=0)
    array = row.blank({"B": len(rows), "L": 1 + max(lengths, default=0), "X": max(1, most)})
    for number, of_user in enumerate(given):
        for event, items in enumerate(of_user, 1):
            array[number, event, : len(items)] = items
    return array


def _values(row: Row, given: list[Any]) -> np.ndarray:
    """Returns the values [T] of a user with T values, with the neutral one in place of missing ones."""
    if not given:
        return np.zeros(0, row.numpy_dtype)
    known = _known(row, given)
    if row.dtype == "string":
        return _texts(row, known, len(known))
    return arguments.per_row(known, len(known), row.numpy_dtype.type, row.says, row.least)


def _is_declared(row: Row) -> bool:
    """Returns True for an input that the config of the model declares, of which a value may be missing."""
    return row.says.startswith("features[")


def _known(row: Row, given: Sequence[Any]) -> list[Any]:
    """Returns values with the neutral one in place of missing ones."""
    known = [row.neutral if _is_missing(value) else value for value in given]
    if row.numpy_dtype.kind == "f":
        _check_range(row, known)
    return known


def _texts(row: Row, value: str | Sequence[Any], rows: int) -> np.ndarray:
    """Returns text as an array [rows], repeated if it is a single one."""
    texts = [value] * rows if isinstance(value, str) else value
    if not isinstance(texts, list) or (wrong := [text for text in texts if not isinstance(text, str)]):
        came = wrong[0] if isinstance(texts, list) else value
        raise ValueError(
            f"Expected text in {row.says}, which is one of the values of the log, got {arguments.shown(came)}. Make "
            "text of it with str, or give None for an unknown value."
        )
    if len(texts) != rows:
        raise ValueError(f"Expected one value of {row.says} or {rows}, one per history, got {len(texts)}.")
    return np.array(texts, object)


def _check_range(row: Row, known: Sequence[Any]) -> None:
    """Raises a `ValueError` for numbers that a float32 does not hold, infinite ones included."""
    limit = float(np.finfo(row.numpy_dtype).max)
    beyond = [value for value in known if isinstance(value, numbers.Real) and not abs(float(value)) <= limit]
    if beyond:
        raise ValueError(
            f"Expected finite numbers of at most {limit:.3g} in {row.says}, got {beyond[0]!r}. Give None for an "
            "unknown one."
        )


def _is_missing(value: Any) -> bool:
    """Returns True for None and for NaN, by which data frames mark a missing value."""
    return value is None or (isinstance(value, float) and value != value)


def _excluded(row: Row, value: Any, histories: Histories) -> np.ndarray:
    rows = arguments.text_rows(value, row.says)
    if len(rows) != len(histories):
        raise ValueError(f"Expected one sequence to {row.says} per history, {len(histories)}, got {len(rows)}.")
    return history_array(rows)


def _rules(row: Row, value: Any, histories: Histories) -> np.ndarray:
    """Returns rows of text that `rules` has read."""
    return history_array(value)


def _as_it_is(row: Row, value: Any, histories: Histories) -> np.ndarray:
    """Returns an output of a bundle, which the bundle reads again."""
    return np.asarray(value)


_READERS: dict[tuple[str, ...], Callable[[Row, Any, Histories], np.ndarray]] = {
    PER_USER: _per_user,
    PER_EVENT: _per_event,
    PER_EXPOSURE: _per_exposure,
    PER_CLUSTER: _per_cluster,
    EXCLUDED: _excluded,
    CONDITIONS: _rules,
    ALLOWED: _rules,
    BOUNDED: _rules,
}
