"""Search under a filter in clusters that are searched approximately: more candidates, or all passing items exactly.

Where many items pass, the search finds so many candidates that enough of them pass, and the others are dropped. Where
few pass, all of these are scored. The cheaper way is chosen per cluster, by the number of items that pass and by times
that were measured when the index was built. A cluster where a row still lacks results is scored exactly then: the items
that pass may all be far from a user.
"""

import itertools
from typing import NamedTuple

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.index.calibrate import Stopwatch
from tfdnc.retrieval.index.candidate_layout import clusters_of
from tfdnc.retrieval.index.effort import Calibration, Effort
from tfdnc.retrieval.index.interests import best_scores
from tfdnc.retrieval.index.searcher import ClusterSpec
from tfdnc.retrieval.merge import Candidates
from tfdnc.retrieval.rules.passing import Passing

_HEAD = 32  # candidates for the log-partition in a cluster whose results are found exactly
_DEVIATIONS = 3.0  # beyond the mean number of passing candidates, so that few rows of a batch lack some
_TIMED_ITEMS, _TIMED_WIDTH = 4096, 64  # passing items and candidates of the measured search
_STEP = 1.2  # factor between tabulated numbers of candidates


class Plan(NamedTuple):
    """The way to search every cluster."""

    asked: tf.Tensor  # [K] int32 candidates of the approximate search
    exact: tf.Tensor  # [K] bool, True where all passing items are scored


class FilteredSearch:
    """Plans and exact searches of an index with approximate clusters. No tf.Module: it owns nothing to save.

    Args:
        items: `[N, D]` all items.
        specs: specs of the K clusters.
        calibrations: calibrations of the clusters, None for one that is searched exactly anyway.
    """

    def __init__(
        self, items: tf.Tensor | tf.Variable, specs: list[ClusterSpec], calibrations: list[Calibration | None]
    ) -> None:
        self._items = items
        self._offsets = np.array([spec.start for spec in specs] + [specs[-1].start + specs[-1].size], np.int32)
        self._sizes = np.diff(self._offsets)
        self._partial = np.array([calibration is not None for calibration in calibrations])
        largest = max(specs, key=lambda spec: spec.size)
        # To read an item for a rule, and to score it for one of its rows.
        self._to_read, self._to_score = _microseconds_per_item(items, largest)
        steps = np.ceil(_STEP ** np.arange(1 + np.ceil(np.log(max(self._sizes.max(), 2)) / np.log(_STEP))))
        self._widths = np.unique(steps).astype(np.int32)  # [T]
        self._times = np.stack([_times(calibration, self._widths) for calibration in calibrations])  # [K, T]

    def plan(self, passing: Passing, widths: tf.Tensor, with_partition: tf.Tensor | bool) -> Plan:
        """Chooses the way to find `[K]` numbers of candidates that pass."""
        counts = passing.counts()  # [B, K]
        least = tf.reduce_min(tf.where(counts > 0, counts, tf.constant(self._sizes)), axis=0)
        each = tf.cast(self._sizes, tf.float32) / tf.cast(
            tf.maximum(least, 1), tf.float32
        )  # candidates per passing one
        # Of x candidates x / each pass, with a variance of at most as many, if the filter is independent of the scores.
        mean = tf.cast(widths, tf.float32)
        mean += tf.where(each > 1, _DEVIATIONS * tf.sqrt(mean) + _DEVIATIONS**2, 0.0)
        wanted = tf.minimum(tf.math.ceil(mean * each), tf.cast(self._sizes, tf.float32))
        more = tf.cast(wanted, tf.int32)  # [K]
        place = tf.minimum(tf.searchsorted(self._widths, more), len(self._widths) - 1)
        approximate = tf.gather(self._times, place, batch_dims=1) * tf.cast(tf.shape(counts)[0], tf.float32)
        of_rules = tf.math.unsorted_segment_max(counts, passing.rule, tf.shape(passing.words)[0])  # [R, K]
        exactly = self._to_read * tf.cast(tf.reduce_sum(of_rules, axis=0), tf.float32)
        exactly += self._to_score * tf.cast(tf.reduce_sum(counts, axis=0), tf.float32)
        exact = self._partial & (exactly < approximate)
        head = tf.where(with_partition, tf.minimum(widths, _HEAD), tf.minimum(widths, 1))
        return Plan(tf.where(self._partial, tf.where(exact, head, more), widths), exact)

    def lacking(self, found: Candidates, passing: Passing, widths: tf.Tensor) -> tf.Tensor:
        """Returns `[R, K]` bool, True if a row of a rule has less candidates than `[K]` widths, although more pass."""
        kept = tf.cast(tf.transpose(found.scores) > float("-inf"), tf.int32)  # [C, B]
        counts = tf.transpose(tf.math.unsorted_segment_sum(kept, found.clusters, len(self._sizes)))  # [B, K]
        lacks = self._partial & (counts < tf.minimum(widths, passing.counts()))
        return tf.math.unsorted_segment_max(tf.cast(lacks, tf.int32), passing.rule, tf.shape(passing.words)[0]) > 0

    def exact(self, passing: Passing, wanted: tf.Tensor, queries: list[tf.Tensor], widths: tf.Tensor) -> Candidates:
        """Scores all passing items of wanted clusters, seen ones included.

        Args:
            passing: the items that pass.
            wanted: `[R, K]` bool; the columns of other clusters are unavailable in the rows of the rule.
            queries: per cluster `[B, I, D]`.
            widths: `[K]` int32 columns of each cluster.
        """
        clusters, ranks = clusters_of(widths)
        shape = [tf.shape(passing.rule)[0], tf.shape(clusters)[0]]

        def step(rule: tf.Tensor, scores: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, ...]:
            asking = tf.where(passing.rule == rule)  # [A, 1]
            own = [tf.gather(query, asking[:, 0]) for query in queries]
            found_scores, found_rows = self._of_rule(passing.rows_of(rule, wanted[rule]), own, widths)
            return (
                rule + 1,
                tf.tensor_scatter_nd_update(scores, asking, found_scores),
                tf.tensor_scatter_nd_update(rows, asking, found_rows),
            )

        start = (tf.constant(0), tf.fill(shape, float("-inf")), tf.zeros(shape, tf.int32))
        _, scores, rows = tf.while_loop(lambda rule, *_: rule < tf.shape(passing.words)[0], step, start)
        return Candidates(scores, rows, clusters, ranks)

    def _of_rule(self, rows: tf.Tensor, queries: list[tf.Tensor], widths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `[A, C]` scores and rows of the best of `[P]` ascending rows in every cluster."""
        # On the variable a gather would make every later read of it a copy, such as that of the encoder.
        vectors = tf.gather(tf.convert_to_tensor(self._items), rows)  # [P, D]
        bounds = tf.unstack(tf.searchsorted(rows, self._offsets), len(self._offsets))
        scores, found = [], []
        of_clusters = zip(queries, itertools.pairwise(bounds), tf.unstack(widths, len(queries)), strict=True)
        for query, (start, stop), width in of_clusters:
            best = tf.math.top_k(best_scores(query, vectors[start:stop]), k=tf.minimum(width, stop - start))
            missing = [[0, 0], [0, tf.maximum(width - (stop - start), 0)]]
            scores.append(tf.pad(best.values, missing, constant_values=float("-inf")))
            found.append(tf.pad(tf.gather(rows, best.indices + start), missing))
        return tf.concat(scores, axis=1), tf.concat(found, axis=1)


def _microseconds_per_item(items: tf.Tensor | tf.Variable, spec: ClusterSpec) -> tuple[float, float]:
    """Returns the times to read one of many passing items, and to score it for one user."""
    vectors = tf.convert_to_tensor(items)
    count = min(_TIMED_ITEMS, vectors.shape[0])
    rows = tf.constant(np.linspace(0, vectors.shape[0] - 1, count).astype(np.int32))
    together = tf.gather(vectors, rows)

    def best_of(found: tf.Tensor, queries: tf.Tensor, width: int) -> tuple[tf.Tensor, tf.Tensor]:
        best = tf.math.top_k(best_scores(queries, found), k=width)
        return best.indices, best.values

    def read(queries: tf.Tensor, width: int, effort: Effort) -> tuple[tf.Tensor, tf.Tensor]:
        del effort
        return best_of(tf.gather(vectors, rows), queries, width)

    def score(queries: tf.Tensor, width: int, effort: Effort) -> tuple[tf.Tensor, tf.Tensor]:
        del effort
        return best_of(together, queries, width)

    queries, width = spec.tuned_on(spec.vectors(items)), min(_TIMED_WIDTH, count)
    both, scored = (Stopwatch(one, queries).microseconds(width, Effort(0, count)) / count for one in (read, score))
    return max(both - scored, 0.0), scored


def _times(calibration: Calibration | None, widths: np.ndarray) -> np.ndarray:
    """Returns `[T]` float32 microseconds of a search for so many candidates; infinite without measurements."""
    if calibration is None or not calibration.measurements:
        return np.full(len(widths), np.inf, np.float32)
    wide = np.array([one.width for one in calibration.measurements], np.float64)
    times = np.array([one.microseconds for one in calibration.measurements], np.float64)
    beyond = times[-1] * np.maximum(widths / wide[-1], 1)  # as the effort, it grows with the width
    return np.where(widths > wide[-1], beyond, np.interp(widths, wide, times)).astype(np.float32)
