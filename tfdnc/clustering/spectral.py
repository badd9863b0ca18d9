"""Clusters of items with similar neighbours in the sequences, found by Beam jobs: for logs beyond one machine."""

import itertools
import logging
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from tfdnc.clustering.cold import UNASSIGNED
from tfdnc.clustering.kmeans import cluster_directions
from tfdnc.clustering.log import TrainingLog
from tfdnc.clustering.registry import CLUSTERERS, check_num_clusters
from tfdnc.contracts.config import ClusterConfig

logger = logging.getLogger(__name__)


@CLUSTERERS.register("spectral_kmeans")
def spectral_kmeans(log: TrainingLog, config: ClusterConfig, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """Returns int [N]: K-means clusters of randomised spectral vectors of the items; and no figures of its own.

    Only the passes over the log, `config.rounds` of them, are Beam jobs. The N x `config.dim` vectors are held in this
    process. Items without training events, and those that never had a neighbour, have no vector: `UNASSIGNED`.
    """
    from beam_jobs.neighbours import sum_neighbours  # takes a second to import, and no other clusterer needs it

    check_num_clusters(int(np.count_nonzero(log.counts)), config)
    passes = itertools.count(1)

    def co_occur(vectors: np.ndarray) -> np.ndarray:
        number = next(passes)
        logger.info("Spectral clustering: pass %d of %d over the log", number, config.rounds)
        return sum_neighbours(log.files, vectors, config.window, log.scratch / f"pass-{number}", log.runner_args)

    vectors = spectral_vectors(co_occur, log.counts, config.dim, config.rounds, seed)
    warm = np.flatnonzero(vectors.any(axis=1))
    number = check_num_clusters(len(warm), config)
    labels = np.full(log.num_items, UNASSIGNED)
    labels[warm] = cluster_directions(vectors[warm], number, seed)
    return labels, {}


def spectral_vectors(
    co_occur: Callable[[np.ndarray], np.ndarray], counts: np.ndarray, dim: int, rounds: int, seed: int
) -> np.ndarray:
    """Returns float64 [N, dim]: spectral vectors of the items, by a randomised power iteration.

    Let C be the co-occurrence matrix, c the counts and S = c^-1/2 C c^-1/2. Rounds of V <- S orthonormal(V) turn a
    random V towards the leading eigenvectors of S, each weighted by its eigenvalue (Halko, Martinsson & Tropp 2011;
    spectral clustering of Ng, Jordan & Weiss 2001 on a co-occurrence graph).

    The first eigenvector is close to c^1/2: it shows only the popularity of an item, and is projected out. The length
    of a row has no meaning; its direction distinguishes items.

    Args:
        co_occur: V [N, dim] -> C V, the sum of the rows of an item's neighbours over all of its events.
        counts: int [N] events of each item; items without any, or without neighbours, get a row of zeros.
        dim: width of V; at most the number of items with events is used.
        rounds: number of calls of `co_occur`.
        seed: of the random matrix.
    """
    weight = np.sqrt(counts)[:, None]
    scale = np.divide(1, weight, out=np.zeros(weight.shape), where=weight > 0)
    popularity = weight / np.linalg.norm(weight)
    vectors = np.random.default_rng(seed).standard_normal((len(counts), dim)) * (weight > 0)
    # Threads would split the sums inside LAPACK in any way, and change the last bits.
    with threadpool_limits(1):
        for _ in range(rounds):
            basis, _ = np.linalg.qr(vectors - popularity @ (popularity.T @ vectors))
            vectors = scale * co_occur(scale * basis)
        isolated = ~vectors.any(axis=1, keepdims=True)
        return np.where(isolated, 0, vectors - popularity @ (popularity.T @ vectors))
