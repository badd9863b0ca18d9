"""Synthetic items in clusters and users near them, for benchmarks of indexes."""

import numpy as np

from tfdnc.retrieval.index.users import Users

DIM = 64
USERS = 160  # the first half makes requests, the second half calibrates the index
_ROWS = 100_000  # items that are drawn at once


class SyntheticData:
    """A mixture: centres inside every cluster and variations around each, both with a spectrum of 1/j.

    The lengths of items differ, because the product does not normalise either. Users are items plus noise.

    Args:
        num_items: N.
        num_clusters: K.
        uneven: True for cluster sizes of a Pareto distribution, False for equal ones.

    Attributes:
        sizes: `[K]` items of each cluster.
        offsets: `[K + 1]` item counts.
        items: `[N, D]` float32 item vectors.
        users: the users.
    """

    def __init__(self, num_items: int, num_clusters: int, uneven: bool) -> None:
        rng = np.random.default_rng(0)
        shares = rng.pareto(1.0, num_clusters) + 0.001 if uneven else np.ones(num_clusters)
        self.sizes = np.maximum(1, (num_items * shares / shares.sum()).astype(int))
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)])
        spectrum = 1 / np.arange(1, DIM + 1)

        def draw(count: int, scale: float) -> np.ndarray:
            return rng.normal(size=[count, DIM]) * spectrum * scale

        self.items = np.empty([self.offsets[-1], DIM], np.float32)
        for first, size in zip(self.offsets, self.sizes, strict=False):
            centres = draw(1, 1.6) + draw(1 + size // 500, 0.7)
            own = rng.integers(0, len(centres), size)
            for start in range(0, size, _ROWS):  # all at once, ten million items take 15 GB
                some = own[start : start + _ROWS]
                self.items[first + start : first + start + len(some)] = centres[some] + draw(len(some), 0.7)
        self.items *= np.exp(rng.normal(0, 0.15, [self.offsets[-1], 1])).astype(np.float32)
        near = self.items[rng.integers(0, len(self.items), USERS)]
        vectors = np.stack([near + draw(USERS, 0.3) for _ in self.sizes], axis=1) * 1.5
        intent = rng.dirichlet(np.full(num_clusters, 0.5), size=USERS)
        self.users = Users(
            vectors.astype(np.float32),
            np.log(intent + 1e-6).astype(np.float32),
            rng.integers(0, len(self.items) + 1, size=[USERS, 50]).astype(np.int32),
            per_cluster=True,
        )

    def part(self, rows: slice) -> Users:
        """Returns some of the users."""
        vectors, log_intent, seen, per_cluster = self.users
        return Users(vectors[rows], log_intent[rows], seen[rows], per_cluster)
