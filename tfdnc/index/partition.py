"""Estimates clusters' log-partitions where the index does not see all of a cluster."""

from typing import TYPE_CHECKING

import numpy as np

from tfdnc.backend import tf
from tfdnc.index.interests import best_scores
from tfdnc.index.users import queries_near

if TYPE_CHECKING:  # base builds the estimate
    from tfdnc.index.base import ClusterSpec

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
        specs: C clusters, none of them empty.
        count: m, items sampled from each; a cluster that is no larger gets its exact partition.
    """

    def __init__(self, items: tf.Tensor | tf.Variable, specs: list["ClusterSpec"], count: int):
        super().__init__()
        matrix = tf.convert_to_tensor(items)
        drawn = [_draw(matrix[spec.start : spec.start + spec.size].numpy(), spec, count) for spec in specs]
        self._vectors = tf.Variable(np.stack([vectors for vectors, _ in drawn]), trainable=False, name="sample")
        self._log_weights = tf.Variable(np.stack([weights for _, weights in drawn]), trainable=False, name="weights")
        self._whole = tf.constant([spec.size <= count for spec in specs])[:, None]  # [C, 1]

    def __call__(self, queries: list[tf.Tensor], found: list[tf.Tensor]) -> tf.Tensor:
        """Estimates the log-partitions of B users.

        Args:
            queries: per cluster those that search it: `[B, I, D]`.
            found: per cluster the `[B, W]` scores of what was found, best first; NaN where nothing was.

        Returns:
            `[C, B]` float32.
        """
        # One product per cluster: half as dear as one batched product, for a single user.
        samples = tf.unstack(self._vectors)
        scores = tf.stack([best_scores(*pair) for pair in zip(queries, samples, strict=True)])  # [C, B, m]
        head, lowest = self._head(found)
        weighted = tf.where(scores < lowest[:, :, None], scores + self._log_weights[:, None], float("-inf"))
        tail = tf.reduce_logsumexp(weighted, axis=2)
        return tf.reduce_logsumexp(tf.stack([head, tail]), axis=0)

    def _head(self, found):
        """`[C, B]` log of the sum of exp(score) of what was found, and the lowest of its scores."""
        batch, count = tf.shape(found[0])[0], len(found)
        cluster = tf.repeat(tf.range(count), tf.stack([tf.shape(scores)[1] for scores in found]))
        columns = tf.transpose(tf.concat(found, axis=1))  # [W of all, B]
        there = ~tf.math.is_nan(columns)
        lowest = tf.math.unsorted_segment_min(tf.where(there, columns, float("inf")), cluster, count)
        best = tf.math.unsorted_segment_max(tf.where(there, columns, tf.float32.min), cluster, count)
        terms = tf.where(there, tf.exp(columns - tf.gather(best, cluster)), 0.0)
        head = tf.math.log(tf.math.unsorted_segment_sum(terms, cluster, count)) + best
        # A cluster that is sampled whole needs no head, and its sample no bound.
        nothing = tf.fill([count, batch], float("-inf"))
        return tf.where(self._whole, nothing, head), tf.where(self._whole, -nothing, lowest)


def _draw(items, spec, count):
    """`[m, D]` sampled items, and the log of how many items of the cluster each stands for."""
    size = len(items)
    if size <= count:
        missing = count - size
        return np.pad(items, [[0, missing], [0, 0]]), np.repeat(np.float32([0, -np.inf]), [size, missing])
    queries = queries_near(items) if spec.queries is None else spec.queries
    share = _UNIFORM / size + (1 - _UNIFORM) * _tail_shares(items, queries)
    rng = np.random.default_rng(spec.start)
    # Systematic: evenly spaced marks over the items in random order, so that no item is drawn much more often than due.
    order = rng.permutation(size)
    marks = (np.arange(count) + rng.random()) / count
    drawn = order[np.minimum(np.searchsorted(np.cumsum(share[order]), marks), size - 1)]
    return items[drawn], -np.log(count * share[drawn]).astype(np.float32)


def _tail_shares(items, queries):
    """`[n]` how much of the queries' partitions each item is, were the best ones no better than the head's last."""
    total = np.zeros(len(items))
    for interests in queries:
        scores = (items @ interests.T).max(axis=1).astype(np.float64)
        bound = np.partition(scores, -_HEAD)[-_HEAD]
        shares = np.exp(np.minimum(scores - bound, 0))
        total += shares / shares.sum()
    return total / len(queries)
