"""Clusters for cold items, which a clusterer leaves unassigned; held-out events are not read."""

import heapq
from collections.abc import Iterable, Sequence

import numpy as np

UNASSIGNED = -1
"""Label of an item that a clusterer assigns to no cluster."""


_SMOOTHING = 0.5
"""Added to the number of items of a cluster that have a trait (Jeffreys' prior), so that 0 is not impossible."""


def assign_cold_items(
    labels: np.ndarray, traits: Sequence[Sequence[str]], near: np.ndarray | None = None
) -> np.ndarray:
    """Assigns the unassigned items to clusters, by naive Bayes on their traits.

    Let cluster k have n_k assigned items, n_kf of them with trait f. A cold item goes to the cluster with the largest
    n_k prod_f (n_kf / n_k) over those of its traits that assigned items have; ties go to the lowest cluster id. With
    one trait that is the cluster with the most items of this trait.

    Items without such a trait go to the cluster of `near`, if they have one there. The others go, one after the other,
    to the cluster that is then the smallest. So they do not all end
    in one cluster, and compete with few items.

    Args:
        labels: int [N], any ids from 0 on, `UNASSIGNED` for the cold items; at least one item is assigned.
        traits: N lists of features or categories, each at most once; empty for an item without any.
        near: int [N], the cluster of each cold item by its vectors, or `UNASSIGNED`; None for none.

    Returns:
        int [N] of the ids that occur in `labels`, without `UNASSIGNED`.
    """
    assigned, cold = np.flatnonzero(labels != UNASSIGNED).tolist(), np.flatnonzero(labels == UNASSIGNED).tolist()
    ids, label = np.unique(labels[assigned], return_inverse=True)
    wanted = {trait for item in cold for trait in traits[item]}
    counts_of = _count_traits(label, ([name for name in traits[item] if name in wanted] for item in assigned), len(ids))
    log_sizes = np.log(np.bincount(label))
    result, without_traits = labels.copy(), []
    for item in cold:
        counts = [counts_of[trait] for trait in traits[item] if trait in counts_of]
        if counts:
            likelihood = np.log(np.add(counts, _SMOOTHING)).sum(axis=0)
            result[item] = ids[np.argmax(likelihood + (1 - len(counts)) * log_sizes)]
        elif near is not None and near[item] != UNASSIGNED:
            result[item] = near[item]
        else:
            without_traits.append(item)
    smallest = [(int((result == cluster).sum()), int(cluster)) for cluster in ids]
    heapq.heapify(smallest)
    for item in without_traits:
        size, cluster = smallest[0]
        result[item] = cluster
        heapq.heapreplace(smallest, (size + 1, cluster))
    return result


def traits_of(
    features: Sequence[Sequence[str] | None], categories: Sequence[Sequence[str] | None]
) -> list[Sequence[str]]:
    """Returns the traits of N items: their features, or their first category if no item has features."""
    if any(features):
        return [own or [] for own in features]
    return [(own or [])[:1] for own in categories]


def _count_traits(label: np.ndarray, traits: Iterable[Sequence[str]], size: int) -> dict[str, np.ndarray]:
    """Returns for every trait int64 [size], the number of items of each cluster that have it."""
    counts: dict[str, np.ndarray] = {}
    for cluster, own in zip(label, traits, strict=True):
        for trait in own:
            counts.setdefault(trait, np.zeros(size, np.int64))[cluster] += 1
    return counts
