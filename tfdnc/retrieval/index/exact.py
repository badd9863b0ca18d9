"""Exact search with stock TensorFlow ops only, so that any stock `tensorflow_model_server` can run it."""

from tfdnc.backend import tf
from tfdnc.retrieval.index.base import INDEXES, ClusterIndex
from tfdnc.retrieval.index.interests import best_scores
from tfdnc.retrieval.index.searcher import ClusterSpec, Found


class ExactSearcher:
    """Scores every item of a cluster: one matrix product per interest over a slice of the items.

    Per cluster, because one product over all items followed by per-cluster top-k was 1.0-3.9x slower than this for a
    single request, and skewed sizes need no padding here.
    """

    exhaustive = True
    ladder = None

    def __init__(self, items: tf.Tensor | tf.Variable, spec: ClusterSpec):
        self.settings = {"kind": "exact", "items": spec.size}
        self._items = items
        self._start, self._size = spec.start, spec.size

    def __call__(self, queries: tf.Tensor, seen: tf.Tensor, k: tf.Tensor, effort: None) -> Found:
        """See `tfdnc.retrieval.index.searcher.Searcher`; ties go to the lower row."""
        del effort
        # A slice of whole rows aliases the item matrix; it copies nothing.
        items = self._items[self._start : self._start + self._size]
        scores = best_scores(queries, items)  # [B, n]
        unavailable = tf.fill(tf.shape(seen)[:1], float("-inf"))
        # Masked before the top-k, with a k that is as small as the request allows: top-k is the dear part.
        best = tf.math.top_k(tf.tensor_scatter_nd_update(scores, seen, unavailable), k=k)
        return Found(best.values, best.indices, tf.reduce_logsumexp(scores, axis=1))


@INDEXES.register("exact")
class ExactIndex(ClusterIndex):
    """Every cluster is scanned; the log-partition is exact."""

    def _searcher(self, items, spec):
        return ExactSearcher(items, spec)
