"""K-means on the directions of item vectors, the last step of every clusterer that learns vectors."""

import logging
import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

logger = logging.getLogger(__name__)

RESTARTS = 5


def cluster_directions(vectors: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Returns int [W]: the cluster of each of the vectors `[W, D]`, none of them zero, by direction alone.

    The length of a skip-gram vector grows with popularity (its correlation with log count is .39 on ML-1M). Without
    normalising, K-means would in part sort the items by popularity.
    """
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    kmeans = KMeans(num_clusters, n_init=RESTARTS, random_state=seed % 2**32)
    # Threads add their partial sums in any order: that changes the last bits, and sometimes the cluster of an item.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct vectors than K: logged below
        labels = kmeans.fit_predict(directions)
    found = len(np.unique(labels))
    if found < num_clusters:
        logger.warning("K-means found %d clusters, not %d: some items have equal vectors", found, num_clusters)
    return labels
