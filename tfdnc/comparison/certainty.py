"""Standard errors of recalls over test users: the spread to expect between samples of similar users."""

import math
from collections.abc import Iterable

from tfdnc.comparison.results import Measurement


def users_of(results: Iterable[Measurement]) -> int | None:
    """Returns the number of users that every result was measured on; None if they differ, or without results."""
    counts = {result.report.get("users") for result in results}
    return counts.pop() if len(counts) == 1 else None


def standard_error(recall: float, users: int) -> float:
    """Returns the binomial standard error of a share of hits over U independent users: sqrt(r (1 - r) / U)."""
    return math.sqrt(max(0.0, recall * (1 - recall)) / users)


def in_standard_errors(recall: float, other: float, users: int) -> float | None:
    """Returns the difference of two recalls in its standard errors, as if each was measured on users of its own.

    Two methods measured on the same users hit many of the same targets. Then the difference is more certain than this
    figure. None where neither recall has an error: both are 0 or 1.
    """
    error = math.hypot(standard_error(recall, users), standard_error(other, users))
    return (recall - other) / error if error else None
