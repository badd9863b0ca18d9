"""Weights of events: the values that are allowed, in any format of logs, and the number of weights above 0."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfdnc.contracts.errors import UserError

TARGETS, WEIGHTED = "training targets", "training targets of some weight"
"""Names of counts."""

BAD_WEIGHT = "weight is not a finite number >= 0"

_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"


def is_number(kind: pa.DataType) -> bool:
    """Returns whether this is a type of integers or floats, whose values need no parsing."""
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def weights_of(column: pa.Array) -> pa.Array:
    """Returns the weights of a block.

    Args:
        column: `[R]` text, UTF-8 bytes or numbers.

    Returns:
        float32 `[R]`, null where there is no decimal number, or one that is negative or too large for float32.
    """
    weights = decimals_of(column)
    return pa.array(weights, mask=~(np.isfinite(weights) & (weights >= 0)))


def decimals_of(column: pa.Array) -> np.ndarray:
    """Returns text, UTF-8 bytes or numbers `[R]` as float32 `[R]`, NaN where there is no decimal number."""
    if not is_number(column.type):
        # A single other text in a million rows, such as "abc", would fail the cast of the whole block.
        decimal = pc.match_substring_regex(column, _NUMBER)
        column = pc.if_else(decimal, column, pa.scalar(None, column.type)).cast(pa.string())
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)  # null is NaN
    with np.errstate(over="ignore"):  # 1e39 is no float32: it becomes infinite
        return values.astype(np.float32)


def count_weights(weights: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> dict[str, int]:
    """Counts the training targets, and those with a weight above 0.

    Args:
        weights: `[E]` of all events.
        starts: `[S]` position of the first target of every training part.
        ends: `[S]` position behind the last one.
    """
    before = np.concatenate([[0], np.cumsum(weights > 0)])  # [E + 1]
    return {TARGETS: int((ends - starts).sum()), WEIGHTED: int((before[ends] - before[starts]).sum())}


def weight_figures(counts: dict[str, int]) -> dict[str, dict[str, int]]:
    """Returns the figures of a log with weights from the sum of the counts; empty for a log without weights.

    Raises:
        UserError: no training target has a weight above 0, so nothing would be learned.
    """
    if TARGETS not in counts:
        return {}
    targets, weighted = counts[TARGETS], counts[WEIGHTED]
    if targets and not weighted:
        raise UserError(
            f"Expected weights above 0 by data.columns.weight or data.targets, found 0 for all {targets} training "
            "targets: nothing would be learned. Name another column, or other values."
        )
    return {"weights": {"targets": targets, "weighted": weighted}}
