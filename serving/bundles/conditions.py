"""Conditions on the figures of a new version, such as `recall@50 >= 0.98 * current`, that a publish must meet."""

import operator
import re
from collections.abc import Callable
from typing import NamedTuple

from serving.bundles.difference import Difference
from tfdnc.contracts.errors import UserError

_NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_CONDITION = re.compile(
    rf"\s*(?P<figure>[a-z_]+)(?:@(?P<cutoff>[0-9]+))?\s*(?P<compare>>=|<=|>|<)\s*"
    rf"(?:(?P<factor>{_NUMBER})\s*\*\s*(?P<scaled>current)|(?P<current>current)(?:\s*(?P<sign>[+-])\s*(?P<offset>{_NUMBER}))?"
    rf"|(?P<number>{_NUMBER}))\s*"
)
_COMPARES: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_OF_LISTS = ("recall", "coverage", "overlap", "order", "new_items", "recall_of_new_items")
_OF_VERSIONS = ("items", "latency_ms", "megabytes")
_OF_BOTH = ("overlap", "order", "new_items", "recall_of_new_items")  # one figure of the pair of versions
FIGURES = (*(f"{name}@M" for name in _OF_LISTS), *_OF_VERSIONS)
"""Names of figures; M is a length of lists."""


class Condition(NamedTuple):
    """A bound for a figure of the new version.

    Attributes:
        text: The condition as it was given.
        figure: Name, without `@M`.
        cutoff: M; None for figures of a version.
        compare: `>=`, `<=`, `>` or `<`.
        factor: The bound is `factor` times the figure of the current version, plus `offset`.
        offset: See `factor`.
    """

    text: str
    figure: str
    cutoff: int | None
    compare: str
    factor: float
    offset: float


class Checked(NamedTuple):
    """A condition with its figure and bound; `holds` is True if it is met."""

    condition: Condition
    value: float
    bound: float
    holds: bool


def parse(text: str) -> Condition:
    """Reads a condition: FIGURE >= NUMBER, NUMBER * current, current, or current + or - NUMBER.

    Raises:
        UserError: The text is no condition, or its figure is unknown.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UserError(
            f"Expected a condition such as 'recall@50 >= 0.98 * current' or 'latency_ms <= 5', got {text!r}. "
            f"Figures are {', '.join(FIGURES)}."
        )
    figure, cutoff = match["figure"], int(match["cutoff"]) if match["cutoff"] else None
    known = _OF_LISTS if cutoff is not None else _OF_VERSIONS
    if figure not in known or cutoff == 0:
        raise UserError(f"Expected a figure of {', '.join(FIGURES)}, got {text!r}.")
    factor = float(match["factor"]) if match["scaled"] else 1.0 if match["current"] else 0.0
    if factor and figure in _OF_BOTH:
        raise UserError(
            f"Expected a number as the bound of {figure}, got {text!r}: it compares the two versions already."
        )
    offset = float(match["number"] or match["offset"] or 0) * (-1 if match["sign"] == "-" else 1)
    return Condition(text, figure, cutoff, match["compare"], factor, offset)


def check(condition: Condition, found: Difference) -> Checked:
    """Compares a figure of the new version with its bound; NaN, a mean of nothing, meets no bound.

    Args:
        condition: Condition with a cut-off of the difference.
        found: Difference of the old and the new version.
    """
    current, value = _values(condition, found)
    bound = condition.factor * current + condition.offset if condition.factor else condition.offset
    return Checked(condition, value, bound, _COMPARES[condition.compare](value, bound))


def _values(condition: Condition, found: Difference) -> tuple[float, float]:
    if condition.cutoff is None:
        return getattr(found, condition.figure)
    [row] = [row for row in found.cutoffs if row.cutoff == condition.cutoff]
    if condition.figure == "recall":
        return row.recall[0].mean, row.recall[1].mean
    value = getattr(row, condition.figure)
    return value if isinstance(value, tuple) else (0.0, value)
