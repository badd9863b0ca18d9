"""Chooses per cluster: exact where that is as good or nearly as fast, ScaNN elsewhere."""

from tfdnc.backend import tf
from tfdnc.retrieval.index.base import INDEXES, ClusterIndex
from tfdnc.retrieval.index.calibrate import Stopwatch
from tfdnc.retrieval.index.effort import Effort
from tfdnc.retrieval.index.exact import ExactSearcher
from tfdnc.retrieval.index.interests import best_scores
from tfdnc.retrieval.index.scann import ScannSearcher
from tfdnc.retrieval.index.searcher import ClusterSpec

SCANN_FROM = 20_000
"""Cluster size below which nothing is measured: a scan takes well under a millisecond."""

_WORTH_IT = 0.8  # of the exact search's time, at most: ScaNN costs the exact log-partition and an op of its own


@INDEXES.register("auto")
class AutoIndex(ClusterIndex):
    """Exact for small clusters, and for larger ones where ScaNN misses its recall or saves little time.

    Below `SCANN_FROM` items a cluster never asks for an op that stock TF Serving lacks. A bundle whose clusters are all
    small therefore runs anywhere.
    """

    def _searcher(self, items, spec):
        if spec.size < SCANN_FROM:
            return ExactSearcher(items, spec)
        scann = ScannSearcher(items, spec)
        rung = scann.widest
        if rung.recall >= spec.recall and rung.microseconds <= _WORTH_IT * exact_microseconds(items, spec):
            return scann
        return ExactSearcher(items, spec)


def exact_microseconds(items: tf.Tensor | tf.Variable, spec: ClusterSpec) -> float:
    """Time of an exact search for the most candidates, measured as `calibrate` measures ScaNN's."""
    vectors = spec.vectors(items)

    def fetch(queries, width, effort):
        del effort
        best = tf.math.top_k(best_scores(queries, vectors), k=width)
        return best.indices, best.values

    return Stopwatch(fetch, spec.tuned_on(vectors)).microseconds(min(spec.size, spec.max_k), Effort(-1, -1))
