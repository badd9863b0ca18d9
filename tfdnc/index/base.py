"""What all indexes share: one searcher per cluster, and the columns their answers are laid out in."""

from typing import NamedTuple, Protocol

import numpy as np

from tfdnc.backend import tf
from tfdnc.merge import Candidates
from tfdnc.registry import Registry

INDEXES: Registry[type["ClusterIndex"]] = Registry("index")


class ClusterSpec(NamedTuple):
    """What a searcher is built for."""

    name: str  # unique among the clusters of all indexes that are alive in one process
    start: int  # first item row of the cluster
    size: int  # n, number of its items
    max_k: int  # most candidates a caller will ask for


class Found(NamedTuple):
    """Answer of one cluster to B users."""

    scores: tf.Tensor  # [B, k] float32, never increasing, -inf where unavailable
    rows: tf.Tensor  # [B, k] int32 rows inside the cluster, 0..n-1; meaningless where unavailable
    log_partition: tf.Tensor  # [B] log of the sum of exp(score) over all n items, the seen ones included


class Searcher(Protocol):
    """Searches one cluster. A searcher that owns variables is a `tf.Module`."""

    kind: str  # as the manifest calls it

    def __call__(self, queries: tf.Tensor, seen: tf.Tensor, k: tf.Tensor) -> Found:
        """Returns the best unseen items of the cluster.

        Args:
            queries: `[B, I, D]`, I interests, static; an item's score is the largest of its products with them.
            seen: `[S, 2]` int32 pairs (row of the batch, row inside the cluster), in any order, possibly repeated.
            k: int32 scalar, at most the size of the cluster.
        """


class ClusterIndex(tf.Module):
    """One searcher per cluster; subclasses say which.

    Args:
        items: `[N, D]` float32 item vectors in order of rows, a tensor or a variable (searchers that scan the items
            follow its later changes).
        offsets: K + 1 item counts; cluster k is rows offsets[k] .. offsets[k + 1] - 1. A cluster may be empty.
        name: prefix of process-wide resources; unique per index.
        max_k: most candidates per cluster a caller will ask for; approximate searchers are tuned for it.
    """

    def __init__(self, items: tf.Tensor | tf.Variable, offsets, name: str = "index", max_k: int = 500):
        super().__init__()
        self._offsets = np.asarray(offsets, np.int32)
        self._sizes = np.diff(self._offsets)
        self._searchers = [
            self._searcher(items, ClusterSpec(f"{name}/cluster_{k}", int(start), int(size), max_k))
            for k, (start, size) in enumerate(zip(self._offsets, self._sizes, strict=False))
        ]

    @property
    def kinds(self) -> list[str]:
        """The kind of searcher of every cluster."""
        return [searcher.kind for searcher in self._searchers]

    def search(
        self, vectors: tf.Tensor, seen: tf.Tensor, k: tf.Tensor | int, *, per_cluster: bool
    ) -> tuple[Candidates, tf.Tensor]:
        """Finds the best k unseen items of every cluster.

        Args:
            vectors: `[B, V, D]` float32, B >= 1, V static. An interest that a user lacks must repeat another one.
            seen: `[B, S]` int32 item indices 1..N that must not be returned, 0 pads anywhere.
            k: int32 scalar, at least 1; a cluster with fewer items answers with all it has.
            per_cluster: True when vector k searches cluster k (V = K); False when every vector searches all clusters,
                an item's score being the best of its V. Said by the caller, because V may equal K by coincidence.

        Returns:
            Candidates in C = sum over clusters of min(k, n_c) columns, and the `[B, K]` log-partition.

        Raises:
            ValueError: `per_cluster` and V is not K.
        """
        if per_cluster and vectors.shape[1] != len(self._sizes):
            raise ValueError(f"vectors: expected one per cluster, {len(self._sizes)}, got {vectors.shape[1]}")
        widths = tf.minimum(k, tf.constant(self._sizes))  # [K]
        seen = self._split_by_cluster(seen)
        found = [
            searcher(vectors[:, cluster : cluster + 1] if per_cluster else vectors, seen[cluster], widths[cluster])
            for cluster, searcher in enumerate(self._searchers)
        ]
        columns = tf.range(tf.reduce_sum(widths))
        clusters = tf.repeat(tf.range(len(self._sizes)), widths)
        first_column = tf.gather(tf.cumsum(widths, exclusive=True), clusters)
        candidates = Candidates(
            scores=tf.concat([answer.scores for answer in found], axis=1),
            rows=tf.concat([answer.rows + start for answer, start in zip(found, self._offsets, strict=False)], axis=1),
            clusters=clusters,
            ranks=columns - first_column,
        )
        return candidates, tf.stack([answer.log_partition for answer in found], axis=1)

    def _searcher(self, items: tf.Tensor | tf.Variable, spec: ClusterSpec) -> Searcher:
        """Builds the searcher of one cluster."""
        raise NotImplementedError

    def _split_by_cluster(self, seen):
        """`[B, S]` item indices -> per cluster the pairs (row of the batch, row inside the cluster)."""
        where = tf.cast(tf.where(seen > 0), tf.int32)  # [P, 2]
        rows = tf.gather_nd(seen, where) - 1
        clusters = tf.searchsorted(tf.constant(self._offsets[1:]), rows, side="right")
        pairs = tf.stack([where[:, 0], rows - tf.gather(tf.constant(self._offsets), clusters)], axis=1)
        return tf.dynamic_partition(pairs, clusters, len(self._sizes))
