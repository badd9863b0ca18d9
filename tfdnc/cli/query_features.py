"""Inputs of a query beside the history, given on the command line: `--features user_country=DE dwell=3.5,,2`.

Items that were passed over after an event stand between two commas, with a plus between them: `exposures=17+2571,,5`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.messages import declared_rows, key_of
from tfdnc.contracts.bundle import PER_EVENT, PER_EXPOSURE, PER_USER, Row
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import Feature


def read_features(given: Sequence[str], features: Sequence[Feature], events: int) -> dict[str, Any]:
    """Returns values by names of tensors, one of a request or a user, and a list of events.

    Args:
        given: `NAME=VALUE`; NAME is a key of the argument `features` of a client. Events have a value each between
            commas, an empty one where it is unknown. A value of exposures is item ids with a plus between them.
        features: inputs that the model reads.
        events: length of the history.

    Raises:
        UserError: no such input, one that is given twice, a value of another type, or not as many values as events.
    """
    rows = {key_of(row): row for row in _rows(features)}
    found: dict[str, Any] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or name not in rows:
            known = ", ".join(rows) or "none"
            raise UserError(f"Expected NAME=VALUE in --features with an input of the model ({known}), got {text}.")
        row = rows[name]
        if row.name in found:
            raise UserError(f"Expected {name} once in --features, got it twice. Drop one.")
        found[row.name] = _values(row, value, events) if row.of_events else _value(row, value)
    return found


def shown_features(known: dict[str, Any], features: Sequence[Feature]) -> str:
    """Returns the known inputs of the request and of the user as text, such as `user_country DE`; "" without any."""
    asked = [(row, known.get(row.name, row.neutral)) for row in _rows(features) if row.shape == PER_USER]
    return ", ".join(f"{key_of(row)} {value}" for row, value in asked if not _is_neutral(value, row))


def _is_neutral(value: Any, row: Row) -> bool:
    """Tells if a value means unknown; one of a log went through float32, where the neutral number is another."""
    if value is None or row.dtype != "float32":
        return value in (row.neutral, None)
    return np.float32(value) == np.float32(row.neutral)


def unknown_features(known: dict[str, Any], features: Sequence[Feature]) -> list[str]:
    """Returns the keys of the inputs without a value."""
    return [key_of(row) for row in _rows(features) if row.name not in known]


def _rows(features: Sequence[Feature]) -> list[Row]:
    return [row for row in declared_rows(features) if row.shape in (PER_EVENT, PER_EXPOSURE, PER_USER)]


def _values(row: Row, text: str, events: int) -> list[Any]:
    read = _items if row.shape == PER_EXPOSURE else _value
    values = [read(row, part) for part in text.split(",")] if text or events == 1 else []
    if len(values) != events:
        raise UserError(
            f"Expected a value of {key_of(row)} for each of {events} items of the history, with commas between them, "
            f"got {len(values)}."
        )
    return values


def _items(row: Row, text: str) -> list[str]:
    del row
    return [item for item in text.split("+") if item]


def _value(row: Row, text: str) -> Any:
    if text == "":
        return row.neutral
    if row.dtype == "string":
        return text
    try:
        return float(text) if row.dtype == "float32" else int(text)
    except ValueError as error:
        kind = "a number" if row.dtype == "float32" else "a whole number"
        raise UserError(f"Expected {kind} for {key_of(row)} in --features, got {text}.") from error
