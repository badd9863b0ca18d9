"""Standard errors of recalls over test users: the change that other users like them would bring."""

import math
from collections.abc import Iterable

from tfdnc.comparison.results import Result


def users_of(results: Iterable[Result]) -> int | None:
    """Returns how many users every result was measured on; None if that differs, or there are no results."""
    counts = {result.report.get("users") for result in results}
    return counts.pop() if len(counts) == 1 else None


def standard_error(recall: float, users: int) -> float:
    """Returns the standard error of a share of hits over independent users, which is binomial: sqrt(r (1 - r) / U)."""
    return math.sqrt(max(0.0, recall * (1 - recall)) / users)


def in_standard_errors(recall: float, other: float, users: int) -> float | None:
    """Returns the difference of two recalls in its standard errors, as if each had users of its own.

    Two methods that are asked for the same users hit many targets both: then the difference is more certain than this
    says. None where neither recall has an error, at 0 or 1.
    """
    error = math.hypot(standard_error(recall, users), standard_error(other, users))
    return (recall - other) / error if error else None
