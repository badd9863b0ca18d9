"""Users for whom an index is tuned: a sample of real users, or artificial ones near the items."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_ROWS = 1 << 14  # items that a temporary array has


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
    noise = rng.normal(size=drawn.shape) * _deviations(items) / 2
    return (drawn + noise).astype(np.float32)[:, None]


def _deviations(items: np.ndarray) -> np.ndarray:
    """Returns `items.std(axis=0)` to the last digit, without temporary arrays of the size of `items` `[n, D]`."""
    mean = _sum(items, lambda some: some) / np.float32(len(items))
    return np.sqrt(_sum(items, lambda some: np.square(some - mean)) / np.float32(len(items)))


def _sum(items: np.ndarray, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Returns the `[D]` sum of `of(items)`; rows are added one after another, as NumPy adds them."""
    total = np.zeros_like(items[:1])
    for start in range(0, len(items), _ROWS):
        total = np.concatenate([total, of(items[start : start + _ROWS])]).sum(axis=0, keepdims=True)
    return total[0]
