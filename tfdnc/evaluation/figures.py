"""Figures of ranked lists: recall and NDCG of the target, and spread over clusters, items and categories."""

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
    """Returns all figures of the lists of one merge.

    Args:
        lists: lists of U users.
        targets: `[U]` item indices 1..N.
        sizes: list lengths m to report.
        num_clusters: K.
        num_items: N.
        categories: categories of the items; without them there is no `ild@m`.
    """
    return (
        ranking_figures(metrics.ranks(lists.rows, targets - 1), sizes)
        | cluster_figures(lists.clusters, sizes, num_clusters)
        | item_figures(lists.rows, sizes, num_items, categories)
    )


def ranking_figures(rank: np.ndarray, sizes: Sequence[int]) -> dict[str, float]:
    """Returns `recall@m` and `ndcg@m` of the `[U]` ranks of the targets."""
    return recalls(rank, sizes) | {f"ndcg@{m}": metrics.ndcg(rank, m) for m in sizes}


def recalls(rank: np.ndarray, sizes: Sequence[int]) -> dict[str, float]:
    """Returns `recall@m` of the `[U]` ranks of the targets."""
    return {f"recall@{m}": metrics.recall(rank, m) for m in sizes}


def cluster_figures(clusters: np.ndarray, sizes: Sequence[int], num_clusters: int) -> dict[str, float]:
    """Returns the spread of `[U, M]` lists over clusters, nothing for K = 1.

    The figures are `coverage@m`, the mean share of the K clusters that are in a list, and `entropy@m` in nats.
    """
    if num_clusters == 1:
        return {}
    figures: dict[str, float] = {}
    for m in sizes:
        counts = metrics.cluster_counts(clusters, m, num_clusters)
        figures |= {f"coverage@{m}": metrics.coverage(counts), f"entropy@{m}": metrics.entropy(counts)}
    return figures


def item_figures(
    rows: np.ndarray, sizes: Sequence[int], num_items: int, categories: CategorySets | None
) -> dict[str, float]:
    """Returns the spread of `[U, M]` lists over the N items.

    Returns:
        `gini@m`, the Gini coefficient of the number of lists that have an item; `item_coverage@m`, the share of the
        items that are in some list; and with `categories` also `ild@m`, the mean intra-list distance.
    """
    figures: dict[str, float] = {}
    for m in sizes:
        counts = metrics.item_counts(rows, m, num_items)
        figures |= {f"gini@{m}": metrics.gini(counts), f"item_coverage@{m}": float(np.mean(counts > 0))}
    if categories is not None:
        distances = intra_list_distances(rows[:, : max(sizes)], categories, sizes)
        figures |= {f"ild@{m}": float(distance) for m, distance in zip(sizes, distances, strict=True)}
    return figures
