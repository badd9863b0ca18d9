"""Tallies: figures of the lists of one merge, added batch by batch, so that no list is kept.

A tally keeps a few numbers per user and figure, and one per item. Whole lists would take M numbers per user and merge.
Figures do not depend on the batches, down to the last digit, because means are taken over users in their order.
"""

from collections.abc import Sequence

import numpy as np

from tfdnc.evaluation import metrics
from tfdnc.evaluation.diversity import CategorySets, list_distances, mean_distance
from tfdnc.evaluation.evaluator import Lists
from tfdnc.evaluation.figures import ranking_figures


class RankTally:
    """Ranks of the targets, and lengths of the lists.

    Args:
        targets: `[U]` item indices 1..N.

    Attributes:
        ranks: `[U]` int64, `metrics.NOT_FOUND` for a target that is not in its list.
        lengths: `[U]` int64.
    """

    def __init__(self, targets: np.ndarray) -> None:
        self._targets = targets
        self.ranks = np.full(len(targets), metrics.NOT_FOUND)
        self.lengths = np.zeros(len(targets), np.int64)

    def add(self, users: np.ndarray, lists: Lists) -> None:
        """Adds the lists of the users with these rows `[B]`."""
        self.ranks[users] = metrics.ranks(lists.rows, self._targets[users] - 1)
        self.lengths[users] = np.sum(lists.rows >= 0, axis=1)

    def figures(self, sizes: Sequence[int]) -> dict[str, float]:
        """Returns `recall@m` and `ndcg@m`."""
        return ranking_figures(self.ranks, sizes)


class ClusterTally:
    """Spread of the lists over the clusters; without figures for K = 1.

    Args:
        users: U.
        sizes: list lengths m.
        num_clusters: K.
    """

    def __init__(self, users: int, sizes: Sequence[int], num_clusters: int) -> None:
        self._num_clusters = num_clusters
        self._sizes = sizes if num_clusters > 1 else ()
        self._covered = np.zeros([len(self._sizes), users], np.int64)
        self._entropies = np.zeros([len(self._sizes), users])

    def add(self, users: np.ndarray, lists: Lists) -> None:
        """Adds the lists of the users with these rows `[B]`."""
        for covered, entropies, m in zip(self._covered, self._entropies, self._sizes, strict=True):
            counts = metrics.cluster_counts(lists.clusters, m, self._num_clusters)
            covered[users] = np.count_nonzero(counts, axis=1)
            entropies[users] = metrics.entropies(counts)

    def figures(self) -> dict[str, float]:
        """Returns `coverage@m`, the mean share of the K clusters in a list, and the mean `entropy@m` in nats."""
        figures: dict[str, float] = {}
        for covered, entropies, m in zip(self._covered, self._entropies, self._sizes, strict=True):
            share = float(covered.sum() / (covered.size * self._num_clusters))
            figures |= {f"coverage@{m}": share, f"entropy@{m}": float(np.mean(entropies))}
        return figures


class ItemTally:
    """Spread of the lists over the items, and distances inside the lists.

    Args:
        users: U.
        sizes: list lengths m.
        num_items: N.
        categories: categories of the items; without them there is no `ild@m`.
    """

    def __init__(self, users: int, sizes: Sequence[int], num_items: int, categories: CategorySets | None) -> None:
        self._sizes = sizes
        self._categories = categories
        self._counts = np.zeros([len(sizes), num_items], np.int64)
        self._distances = np.zeros([0 if categories is None else len(sizes), users])

    def add(self, users: np.ndarray, lists: Lists) -> None:
        """Adds the lists of the users with these rows `[B]`."""
        for counts, m in zip(self._counts, self._sizes, strict=True):
            counts += metrics.item_counts(lists.rows, m, len(counts))
        if self._categories is not None:
            longest = lists.rows[:, : max(self._sizes)]
            self._distances[:, users] = list_distances(longest, self._categories, self._sizes)

    def figures(self) -> dict[str, float]:
        """Returns the spread of the lists over the N items.

        Returns:
            `gini@m`, the Gini coefficient of the number of lists that have an item; `item_coverage@m`, the share of the
            items that are in some list; and with categories also `ild@m`, the mean intra-list distance.
        """
        figures: dict[str, float] = {}
        for counts, m in zip(self._counts, self._sizes, strict=True):
            figures |= {f"gini@{m}": metrics.gini(counts), f"item_coverage@{m}": float(np.mean(counts > 0))}
        distances = zip(self._sizes, self._distances, strict=False)  # none without categories
        return figures | {f"ild@{m}": mean_distance(own) for m, own in distances}


class ListTally:
    """All figures of the lists of one merge.

    Args:
        targets: `[U]` item indices 1..N.
        sizes: list lengths m to report.
        num_clusters: K.
        num_items: N.
        categories: categories of the items; without them there is no `ild@m`.
    """

    def __init__(
        self,
        targets: np.ndarray,
        sizes: Sequence[int],
        num_clusters: int,
        num_items: int,
        categories: CategorySets | None = None,
    ) -> None:
        self._sizes = sizes
        self.ranks = RankTally(targets)
        self._clusters = ClusterTally(len(targets), sizes, num_clusters)
        self._items = ItemTally(len(targets), sizes, num_items, categories)

    def add(self, users: np.ndarray, lists: Lists) -> None:
        """Adds the lists of the users with these rows `[B]`."""
        for part in (self.ranks, self._clusters, self._items):
            part.add(users, lists)

    def figures(self) -> dict[str, float]:
        """Returns the figures of all lists."""
        return self.ranks.figures(self._sizes) | self._clusters.figures() | self._items.figures()
