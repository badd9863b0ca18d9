"""Estimates of the log-partitions of clusters whose searchers do not score all items."""

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.index.interests import best_scores
from tfdnc.retrieval.index.searcher import ClusterSpec
from tfdnc.retrieval.merge import Candidates

SAMPLE_SIZE = 1024
"""Number of items scored to estimate the tail of a cluster, unless `enlarge_samples` asks for more."""

_UNIFORM = 0.3  # share of uniform draws, so that no weight exceeds 1 / _UNIFORM times that of a uniform sample
_HEAD = 32  # items that a search finds at least; found items are not estimated from the sample


class PartitionEstimate(tf.Module):
    """Log of the sum of exp(score) per cluster: the found items exactly, the rest from a stored sample.

    The sample is drawn once, by the contribution of an item to the tails of typical users; a uniform sample has up to
    1.5 times its error. At request time a sampled item counts if its score is below all found scores.

    Args:
        items: `[N, D]` all items; the sampled ones are copied now, and do not change later.
        specs: specs of the K clusters of the index.
        clusters: numbers of the C clusters to be estimated, none of them empty.
        count: m, number of items sampled from each; a cluster of at most m items gets its exact partition.
    """

    def __init__(
        self, items: tf.Tensor | tf.Variable, specs: list[ClusterSpec], clusters: list[int], count: int
    ) -> None:
        super().__init__()
        self._clusters, self._num_clusters = clusters, len(specs)
        estimated = [specs[k] for k in clusters]
        drawn = [_draw(spec.vectors(items), spec, count) for spec in estimated]
        self._vectors = tf.Variable(np.stack([vectors for vectors, _ in drawn]), trainable=False, name="sample")
        self._weights = tf.Variable(np.stack([weights for _, weights in drawn]), trainable=False, name="weights")
        self._whole = tf.constant([spec.size <= count for spec in estimated])[:, None]  # [C, 1]

    def __call__(self, queries: list[tf.Tensor], found: Candidates) -> tf.Tensor:
        """Estimates the log-partitions of B users.

        Args:
            queries: per cluster of the index the queries that search it: `[B, I, D]`.
            found: candidates of all clusters, seen items included.

        Returns:
            `[C, B]` float32.
        """
        # For a single user, one product per cluster takes half the time of one batched product.
        samples = tf.unstack(self._vectors)
        searching = [queries[k] for k in self._clusters]
        scores = tf.stack([best_scores(*pair) for pair in zip(searching, samples, strict=True)])  # [C, B, m]
        columns, owners, count = tf.transpose(found.scores), found.clusters, self._num_clusters  # [W of all, B]
        available = columns > float("-inf")  # False for NaN too
        lowest = tf.math.unsorted_segment_min(tf.where(available, columns, float("inf")), owners, count)
        best = tf.math.unsorted_segment_max(tf.where(available, columns, tf.float32.min), owners, count)
        terms = tf.where(available, tf.exp(columns - tf.gather(best, owners)), 0.0)
        head = tf.math.unsorted_segment_sum(terms, owners, count)  # [K, B], in units of exp(best)
        head, best, lowest = (tf.gather(column, self._clusters) for column in (head, best, lowest))  # [C, B]
        # The sample of a small cluster has all its items: it needs no head, and no bound on the scores.
        lowest = tf.where(self._whole, float("inf"), lowest)
        highest = tf.maximum(best, tf.reduce_max(scores, axis=2))
        tail = tf.exp(scores - highest[:, :, None]) * tf.cast(scores < lowest[:, :, None], tf.float32)
        tail = tf.reduce_sum(tail * self._weights[:, None], axis=2)
        head = tf.where(self._whole, 0.0, head * tf.exp(best - highest))
        return tf.math.log(head + tail) + highest


def _draw(vectors: tf.Tensor, spec: ClusterSpec, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[m, D]` sampled items, and the `[m]` numbers of items of the cluster that each represents."""
    items, size = np.asarray(vectors), spec.size  # not `numpy()`, which copies
    if size <= count:
        missing = count - size
        return np.pad(items, [[0, missing], [0, 0]]), np.repeat(np.array([1, 0], np.float32), [size, missing])
    share = _UNIFORM / size + (1 - _UNIFORM) * _tail_shares(items, spec.tuned_on(vectors))
    rng = np.random.default_rng(spec.start)
    # Systematic sampling, by evenly spaced marks over the items in random order: it draws no item far too often.
    order = rng.permutation(size)
    marks = (np.arange(count) + rng.random()) / count
    drawn = order[np.minimum(np.searchsorted(np.cumsum(share[order]), marks), size - 1)]
    return items[drawn], (1 / (count * share[drawn])).astype(np.float32)


def _tail_shares(items: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Returns `[n]` mean shares of items in the queries' partitions, with scores cut off at the head's last."""
    total = np.zeros(len(items))
    for interests in queries:
        scores = (items @ interests.T).max(axis=1).astype(np.float64)
        bound = np.partition(scores, -_HEAD)[-_HEAD]
        shares = np.exp(np.minimum(scores - bound, 0))
        total += shares / shares.sum()
    return total / len(queries)
