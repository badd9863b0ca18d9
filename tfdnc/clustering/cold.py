"""Cold items: a cluster for those that a clusterer has no place for, without a look at held-out events."""

import heapq

import numpy as np

NO_PLACE = -1
"""What a clusterer gives an item that it has no place for."""


def place_cold_items(labels: np.ndarray, first_categories: np.ndarray) -> np.ndarray:
    """Gives the items without a place a cluster.

    Such an item goes where most placed items of its first category are (ties: the lowest cluster id). The others go,
    one after the other, to the cluster that is then the smallest: they disturb its competition least, and many of them
    do not pile up in one.

    Args:
        labels: int [N], any ids from 0 on, `NO_PLACE` for the items to place; somebody has a place.
        first_categories: object [N], None for an item without a category.

    Returns:
        int [N] of the ids that occur in `labels`, without `NO_PLACE`.
    """
    ids, label = np.unique(labels[labels != NO_PLACE], return_inverse=True)
    placed, cold = np.flatnonzero(labels != NO_PLACE), np.flatnonzero(labels == NO_PLACE)
    result = labels.copy()
    names, category = np.unique([name or "" for name in first_categories], return_inverse=True)
    kin = np.bincount(category[placed] * len(ids) + label, minlength=len(names) * len(ids)).reshape(len(names), -1)
    has_kin = (kin.sum(axis=1) > 0) & (names != "")
    by_category = cold[has_kin[category[cold]]]
    result[by_category] = ids[kin.argmax(axis=1)[category[by_category]]]
    smallest = [(int((result == cluster).sum()), int(cluster)) for cluster in ids]
    heapq.heapify(smallest)
    for item in cold[~has_kin[category[cold]]]:
        size, cluster = smallest[0]
        result[item] = cluster
        heapq.heapreplace(smallest, (size + 1, cluster))
    return result
