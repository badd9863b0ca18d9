"""Bounds of an evaluation in a client's words: a number belongs to a cluster, a dict to a column of the attributes."""

from collections.abc import Mapping

from pydantic import StrictBool, StrictFloat, StrictInt

from tfdnc.contracts.bounds import LEAST, MOST, Columns, bound_texts, count_of
from tfdnc.contracts.cluster_controls import Control

Wish = StrictInt | StrictFloat
"""A count, or a share of the list."""

ListLimits = dict[str | StrictInt, Wish | dict[str | StrictBool | StrictInt, Wish]]
"""Name or number of a cluster -> a wish; or name of a column -> value -> a wish."""


def of_columns(limits: ListLimits) -> Columns:
    """Returns the part about columns."""
    return {str(name): one for name, one in limits.items() if isinstance(one, Mapping)}


def of_clusters(limits: ListLimits) -> Control:
    """Returns the part about clusters."""
    return {name: one for name, one in limits.items() if not isinstance(one, Mapping)}


def check_limits(minimum: ListLimits, maximum: ListLimits, sizes: tuple[int, ...]) -> None:
    """Checks bounds as far as their words allow.

    Raises:
        ValueError: a wish that is neither a count nor a share, or bounds that no list of one of the sizes can keep.
    """
    for size in sizes:
        bound_texts(of_columns(minimum), of_columns(maximum), size)
        for key, limits in ((LEAST, minimum), (MOST, maximum)):
            for name, one in of_clusters(limits).items():
                count_of(key, str(name), one, size)
