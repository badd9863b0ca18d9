"""The index that chooses per cluster: ScaNN where it reaches its recall and saves time, exact search elsewhere."""

from tfdnc.backend import tf
from tfdnc.retrieval.index.base import INDEXES, ClusterIndex
from tfdnc.retrieval.index.calibrate import Stopwatch
from tfdnc.retrieval.index.effort import Effort
from tfdnc.retrieval.index.exact import ExactSearcher
from tfdnc.retrieval.index.interests import best_scores
from tfdnc.retrieval.index.scann import ScannSearcher
from tfdnc.retrieval.index.searcher import ClusterSpec, Searcher

SCANN_FROM = 20_000
"""Cluster size below which search is exact without a measurement: a scan takes well under a millisecond."""

_WORTH_IT = 0.8
"""Largest share of the exact search's time for which ScaNN is used, because it gives up the exact log-partition."""


@INDEXES.register("auto")
class AutoIndex(ClusterIndex):
    """Searches small clusters exactly, and larger ones too where ScaNN misses its recall or saves little time.

    A cluster of less than `SCANN_FROM` items needs no op that stock TF Serving lacks. So a bundle of small clusters
    runs on any server.
    """

    def _searcher(self, items: tf.Tensor | tf.Variable, spec: ClusterSpec) -> Searcher:
        if spec.size < SCANN_FROM:
            return ExactSearcher(items, spec)
        scann = ScannSearcher(items, spec)
        widest = scann.widest
        if (
            widest is not None
            and widest.recall >= spec.recall
            and widest.microseconds <= _WORTH_IT * exact_microseconds(items, spec)
        ):
            return scann
        scann.forget()
        return ExactSearcher(items, spec)


def exact_microseconds(items: tf.Tensor | tf.Variable, spec: ClusterSpec) -> float:
    """Returns the time of an exact search for the most candidates, measured as `calibrate` measures ScaNN's."""
    vectors = spec.vectors(items)

    def fetch(queries: tf.Tensor, width: int, effort: Effort) -> tuple[tf.Tensor, tf.Tensor]:
        del effort
        best = tf.math.top_k(best_scores(queries, vectors), k=width)
        return best.indices, best.values

    return Stopwatch(fetch, spec.tuned_on(vectors)).microseconds(min(spec.size, spec.max_k), Effort(-1, -1))
