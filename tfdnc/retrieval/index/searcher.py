"""The searcher of one cluster: what it is built for, what it answers, and the protocol that indexes use it by."""

from typing import NamedTuple, Protocol

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.index.effort import Effort, Ladder
from tfdnc.retrieval.index.users import queries_near


class ClusterSpec(NamedTuple):
    """What a searcher is built for."""

    name: str  # unique among the clusters of all indexes that are alive in one process
    start: int  # first item row of the cluster
    size: int  # n, number of its items
    max_k: int  # most candidates a caller will ask for
    queries: np.ndarray | None  # [Q, I, D] float32, of users as they will come; None: nobody is known
    recall: float  # share of the true best items that an approximate searcher shall find

    def vectors(self, items: tf.Tensor | tf.Variable) -> tf.Tensor:
        """The cluster's part `[n, D]` of all items, as they are now."""
        return tf.convert_to_tensor(items)[self.start : self.start + self.size]

    def tuned_on(self, vectors: tf.Tensor) -> np.ndarray:
        """The `queries`, or where nobody is known some made up next to the cluster's `vectors`."""
        return queries_near(vectors.numpy()) if self.queries is None else self.queries


class Found(NamedTuple):
    """Answer of one cluster to B users."""

    scores: tf.Tensor  # [B, W] float32, never increasing, -inf or NaN where unavailable
    rows: tf.Tensor  # [B, W] int32 rows inside the cluster, 0..n-1; meaningless where unavailable
    log_partition: tf.Tensor | None  # [B] log of the sum of exp(score) over all n items; None: not all were seen


class Searcher(Protocol):
    """Searches one cluster. A searcher that owns variables is a `tf.Module`."""

    exhaustive: bool  # whether it scores every item: it then leaves seen ones out by itself and knows the partition
    ladder: Ladder | None  # what `Efforts` tells it by; None if `exhaustive`
    settings: dict  # for the manifest: kind, and what was chosen and measured at build time

    def __call__(self, queries: tf.Tensor, seen: tf.Tensor, k: tf.Tensor, effort: Effort | None) -> Found:
        """Returns the best items of the cluster: the k best unseen ones if `exhaustive`, else W <= k, seen or not.

        Args:
            queries: `[B, I, D]`, I interests, static; an item's score is the largest of its products with them.
            seen: `[S, 2]` int32 pairs (row of the batch, row inside the cluster), in any order, possibly repeated.
            k: int32 scalar, at most the size of the cluster.
            effort: to make for k; None if `exhaustive`.
        """
