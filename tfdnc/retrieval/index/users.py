"""For whom an index is tuned: a sample of users as they will come, or users made up next to the items."""

from typing import NamedTuple

import numpy as np


class Users(NamedTuple):
    """Q users, as the user tower encodes them."""

    vectors: np.ndarray  # [Q, V, D] float32
    log_intent: np.ndarray  # [Q, K] float32
    seen: np.ndarray  # [Q, S] int32 item indices 1..N, 0 pads anywhere
    per_cluster: bool  # whether vector k searches cluster k; otherwise every vector searches every cluster

    def searching(self, cluster: int) -> np.ndarray:
        """The vectors that search a cluster: `[Q, I, D]`."""
        return self.vectors[:, cluster : cluster + 1] if self.per_cluster else self.vectors


def queries_near(items: np.ndarray, count: int = 128, seed: int = 0) -> np.ndarray:
    """Makes up `[count, 1, D]` queries: items plus noise, in every direction half as much as the items differ by."""
    rng = np.random.default_rng(seed)
    drawn = items[rng.integers(0, len(items), count)]
    noise = rng.normal(size=drawn.shape) * items.std(axis=0) / 2
    return (drawn + noise).astype(np.float32)[:, None]
