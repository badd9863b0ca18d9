"""Controls of clusters by name or number, and by count or share, converted to a number per cluster.

The client converts those of a request, and an evaluation its own bounds, so that both mean the same.
"""

import difflib
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from tfdnc.contracts.bounds import LEAST, MOST, count_of

Control = Mapping[str | int, float]
"""Name or number of a cluster -> a count of results, or a share of the list."""

NEUTRAL = {LEAST: 0, MOST: -1}
"""Counts of a cluster that is not named."""

_ROUNDED = "a share is rounded up as a minimum, and down as a maximum"


def counts(key: str, control: Control, names: Sequence[str], length: int) -> np.ndarray:
    """Returns `[K]` int32 counts of `LEAST` or `MOST` in a list of `length`; see `bounds.count_of`.

    Raises:
        ValueError: An unknown, ambiguous or repeated cluster, or a value that is neither a count nor a share.
    """
    found = np.full(len(names), NEUTRAL[key], np.int32)
    for cluster, value in by_number(control, names, key).items():
        found[cluster] = count_of(key, names[cluster], value, length)
    return found


def by_number(control: Control, names: Sequence[str], key: str) -> dict[int, Any]:
    """Returns the values by number of the cluster.

    Raises:
        ValueError: An unknown or ambiguous cluster, or one that is named twice.
    """
    values: dict[int, Any] = {}
    for cluster, value in control.items():
        number = _find(cluster, names)
        if number in values:
            raise ValueError(f"Expected every cluster once in {key}, got {names[number]!r} twice: {dict(control)!r}.")
        values[number] = value
    return values


def check_counts(
    minimum: np.ndarray | None, maximum: np.ndarray | None, length: int, names: Sequence[str], place: str = ""
) -> None:
    """Checks that a list of `length` can keep the counts `[K]`.

    Args:
        minimum: Result of `counts`, None if there is none.
        maximum: The same.
        length: Length of the list.
        names: Names of the clusters.
        place: Words for the message about where the counts are from, such as " for history 0".

    Raises:
        ValueError: No list can, or the maxima are all 0, which a request cannot express.
    """
    if minimum is not None and (promised := minimum.sum(dtype=np.int64)) > length:
        raise ValueError(
            f"Expected {LEAST} to add up to at most {length}, the length of the list, got {promised}{place} "
            f"({_ROUNDED})."
        )
    if maximum is not None and (maximum == 0).all():
        raise ValueError(f"Expected {MOST} to leave a cluster open, got 0 for all{place} ({_ROUNDED}).")
    if minimum is not None and maximum is not None:
        for cluster in np.flatnonzero((maximum >= 0) & (minimum > maximum))[:1]:
            raise ValueError(
                f"Expected {LEAST} of {names[cluster]!r} at most its {MOST}, {maximum[cluster]}, got "
                f"{minimum[cluster]}{place} ({_ROUNDED})."
            )


def _find(cluster: str | int, names: Sequence[str]) -> int:
    matches = [number for number, name in enumerate(names) if name == cluster]
    if len(matches) > 1:
        raise ValueError(f"Expected one cluster, got {cluster!r}, the name of clusters {matches}. Give the number.")
    if matches:
        return matches[0]
    number = int(cluster) if isinstance(cluster, str) and cluster.isdecimal() else cluster
    if isinstance(number, Integral) and not isinstance(number, bool) and 0 <= number < len(names):
        return int(number)
    known = ", ".join(f"{name!r} ({number})" for number, name in enumerate(names))
    close = difflib.get_close_matches(str(cluster), names, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"Expected the name or the number of a cluster, got {cluster!r}.{meant} Known: {known}.")
