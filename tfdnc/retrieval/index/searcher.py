"""The searcher of one cluster: its settings, its answer, and the protocol by which indexes use it."""

from typing import Any, NamedTuple, Protocol

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.index.effort import Calibration, Effort
from tfdnc.retrieval.index.users import queries_near


class ClusterSpec(NamedTuple):
    """One cluster, and the settings of its searcher."""

    name: str  # unique among the clusters of all indexes in one process
    start: int  # first item row of the cluster
    size: int  # n, number of its items
    max_k: int  # largest number of candidates of a search
    queries: np.ndarray | None  # [Q, I, D] float32, vectors of users like those of requests; None: no users are known
    recall: float  # share of the true best items that an approximate searcher has to find

    def vectors(self, items: tf.Tensor | tf.Variable) -> tf.Tensor:
        """Returns the current vectors `[n, D]` of the cluster's items."""
        return tf.convert_to_tensor(items)[self.start : self.start + self.size]

    def tuned_on(self, vectors: tf.Tensor) -> np.ndarray:
        """Returns `queries`, or without users artificial queries near the cluster's `vectors`."""
        return queries_near(np.asarray(vectors)) if self.queries is None else self.queries


class Found(NamedTuple):
    """Answer of one cluster to B users."""

    scores: tf.Tensor  # [B, W] float32, never increasing, -inf or NaN where unavailable
    rows: tf.Tensor  # [B, W] int32 rows inside the cluster, 0..n-1; meaningless where unavailable
    log_partition: tf.Tensor | None  # [B] log of the sum of exp(score) over all n items; None if not all were scored


class Searcher(Protocol):
    """Searches one cluster. A searcher that owns variables is a `tf.Module`."""

    @property
    def exhaustive(self) -> bool:
        """True for a searcher that scores every item: it excludes seen items and returns the log-partition."""

    @property
    def calibration(self) -> Calibration | None:
        """Measurements from which `Efforts` derives the effort of a search; None if `exhaustive`."""

    @property
    def settings(self) -> dict[str, Any]:
        """Entry of the manifest: the kind, and the choices and measurements at build time."""

    def __call__(
        self, queries: tf.Tensor, seen: tf.Tensor, k: tf.Tensor, effort: Effort | None, ceiling: tf.Tensor | None = None
    ) -> Found:
        """Returns the best items of the cluster: the k best unseen ones if `exhaustive`, else W <= k, seen or not.

        Args:
            queries: `[B, I, D]`, I interests, static; an item's score is the largest of its products with them.
            seen: `[S, 2]` int32 pairs (row of the batch, row inside the cluster), in any order, possibly repeated.
            k: int32 scalar, at most the size of the cluster.
            effort: effort for k candidates; None if `exhaustive`.
            ceiling: `[B, n]` float32, infinite for items that may be found, -inf for others; None for no others. Only
                `exhaustive` searchers read it.
        """
