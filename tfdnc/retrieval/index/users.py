"""Users for whom an index is tuned: a sample of real users, or artificial ones near the items."""

from typing import NamedTuple

import numpy as np


class Users(NamedTuple):
    """Q users, as the user tower encodes them."""

    vectors: np.ndarray  # [Q, V, D] float32
    log_intent: np.ndarray  # [Q, K] float32
    seen: np.ndarray  # [Q, S] int32 item indices 1..N, 0 pads anywhere
    per_cluster: bool  # True: vector k searches cluster k; False: every vector searches every cluster

    def searching(self, cluster: int) -> np.ndarray:
        """Returns the vectors that search a cluster: `[Q, I, D]`."""
        return self.vectors[:, cluster : cluster + 1] if self.per_cluster else self.vectors


def queries_near(items: np.ndarray, count: int = 128, seed: int = 0) -> np.ndarray:
    """Returns `[count, 1, D]` artificial queries: items plus noise of half their standard deviation per dimension."""
    rng = np.random.default_rng(seed)
    drawn = items[rng.integers(0, len(items), count)]
    noise = rng.normal(size=drawn.shape) * items.std(axis=0) / 2
    return (drawn + noise).astype(np.float32)[:, None]
