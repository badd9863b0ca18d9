"""What all indexes share: one searcher per cluster, and the columns their answers are laid out in."""

import functools

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.registry import Registry
from tfdnc.retrieval.index.columns import lay_out
from tfdnc.retrieval.index.effort import Efforts
from tfdnc.retrieval.index.partition import SAMPLE_SIZE, PartitionEstimate
from tfdnc.retrieval.index.searcher import ClusterSpec, Searcher
from tfdnc.retrieval.index.seen import clusters_of_items, drop_seen, most_seen, split_by_cluster
from tfdnc.retrieval.index.users import Users
from tfdnc.retrieval.merge import Candidates

INDEXES: Registry[type["ClusterIndex"]] = Registry("index")


class ClusterIndex(tf.Module):
    """One searcher per cluster; subclasses say which.

    Args:
        items: `[N, D]` float32 item vectors in order of rows, a tensor or a variable (exhaustive searchers follow its
            later changes).
        offsets: K + 1 item counts; cluster k is rows offsets[k] .. offsets[k + 1] - 1. A cluster may be empty.
        name: prefix of process-wide resources; unique per index.
        max_k: most candidates per cluster a caller will ask for; approximate searchers are tuned for it.
        users: on whom approximate searchers are tuned; None makes some up, next to items.
        recall: what they are tuned to.
    """

    def __init__(
        self,
        items: tf.Tensor | tf.Variable,
        offsets,
        name: str = "index",
        max_k: int = 500,
        users: Users | None = None,
        recall: float = 0.98,
    ):
        super().__init__()
        self._offsets = np.asarray(offsets, np.int32)
        self._sizes = np.diff(self._offsets)
        queries = [None if users is None else users.searching(k) for k in range(len(self._sizes))]
        specs = [
            ClusterSpec(f"{name}/cluster_{k}", int(start), int(size), max_k, queries[k], recall)
            for k, (start, size) in enumerate(zip(self._offsets, self._sizes, strict=False))
        ]
        self._searchers = [self._searcher(items, spec) for spec in specs]
        # Clusters whose searchers do not see all items.
        self._partial = [k for k, searcher in enumerate(self._searchers) if not searcher.exhaustive]
        # Not an attribute made of specs, which a tf.Module would try to save.
        self._estimate = functools.partial(PartitionEstimate, items, specs, self._partial)
        self._partition = None if self.exhaustive else self._estimate(SAMPLE_SIZE)
        self._efforts = None if self.exhaustive else Efforts([self._searchers[k].ladder for k in self._partial])

    @property
    def settings(self) -> list[dict]:
        """Per cluster its `kind` of searcher, with what was chosen and measured when it was built."""
        return [searcher.settings for searcher in self._searchers]

    @property
    def exhaustive(self) -> bool:
        """Whether every item of every cluster is scored."""
        return not self._partial

    @property
    def recalls(self) -> list[float]:
        """Of every cluster the least recall that was measured when it was built."""
        return [min((rung["recall"] for rung in cluster.get("effort", ())), default=1.0) for cluster in self.settings]

    @property
    def sizes(self) -> np.ndarray:
        """Items of every cluster: `[K]` int32."""
        return self._sizes

    def search(
        self,
        vectors: tf.Tensor,
        seen: tf.Tensor,
        k: tf.Tensor | int,
        *,
        per_cluster: bool,
        with_partition: tf.Tensor | bool = True,
    ) -> tuple[Candidates, tf.Tensor]:
        """Finds the best k unseen items of every cluster.

        Args:
            vectors: `[B, V, D]` float32, B >= 1, V static. An interest that a user lacks must repeat another one.
            seen: `[B, S]` int32 item indices 1..N that must not be returned, 0 pads anywhere.
            k: int32, at least 1, a scalar or `[K]`; a cluster with fewer items answers with all it has.
            per_cluster: True when vector k searches cluster k (V = K); False when every vector searches all clusters,
                an item's score being the best of its V. Said by the caller, because V may equal K by coincidence.
            with_partition: bool scalar, False when nobody reads the log-partition; it may then be wrong.

        Returns:
            Candidates in C = sum over clusters of min(k, n_c) columns, and the `[B, K]` log-partition, the seen items
            included.

        Raises:
            ValueError: `per_cluster` and V is not K.
        """
        num_clusters = len(self._sizes)
        if per_cluster and vectors.shape[1] != num_clusters:
            raise ValueError(f"vectors: expected one per cluster, {num_clusters}, got {vectors.shape[1]}")
        widths = tf.minimum(k, tf.constant(self._sizes))  # [K]
        clusters = clusters_of_items(seen, self._offsets)
        asked = widths
        if not self.exhaustive:
            partial = np.isin(np.arange(num_clusters), self._partial)
            extra = tf.where(partial, most_seen(clusters, num_clusters), 0)
            asked = tf.minimum(widths + extra, tf.constant(self._sizes))
        queries = tf.split(vectors, num_clusters, axis=1) if per_cluster else [vectors] * num_clusters
        found = self._ask(queries, split_by_cluster(seen, clusters, self._offsets), asked)
        scores, rows, log_partitions = zip(*found, strict=True)
        candidates = lay_out(scores, rows, self._offsets[:-1])
        if self.exhaustive:
            return candidates, tf.stack(log_partitions, axis=1)
        log_partition = tf.cond(
            tf.convert_to_tensor(with_partition),
            lambda: self._log_partition(queries, candidates, log_partitions),
            lambda: tf.zeros([tf.shape(seen)[0], num_clusters]),
        )
        seen_rows = tf.where(seen > 0, seen - 1, -1)
        return drop_seen(candidates, seen_rows, widths, int(self._offsets[-1])), log_partition

    def enlarge_samples(self, factor: int) -> None:
        """Estimates log-partitions from `factor` times as many items as at first; a graph must be made anew."""
        self._partition = self._estimate(factor * SAMPLE_SIZE)

    def _searcher(self, items: tf.Tensor | tf.Variable, spec: ClusterSpec) -> Searcher:
        """Builds the searcher of one cluster."""
        raise NotImplementedError

    def _ask(self, queries, seen, asked):
        """What every searcher finds."""
        efforts = [None] * len(self._searchers)
        if self._partial:
            for k, effort in zip(self._partial, self._efforts(tf.gather(asked, self._partial)), strict=True):
                efforts[k] = effort
        asked = tf.unstack(asked, len(self._searchers))
        searches = zip(self._searchers, queries, seen, asked, efforts, strict=True)
        return [searcher(*arguments) for searcher, *arguments in searches]

    def _log_partition(self, queries, candidates, known):
        """`[B, K]`: exact where a searcher saw all items, estimated elsewhere."""
        estimates = tf.unstack(self._partition(queries, candidates), len(self._partial))
        estimates = dict(zip(self._partial, estimates, strict=True))
        return tf.stack([estimates.get(k, exact) for k, exact in enumerate(known)], axis=1)
