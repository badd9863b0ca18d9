"""Figures of two versions of a bundle on the same users: recall with its error, overlap, order, clusters, new items.

All functions are pure; lists are item ids, best first.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from serving.bundles.answers import Answers
from serving.bundles.questions import Questions

Lists = Sequence[Sequence[str]]


class Estimate(NamedTuple):
    """A mean over users, and its standard error."""

    mean: float
    error: float


@dataclasses.dataclass(frozen=True)
class AtCutoff:
    """Figures of the first M items of every list.

    Attributes:
        cutoff: M.
        recall: Of the old and the new version: share of a user's next items in the list, mean over the users who have
            some; NaN if none has.
        recall_change: New minus old. Its error is that of paired differences by user, and smaller than the errors of
            the two recalls.
        overlap: Share of M items that are in both lists.
        order: Share of the pairs of common items that both lists have in the same order; NaN without such pairs.
        coverage: Of both versions: share of the catalogue that is in some list.
        new_items: Share of the entries of the new lists that are unknown to the old version.
        recall_of_new_items: Share of the next items unknown to the old version that the new lists hold; NaN without.
    """

    cutoff: int
    recall: tuple[Estimate, Estimate]
    recall_change: Estimate
    overlap: float
    order: float
    coverage: tuple[float, float]
    new_items: float
    recall_of_new_items: float


@dataclasses.dataclass(frozen=True)
class Difference:
    """Differences of two versions.

    Attributes:
        users: Number of users.
        targets: Number of their next items.
        new_targets: Number of those that are unknown to the old version.
        cutoffs: Figures by length of list.
        cluster_shares: Name of a cluster -> its share of the longest lists of both versions; 0 where a version does not
            have it.
        items: Sizes of both catalogues.
        latency_ms: Median milliseconds of a request for one user, of both versions.
        megabytes: Sizes of both versions.
    """

    users: int
    targets: int
    new_targets: int
    cutoffs: list[AtCutoff]
    cluster_shares: dict[str, tuple[float, float]]
    items: tuple[int, int]
    latency_ms: tuple[float, float]
    megabytes: tuple[float, float]


def difference(questions: Questions, old: Answers, new: Answers, cutoffs: Sequence[int]) -> Difference:
    """Compares the answers of two versions to the same questions.

    Args:
        questions: Questions of U users.
        old: Answers of the served version.
        new: Answers of the version that may replace it.
        cutoffs: Lengths of lists, each at most the length of the answers.
    """
    unknown = [[item for item in following if item not in old.catalogue] for following in questions.targets]
    return Difference(
        users=len(questions.targets),
        targets=sum(map(len, questions.targets)),
        new_targets=sum(map(len, unknown)),
        cutoffs=[_at(cutoff, questions.targets, unknown, old, new) for cutoff in sorted(set(cutoffs))],
        cluster_shares=cluster_shares(old.clusters, new.clusters),
        items=(len(old.catalogue), len(new.catalogue)),
        latency_ms=(old.latency_ms, new.latency_ms),
        megabytes=(old.megabytes, new.megabytes),
    )


def _at(cutoff: int, targets: Lists, unknown: Lists, old: Answers, new: Answers) -> AtCutoff:
    before, after = ([found[:cutoff] for found in answers.lists] for answers in (old, new))
    judged = [row for row, following in enumerate(targets) if following]
    wanted = [targets[row] for row in judged]
    recalls = [recall([lists[row] for row in judged], wanted) for lists in (before, after)]
    with_unknown = [row for row, items in enumerate(unknown) if items]
    return AtCutoff(
        cutoff=cutoff,
        recall=(estimate(recalls[0]), estimate(recalls[1])),
        recall_change=estimate(recalls[1] - recalls[0]),
        overlap=overlap(before, after, cutoff),
        order=order(before, after),
        coverage=(coverage(before, len(old.catalogue)), coverage(after, len(new.catalogue))),
        new_items=share_outside(after, old.catalogue),
        recall_of_new_items=_mean(recall([after[row] for row in with_unknown], [unknown[row] for row in with_unknown])),
    )


def recall(lists: Lists, targets: Lists) -> np.ndarray:
    """Returns for every user the share of the targets that the list holds: float64 `[U]`."""
    shares = [len(set(found) & set(wanted)) / len(set(wanted)) for found, wanted in zip(lists, targets, strict=True)]
    return np.array(shares, np.float64)


def estimate(values: np.ndarray) -> Estimate:
    """Returns the mean of `[U]` values and its standard error, NaN for fewer than two users."""
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return Estimate(_mean(values), error)


def overlap(before: Lists, after: Lists, cutoff: int) -> float:
    """Returns the mean share of `cutoff` items that are in both lists of a user."""
    shares = [len(set(a) & set(b)) / cutoff for a, b in zip(before, after, strict=True)]
    return _mean(np.array(shares))


def order(before: Lists, after: Lists) -> float:
    """Returns the share of pairs of common items that both lists have in the same order, (1 + Kendall's tau) / 2.

    Pairs of all users have equal weight; NaN if no two lists share two items.
    """
    same = pairs = 0
    for a, b in zip(before, after, strict=True):
        place = {item: number for number, item in enumerate(b)}
        places = np.array([place[item] for item in a if item in place])
        later = np.triu(places[:, None] < places[None, :], k=1)
        same += int(later.sum())
        pairs += len(places) * (len(places) - 1) // 2
    return same / pairs if pairs else math.nan


def coverage(lists: Lists, items: int) -> float:
    """Returns the share of `items` that some list holds."""
    return len({item for found in lists for item in found}) / items


def share_outside(lists: Lists, catalogue: frozenset[str]) -> float:
    """Returns the share of the entries of all lists that are not in the catalogue."""
    entries = [item not in catalogue for found in lists for item in found]
    return _mean(np.array(entries, np.float64))


def cluster_shares(before: Lists, after: Lists) -> dict[str, tuple[float, float]]:
    """Returns the share of each cluster in all lists before and after, sorted by the share after."""
    counts = [Counter(name for found in lists for name in found) for lists in (before, after)]
    totals = [max(1, sum(count.values())) for count in counts]
    shares = {name: (counts[0][name] / totals[0], counts[1][name] / totals[1]) for name in counts[0] | counts[1]}
    return dict(sorted(shares.items(), key=lambda pair: (-pair[1][1], pair[0])))


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan
