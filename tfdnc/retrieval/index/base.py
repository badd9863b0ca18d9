"""The base of all indexes: one searcher per cluster, and the layout of their answers."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.registry import Registry
from tfdnc.retrieval.index.candidate_layout import lay_out
from tfdnc.retrieval.index.effort import Effort, Efforts
from tfdnc.retrieval.index.filtered import FilteredSearch, Plan
from tfdnc.retrieval.index.partition import SAMPLE_SIZE, PartitionEstimate
from tfdnc.retrieval.index.searcher import ClusterSpec, Found, Searcher
from tfdnc.retrieval.index.seen import clusters_of_items, drop_seen, most_seen, split_by_cluster
from tfdnc.retrieval.index.users import Users
from tfdnc.retrieval.merge import Candidates
from tfdnc.retrieval.rules.passing import Passing

INDEXES: Registry[type["ClusterIndex"]] = Registry("index")


class ClusterIndex(tf.Module):
    """One searcher per cluster; subclasses choose its kind.

    Args:
        items: `[N, D]` float32 item vectors in order of rows, a tensor or a variable. Exhaustive searchers always use
            the current value of a variable.
        offsets: K + 1 item counts; cluster k is rows offsets[k] .. offsets[k + 1] - 1. A cluster may be empty.
        name: prefix of process-wide resources; unique per index.
        max_k: largest number of candidates per cluster; approximate searchers are tuned for it.
        users: users for whom approximate searchers are tuned; None for artificial ones near the items.
        recall: share of the true best items that approximate searchers have to find.
    """

    def __init__(
        self,
        items: tf.Tensor | tf.Variable,
        offsets: Sequence[int] | np.ndarray,
        name: str = "index",
        max_k: int = 500,
        users: Users | None = None,
        recall: float = 0.98,
    ) -> None:
        super().__init__()
        self._offsets = np.asarray(offsets, np.int32)
        self._sizes = np.diff(self._offsets)
        queries = [None if users is None else users.searching(k) for k in range(len(self._sizes))]
        specs = [
            ClusterSpec(f"{name}/cluster_{k}", int(start), int(size), max_k, queries[k], recall)
            for k, (start, size) in enumerate(zip(self._offsets, self._sizes, strict=False))
        ]
        self._searchers = [self._searcher(items, spec) for spec in specs]
        # Clusters whose searchers do not score all items.
        self._partial = [k for k, searcher in enumerate(self._searchers) if not searcher.exhaustive]
        # The specs are bound, not kept as an attribute: a tf.Module would try to save them.
        self._estimate = functools.partial(PartitionEstimate, items, specs, self._partial)
        self._partition = None if self.exhaustive else self._estimate(SAMPLE_SIZE)
        calibrations = [searcher.calibration for searcher in self._searchers if searcher.calibration is not None]
        self._efforts = None if self.exhaustive else Efforts(calibrations)
        of_clusters = [searcher.calibration for searcher in self._searchers]
        self._make_filtered = functools.partial(FilteredSearch, items, specs, of_clusters)
        self._filtered: FilteredSearch | None = None

    @property
    def settings(self) -> list[dict[str, Any]]:
        """`kind` of every cluster's searcher, with the choices and measurements when it was built."""
        return [searcher.settings for searcher in self._searchers]

    @property
    def exhaustive(self) -> bool:
        """True if every item of every cluster is scored."""
        return not self._partial

    @property
    def recalls(self) -> list[float]:
        """Lowest recall of each cluster, as measured when it was built; 1 for an exact search."""
        return [min((one["recall"] for one in cluster.get("effort", ())), default=1.0) for cluster in self.settings]

    @property
    def sizes(self) -> np.ndarray:
        """Number of items of every cluster: `[K]` int32."""
        return self._sizes

    @property
    def offsets(self) -> np.ndarray:
        """K + 1 item counts: cluster k is rows offsets[k] .. offsets[k + 1] - 1."""
        return self._offsets

    def search(
        self,
        vectors: tf.Tensor,
        seen: tf.Tensor,
        k: tf.Tensor | int,
        *,
        per_cluster: bool,
        with_partition: tf.Tensor | bool = True,
        passing: Passing | None = None,
    ) -> tuple[Candidates, tf.Tensor]:
        """Finds the best k unseen items of every cluster.

        Args:
            vectors: `[B, V, D]` float32, B >= 1, V static. A user with fewer interests must repeat one of them.
            seen: `[B, S]` int32 item indices 1..N that must not be returned, 0 pads anywhere.
            k: int32, at least 1, a scalar or `[K]`; a cluster with fewer items returns all of them.
            per_cluster: True when vector k searches cluster k (V = K). False when every vector searches all clusters,
                an item's score being the best of its V. It is an argument, because V may equal K by coincidence.
            with_partition: bool scalar, False when the log-partition is not used; it may then be wrong.
            passing: the items that may be found, None for all. An index that is not exhaustive needs `accept_filters`.

        Returns:
            Candidates in C = sum over clusters of min(k, n_c) columns, and the `[B, K]` log-partition, which includes
            seen items and those that do not pass.

        Raises:
            ValueError: `per_cluster` and V is not K.
        """
        num_clusters = len(self._sizes)
        if per_cluster and vectors.shape[1] != num_clusters:
            raise ValueError(f"vectors: expected one per cluster, {num_clusters}, got {vectors.shape[1]}")
        widths = tf.minimum(k, tf.constant(self._sizes))  # [K]
        clusters = clusters_of_items(seen, self._offsets)
        asked, plan = widths, None
        if not self.exhaustive:
            partial = np.isin(np.arange(num_clusters), self._partial)
            extra = tf.where(partial, most_seen(clusters, num_clusters), 0)
            asked = tf.minimum(widths + extra, tf.constant(self._sizes))
            if passing is not None:
                plan = self._filters().plan(passing, asked, with_partition)
        queries = tf.split(vectors, num_clusters, axis=1) if per_cluster else [vectors] * num_clusters
        of_seen = split_by_cluster(seen, clusters, self._offsets)
        found = self._search_clusters(queries, of_seen, asked if plan is None else plan.asked, passing)
        scores, rows, log_partitions = zip(*found, strict=True)
        candidates = lay_out(scores, rows, self._offsets[:-1])
        estimate = self._partition
        if estimate is None:
            return candidates, tf.stack(log_partitions, axis=1)
        log_partition = tf.cond(
            tf.convert_to_tensor(with_partition),
            lambda: self._log_partition(estimate(queries, candidates), log_partitions),
            lambda: tf.zeros([tf.shape(seen)[0], num_clusters]),
        )
        seen_rows = tf.where(seen > 0, seen - 1, -1)
        drop = functools.partial(drop_seen, seen=seen_rows, widths=widths, num_items=int(self._offsets[-1]))
        if passing is None or plan is None:
            return drop(candidates), log_partition
        return self._complete(candidates, drop, plan, passing, queries, widths, asked), log_partition

    def accept_filters(self) -> None:
        """Measures what searches under a filter cost, which `search` with `passing` needs if not `exhaustive`."""
        self._filtered = None if self.exhaustive else self._make_filtered()

    def _filters(self) -> FilteredSearch:
        if self._filtered is None:
            raise ValueError("Expected accept_filters before a search of an approximate index with passing items.")
        return self._filtered

    def _complete(
        self,
        found: Candidates,
        drop: Callable[..., Candidates],
        plan: Plan,
        passing: Passing,
        queries: list[tf.Tensor],
        widths: tf.Tensor,
        asked: tf.Tensor,
    ) -> Candidates:
        """Drops what is seen or does not pass, and searches clusters exactly that the plan, or a lack, demands."""
        filters = self._filters()
        kept = drop(found, passing=passing.contains(found.rows, found.clusters))
        exact = plan.exact | filters.lacking(kept, passing, widths)  # [R, K]

        def with_exact() -> tuple[tf.Tensor, tf.Tensor]:
            best = drop(filters.exact(passing, exact, queries, asked))
            chosen = tf.gather(tf.gather(exact, passing.rule), kept.clusters, axis=1)  # [B, C]
            return tf.where(chosen, best.scores, kept.scores), tf.where(chosen, best.rows, kept.rows)

        scores, rows = tf.cond(tf.reduce_any(exact), with_exact, lambda: (kept.scores, kept.rows))
        return kept._replace(scores=scores, rows=rows)

    def enlarge_samples(self, factor: int) -> None:
        """Estimates log-partitions from `factor` times `SAMPLE_SIZE` items; existing graphs do not change."""
        self._partition = self._estimate(factor * SAMPLE_SIZE)

    def _searcher(self, items: tf.Tensor | tf.Variable, spec: ClusterSpec) -> Searcher:
        """Builds the searcher of one cluster."""
        raise NotImplementedError

    def _search_clusters(
        self, queries: list[tf.Tensor], seen: list[tf.Tensor], asked: tf.Tensor, passing: Passing | None = None
    ) -> list[Found]:
        """Returns the answer of every searcher to its queries and seen items, for `[K]` numbers of candidates."""
        efforts: list[Effort | None] = [None] * len(self._searchers)
        if self._efforts is not None:
            for k, effort in zip(self._partial, self._efforts(tf.gather(asked, self._partial)), strict=True):
                efforts[k] = effort
        asked = tf.unstack(asked, len(self._searchers))
        masks: list[dict[str, tf.Tensor]] = [{} for _ in self._searchers]
        if passing is not None and len(self._partial) < len(masks):
            of_clusters = zip(passing.ceilings(), self._searchers, strict=True)
            masks = [{"ceiling": one} if searcher.exhaustive else {} for one, searcher in of_clusters]
        searches = zip(self._searchers, queries, seen, asked, efforts, masks, strict=True)
        return [searcher(*arguments, **mask) for searcher, *arguments, mask in searches]

    def _log_partition(self, estimates: tf.Tensor, exact: Sequence[tf.Tensor | None]) -> tf.Tensor:
        """Returns `[B, K]`: exact where a searcher scored all items, one of the `[C, B]` estimates elsewhere."""
        estimated = dict(zip(self._partial, tf.unstack(estimates, len(self._partial)), strict=True))
        return tf.stack([estimated.get(k, known) for k, known in enumerate(exact)], axis=1)
