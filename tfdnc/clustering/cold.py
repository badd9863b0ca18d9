"""Cold items: a cluster for those that a clusterer has no place for, without a look at held-out events."""

import heapq
from collections.abc import Iterable, Sequence

import numpy as np

NO_PLACE = -1
"""What a clusterer gives an item that it has no place for."""


_SMOOTHING = 0.5
"""Added to how many items of a cluster have a trait: none has not yet said never (Jeffreys' prior)."""


def place_cold_items(labels: np.ndarray, traits: Sequence[Sequence[str]]) -> np.ndarray:
    """Gives the items without a place a cluster.

    Such an item goes to the cluster k with the most items like it, by naive Bayes: the largest n_k prod_f (n_kf / n_k)
    over its traits f that placed items have, n_kf of the n_k placed items of k (ties: the lowest cluster id). With one
    trait that is where most of its kind are. Items of no such trait go, one after the other, to the cluster that is
    then the smallest: they disturb its competition least, and many of them do not pile up in one.

    Args:
        labels: int [N], any ids from 0 on, `NO_PLACE` for the items to place; somebody has a place.
        traits: N lists of what tells items from others, each trait once; empty for an item of which nothing is known.

    Returns:
        int [N] of the ids that occur in `labels`, without `NO_PLACE`.
    """
    placed, cold = np.flatnonzero(labels != NO_PLACE), np.flatnonzero(labels == NO_PLACE)
    ids, label = np.unique(labels[placed], return_inverse=True)
    asked = {trait for item in cold for trait in traits[item]}
    kin = _count_traits(label, ([name for name in traits[item] if name in asked] for item in placed), len(ids))
    log_sizes = np.log(np.bincount(label))
    result, strangers = labels.copy(), []
    for item in cold:
        counts = [kin[trait] for trait in traits[item] if trait in kin]
        if counts:
            likelihood = np.log(np.add(counts, _SMOOTHING)).sum(axis=0)
            result[item] = ids[np.argmax(likelihood + (1 - len(counts)) * log_sizes)]
        else:
            strangers.append(item)
    smallest = [(int((result == cluster).sum()), int(cluster)) for cluster in ids]
    heapq.heapify(smallest)
    for item in strangers:
        size, cluster = smallest[0]
        result[item] = cluster
        heapq.heapreplace(smallest, (size + 1, cluster))
    return result


def _count_traits(label: np.ndarray, traits: Iterable[Sequence[str]], size: int) -> dict[str, np.ndarray]:
    """How many items of each of `size` clusters have a trait."""
    counts: dict[str, np.ndarray] = {}
    for cluster, own in zip(label, traits, strict=True):
        for trait in own:
            counts.setdefault(trait, np.zeros(size, np.int64))[cluster] += 1
    return counts
