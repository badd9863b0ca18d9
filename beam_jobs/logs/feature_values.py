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
        """Returns the values of a block, in the type of the kind's form.

        Args:
            column: `[R]` text, UTF-8 bytes or numbers; null where a row has none.

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


READERS: dict[Kind, Reader] = {Kind.WEIGHT: WeightReader(), Kind.NUMBER: NumberReader()}
"""Reader of every kind but times, which depend on the unit of the log, see `log_times`."""


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
