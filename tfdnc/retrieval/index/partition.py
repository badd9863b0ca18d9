"""Estimates clusters' log-partitions where the index does not see all of a cluster."""

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.index.interests import best_scores
from tfdnc.retrieval.index.searcher import ClusterSpec
from tfdnc.retrieval.merge import Candidates

SAMPLE_SIZE = 1024
"""Items scored to estimate the tail of a cluster, unless more are asked for."""

_UNIFORM = 0.3  # share of the draws that ignores the queries, so that no weight exceeds 1 / _UNIFORM times uniform's
_HEAD = 32  # items that a search finds at least; what it finds needs no sample


class PartitionEstimate(tf.Module):
    """Log of the sum of exp(score) per cluster: the found items exactly, the rest from a stored sample.

    The sample is drawn once, by how much an item adds to the tails of typical users: a uniform one has up to half as
    much error again. At request time a sampled item counts if its score is below all that were found.

    Args:
        items: `[N, D]` all items; the sampled are read now, later changes are not followed.
        specs: of the K clusters of the index.
        clusters: the C of them to be estimated, none of them empty.
        count: m, items sampled from each; a cluster that is no larger gets its exact partition.
    """

    def __init__(self, items: tf.Tensor | tf.Variable, specs: list[ClusterSpec], clusters: list[int], count: int):
        super().__init__()
        self._clusters, self._num_clusters = clusters, len(specs)
        specs = [specs[k] for k in clusters]
        drawn = [_draw(spec.vectors(items), spec, count) for spec in specs]
        self._vectors = tf.Variable(np.stack([vectors for vectors, _ in drawn]), trainable=False, name="sample")
        self._weights = tf.Variable(np.stack([weights for _, weights in drawn]), trainable=False, name="weights")
        self._whole = tf.constant([spec.size <= count for spec in specs])[:, None]  # [C, 1]

    def __call__(self, queries: list[tf.Tensor], found: Candidates) -> tf.Tensor:
        """Estimates the log-partitions of B users.

        Args:
            queries: per cluster of the index those that search it: `[B, I, D]`.
            found: what was found in all of them, seen items included.

        Returns:
            `[C, B]` float32.
        """
        # One product per cluster: half as dear as one batched product, for a single user.
        samples = tf.unstack(self._vectors)
        searching = [queries[k] for k in self._clusters]
        scores = tf.stack([best_scores(*pair) for pair in zip(searching, samples, strict=True)])  # [C, B, m]
        columns, owners, count = tf.transpose(found.scores), found.clusters, self._num_clusters  # [W of all, B]
        there = columns > float("-inf")  # not NaN
        lowest = tf.math.unsorted_segment_min(tf.where(there, columns, float("inf")), owners, count)
        best = tf.math.unsorted_segment_max(tf.where(there, columns, tf.float32.min), owners, count)
        terms = tf.where(there, tf.exp(columns - tf.gather(best, owners)), 0.0)
        head = tf.math.unsorted_segment_sum(terms, owners, count)  # [K, B], in units of exp(best)
        head, best, lowest = (tf.gather(column, self._clusters) for column in (head, best, lowest))  # [C, B]
        # A cluster that is sampled whole needs no head, and its sample no bound.
        lowest = tf.where(self._whole, float("inf"), lowest)
        highest = tf.maximum(best, tf.reduce_max(scores, axis=2))
        tail = tf.exp(scores - highest[:, :, None]) * tf.cast(scores < lowest[:, :, None], tf.float32)
        tail = tf.reduce_sum(tail * self._weights[:, None], axis=2)
        head = tf.where(self._whole, 0.0, head * tf.exp(best - highest))
        return tf.math.log(head + tail) + highest


def _draw(vectors, spec, count):
    """`[m, D]` sampled items, and how many items of the cluster each stands for."""
    items, size = vectors.numpy(), spec.size
    if size <= count:
        missing = count - size
        return np.pad(items, [[0, missing], [0, 0]]), np.repeat(np.float32([1, 0]), [size, missing])
    share = _UNIFORM / size + (1 - _UNIFORM) * _tail_shares(items, spec.tuned_on(vectors))
    rng = np.random.default_rng(spec.start)
    # Systematic: evenly spaced marks over the items in random order, so that no item is drawn much more often than due.
    order = rng.permutation(size)
    marks = (np.arange(count) + rng.random()) / count
    drawn = order[np.minimum(np.searchsorted(np.cumsum(share[order]), marks), size - 1)]
    return items[drawn], (1 / (count * share[drawn])).astype(np.float32)


def _tail_shares(items, queries):
    """`[n]` how much of the queries' partitions each item is, were the best ones no better than the head's last."""
    total = np.zeros(len(items))
    for interests in queries:
        scores = (items @ interests.T).max(axis=1).astype(np.float64)
        bound = np.partition(scores, -_HEAD)[-_HEAD]
        shares = np.exp(np.minimum(scores - bound, 0))
        total += shares / shares.sum()
    return total / len(queries)
