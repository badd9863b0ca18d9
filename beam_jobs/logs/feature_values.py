"""Columns of a log -> values of declared inputs, by kind, in any format of logs."""

from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.logs.event_weights import BAD_WEIGHT, decimals_of, weights_of
from tfdnc.contracts.features import Kind
from tfdnc.contracts.schema import UNKNOWN_NUMBER

_MISSING = r"^(?i:nan)?$"  # text for an unknown number: none, or "nan" as table tools write it


class Reader(Protocol):
    """Reader of the values of one kind."""

    def read(self, column: pa.Array) -> pa.Array:
        """Returns the values of a block, in the type that the kind's form has in blocks.

        Args:
            column: `[R]` text, UTF-8 bytes, numbers or truth values; null where a row has none.

        Returns:
            `[R]`, null where the row is malformed.
        """

    def complaint(self, name: str) -> str:
        """Returns the reason given for a row whose value is malformed."""


class WeightReader:
    """Weights of events; every row has one."""

    def read(self, column: pa.Array) -> pa.Array:
        """See `Reader`."""
        return weights_of(column)

    def complaint(self, name: str) -> str:
        """See `Reader`."""
        del name
        return BAD_WEIGHT


class NumberReader:
    """Numbers; a row may lack one."""

    def read(self, column: pa.Array) -> pa.Array:
        """See `Reader`; an empty field and NaN become the unknown number."""
        return numbers_of(column)

    def complaint(self, name: str) -> str:
        """See `Reader`."""
        return f"{name} is neither empty nor a finite number above {UNKNOWN_NUMBER:g}"


class ValueReader:
    """Categories; a row may lack one."""

    def read(self, column: pa.Array) -> pa.Array:
        """See `Reader`; a missing value becomes the empty text."""
        return values_of(column)

    def complaint(self, name: str) -> str:
        """See `Reader`."""
        return f"{name} is no text in UTF-8"


READERS: dict[Kind, Reader] = {
    Kind.WEIGHT: WeightReader(),
    Kind.NUMBER: NumberReader(),
    Kind.VALUE: ValueReader(),
}
"""Reader of every kind but times, which depend on the unit of the log, see `log_times`."""


def values_of(column: pa.Array) -> pa.Array:
    """Returns the categories of a block.

    Args:
        column: `[R]` text, UTF-8 bytes, integers or truth values; null is missing.

    Returns:
        Dictionary of text `[R]`: the empty text where a value is missing, null where bytes are no UTF-8.
    """
    encoded = column.cast(pa.string() if pa.types.is_boolean(column.type) else column.type).dictionary_encode()
    distinct = encoded.dictionary
    texts = [_text(value) for value in distinct.to_pylist()]
    # The missing value is one more entry, so that null is left for malformed ones.
    codes = encoded.indices.fill_null(len(texts)).to_numpy()
    bad = np.array([text is None for text in texts] + [False])[codes]
    known = pa.array([text or "" for text in texts] + [""], pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=bad), known)


def _text(value: object) -> str | None:
    """Returns a value as text, None for bytes that are no UTF-8."""
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        return None


def numbers_of(column: pa.Array) -> pa.Array:
    """Returns the numbers of a block.

    Args:
        column: `[R]` text, UTF-8 bytes or numbers; null, an empty text and NaN are unknown.

    Returns:
        float32 `[R]`: `UNKNOWN_NUMBER` for unknown numbers; null for other text, and for a number that is too large
        for float32 or not above `UNKNOWN_NUMBER`.
    """
    missing = column.is_null()
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        missing = pc.or_(missing, pc.match_substring_regex(column, _MISSING).fill_null(False))
    values = decimals_of(column)
    missing = missing.to_numpy(zero_copy_only=False)
    if pa.types.is_floating(column.type):
        missing = missing | np.isnan(values)
    good = missing | (np.isfinite(values) & (values > np.float32(UNKNOWN_NUMBER)))
    return pa.array(np.where(missing, np.float32(UNKNOWN_NUMBER), values), mask=~good)
