"""Bounds on values of attributes in the arguments of a client: for all users, or for each."""

from collections.abc import Iterable, Mapping
from typing import Any

from serving import arguments
from tfdnc.contracts.bounds import LEAST, MOST, Columns, bound_texts

Bounded = Columns | Iterable[Columns]
"""Column -> value -> a count, or a share of the list: one dict for all users, or [B] of these."""


def bound_rows(least: Bounded | None, most: Bounded | None, lengths: list[int]) -> list[list[str]] | None:
    """Returns the bounds of each user; None if there are none.

    Args:
        least: Minima.
        most: Maxima.
        lengths: [B] lengths of the lists.

    Raises:
        ValueError: Bounds that no bundle could read, or that no list can keep.
    """
    if least is None and most is None:
        return None
    both = zip(_per_user(least, len(lengths), LEAST), _per_user(most, len(lengths), MOST), lengths, strict=True)
    found = []
    for place, (lower, upper, length) in enumerate(both):
        try:
            found.append(bound_texts(lower, upper, length))
        except ValueError as error:
            raise ValueError(f"{error} This is for history {place}.") from error
    return found


def _per_user(bounds: Any, rows: int, name: str) -> list[Columns]:
    if bounds is None or isinstance(bounds, Mapping):
        return [bounds or {}] * rows
    each = arguments.listed(bounds)
    if each is None or len(each) != rows or not all(isinstance(one, Mapping) for one in each):
        got = arguments.shown(bounds if each is None else each)
        raise ValueError(f"Expected {name} as a dict of columns, or {rows} of these, one per history, got {got}.")
    return each
