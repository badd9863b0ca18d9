"""Weights of events: what a row's weight may be, whatever the format of the log."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BAD_WEIGHT = "weight is not a finite number >= 0"

_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"


def check_weights(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Reads the weights of a block.

    Args:
        column: `[R]` text, UTF-8 bytes or numbers; null stands for no weight.

    Returns:
        float32 `[R]`, and which rows `[R]` are malformed: not a decimal number, negative, or infinite as float32. What
        stands in a malformed row's place means nothing.
    """
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        # Other text, one "abc" of a million rows, would fail the cast of the whole block.
        is_number = pc.match_substring_regex(column, _NUMBER)
        column = pc.if_else(is_number, column, pa.scalar(None, column.type)).cast(pa.string())
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)  # null is NaN
    with np.errstate(over="ignore"):  # 1e39 is no float32: it becomes infinite, and so malformed
        weights = values.astype(np.float32)
    return weights, ~(np.isfinite(weights) & (weights >= 0))
