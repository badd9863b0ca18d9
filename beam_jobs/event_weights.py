"""Weights of events: what a row's weight may be, whatever the format of the log."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BAD_WEIGHT = "weight is not a finite number >= 0"

_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"


def is_number(kind: pa.DataType) -> bool:
    """Returns whether values of this type are weights as they stand."""
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def weights_of(column: pa.Array) -> pa.Array:
    """Returns the weights of a block.

    Args:
        column: `[R]` text, UTF-8 bytes or numbers.

    Returns:
        float32 `[R]`, null where there is no decimal number, or one that is negative or infinite as float32.
    """
    if not is_number(column.type):
        # Other text, one "abc" of a million rows, would fail the cast of the whole block.
        decimal = pc.match_substring_regex(column, _NUMBER)
        column = pc.if_else(decimal, column, pa.scalar(None, column.type)).cast(pa.string())
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)  # null is NaN
    with np.errstate(over="ignore"):  # 1e39 is no float32: it becomes infinite
        weights = values.astype(np.float32)
    return pa.array(weights, mask=~(np.isfinite(weights) & (weights >= 0)))
