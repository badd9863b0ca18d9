"""Clusters of items with similar content vectors, and cold items in the cluster with the nearest centroid."""

from collections.abc import Mapping

import numpy as np

from tfdnc.clustering.cold import UNASSIGNED
from tfdnc.clustering.kmeans import cluster_directions
from tfdnc.clustering.log import TrainingLog
from tfdnc.clustering.registry import CLUSTERERS, check_num_clusters
from tfdnc.contracts.config import ClusterConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import forget

CONTENT_KMEANS = "content_kmeans"
_ROWS = 16_384  # vectors read at a time
_SAMPLE = 100_000  # most items that K-means learns from, a bound for memory


@CLUSTERERS.register(CONTENT_KMEANS)
def content_kmeans(log: TrainingLog, config: ClusterConfig, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """Returns int [N]: K-means clusters of the `Directions` of the items' vectors, `UNASSIGNED` for cold items.

    Items without a vector are `UNASSIGNED` too. K-means learns from `_SAMPLE` items at most, drawn at random; all
    others go to the nearest centroid, as cold ones do.

    Raises:
        UserError: the items have no vectors.
    """
    if not log.vectors:
        raise UserError(
            "Expected vectors of the items for cluster.method: content_kmeans, found none; name a feature of kind "
            "vector in data.items.features, or choose another cluster.method."
        )
    directions = Directions(log.vectors)
    warm = np.flatnonzero(directions.known & (log.counts > 0))
    number = check_num_clusters(len(warm), config)
    sample = np.sort(np.random.default_rng(seed).permutation(warm)[:_SAMPLE])
    labels = np.full(log.num_items, UNASSIGNED)
    labels[sample] = cluster_directions(directions.rows(sample), number, seed)
    rest = np.setdiff1d(warm, sample)
    labels[rest] = nearest_centroids(labels, directions, rest)[rest]
    return labels, {"items_without_vector": int((~directions.known).sum())}


class Directions:
    """Content vectors of N items by their direction from the mean item; several features count alike.

    Args:
        vectors: `[N, C]` of every feature by name, memory-mapped; NaN for an unknown vector.

    Attributes:
        known: `[N]` bool, the items that have every vector.
    """

    def __init__(self, vectors: Mapping[str, np.ndarray]) -> None:
        self._vectors = list(vectors.values())
        self.known: np.ndarray = np.ones(len(self._vectors[0]), bool)
        for start in range(0, len(self.known), _ROWS):
            for one in self._vectors:
                self.known[start : start + _ROWS] &= ~np.isnan(one[start : start + _ROWS]).any(axis=1)
                forget(one)
        rows = np.flatnonzero(self.known)
        self._means = [_mean(one, rows) for one in self._vectors]

    def rows(self, items: np.ndarray) -> np.ndarray:
        """Returns float32 `[M, C']`: the joined directions of items that have vectors, none of them zero."""
        joined = []
        for one, mean in zip(self._vectors, self._means, strict=True):
            centred = one[items] - mean.astype(np.float32)
            forget(one)
            length = np.linalg.norm(centred, axis=1, keepdims=True)
            # An item exactly at the mean has no direction; any fixed one keeps K-means defined.
            joined.append(np.where(length > 0, centred / np.where(length > 0, length, 1), 1 / centred.shape[1] ** 0.5))
        return np.concatenate(joined, axis=1).astype(np.float32)


def _mean(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the mean of these rows, float64 [C]."""
    total = np.zeros(vectors.shape[1])
    for part in _parts(rows):
        total += vectors[part].sum(axis=0, dtype=np.float64)
        forget(vectors)
    return total / max(len(rows), 1)


def nearest_centroids(labels: np.ndarray, directions: Directions, items: np.ndarray) -> np.ndarray:
    """Returns int [N]: of these items the cluster whose mean direction is nearest, `UNASSIGNED` of all others.

    Args:
        labels: int [N], `UNASSIGNED` for items that do not count in the means.
        directions: of the N items; one without a vector gets `UNASSIGNED`.
        items: the items to assign.
    """
    found = np.full(len(labels), UNASSIGNED)
    members = np.flatnonzero(directions.known & (labels != UNASSIGNED))
    ids, label = np.unique(labels[members], return_inverse=True)
    if not len(ids):
        return found
    sums = 0.0
    for part, own in zip(_parts(members), _parts(label), strict=True):
        rows = directions.rows(part)
        one_hot = np.zeros((len(part), len(ids)), np.float32)
        one_hot[np.arange(len(part)), own] = 1
        sums = sums + one_hot.T.astype(np.float64) @ rows
    centroids = sums / np.bincount(label)[:, None]
    lengths = (centroids**2).sum(axis=1)
    for part in _parts(items[directions.known[items]]):
        found[part] = ids[np.argmin(lengths - 2 * directions.rows(part) @ centroids.T, axis=1)]
    return found


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)]
