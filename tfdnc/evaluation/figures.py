"""Figures of ranked lists: do they hold the target, and how are they spread over clusters, items and categories?"""

from collections.abc import Sequence

import numpy as np

from tfdnc.evaluation import metrics
from tfdnc.evaluation.diversity import CategorySets, intra_list_distances
from tfdnc.evaluation.evaluator import Lists


def list_figures(
    lists: Lists,
    targets: np.ndarray,
    sizes: Sequence[int],
    num_clusters: int,
    num_items: int,
    categories: CategorySets | None = None,
) -> dict[str, float]:
    """All figures of the lists of one merge.

    Args:
        lists: of U users.
        targets: `[U]` item indices 1..N.
        sizes: list lengths m to report.
        num_clusters: K.
        num_items: N.
        categories: of the items; without them there is no `ild@m`.
    """
    return (
        ranking_figures(metrics.places(lists.rows, targets - 1), sizes)
        | cluster_figures(lists.clusters, sizes, num_clusters)
        | item_figures(lists.rows, sizes, num_items, categories)
    )


def ranking_figures(place: np.ndarray, sizes: Sequence[int]) -> dict[str, float]:
    """`recall@m` and `ndcg@m` of the `[U]` places of the targets."""
    return recalls(place, sizes) | {f"ndcg@{m}": metrics.ndcg(place, m) for m in sizes}


def recalls(place: np.ndarray, sizes: Sequence[int]) -> dict[str, float]:
    """`recall@m` of the `[U]` places of the targets."""
    return {f"recall@{m}": metrics.recall(place, m) for m in sizes}


def cluster_figures(clusters: np.ndarray, sizes: Sequence[int], num_clusters: int) -> dict[str, float]:
    """`coverage@m`, mean share of the K clusters in a list, and `entropy@m` of the list, in nats; nothing for K = 1."""
    if num_clusters == 1:
        return {}
    figures = {}
    for m in sizes:
        counts = metrics.cluster_counts(clusters, m, num_clusters)
        figures |= {f"coverage@{m}": metrics.coverage(counts), f"entropy@{m}": metrics.entropy(counts)}
    return figures


def item_figures(
    rows: np.ndarray, sizes: Sequence[int], num_items: int, categories: CategorySets | None
) -> dict[str, float]:
    """How evenly the lists of all users use the N items, and how different the items of one list are.

    Returns:
        `gini@m` of how often each item is recommended, `item_coverage@m`: share of the items that are in some list, and
        with `categories` also `ild@m`, the mean intra-list distance.
    """
    figures = {}
    for m in sizes:
        counts = metrics.item_counts(rows, m, num_items)
        figures |= {f"gini@{m}": metrics.gini(counts), f"item_coverage@{m}": float(np.mean(counts > 0))}
    if categories is not None:
        distances = intra_list_distances(rows[:, : max(sizes)], categories, sizes)
        figures |= {f"ild@{m}": float(distance) for m, distance in zip(sizes, distances, strict=True)}
    return figures
