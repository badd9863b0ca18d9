"""Estimates a cluster's log-partition where the index does not see all of the cluster."""

import numpy as np

from tfdnc.backend import tf
from tfdnc.index.base import ClusterSpec
from tfdnc.index.interests import best_scores

SAMPLE_SIZE = 1024
"""Items scored to estimate the tail; a cluster that is no larger gets its exact partition."""


class PartitionEstimate(tf.Module):
    """Log of the sum of exp(score): the found items exactly, the rest from a uniform sample of the cluster.

    With F the found items and S a sample drawn without replacement, the sum over the n - |F| others is
    (n - |F|) times the mean over S without F. The joint merge divides by this sum; what is found carries most of it.

    Args:
        items: `[N, D]` all items.
        spec: which of them are the cluster's.
    """

    def __init__(self, items: tf.Tensor | tf.Variable, spec: ClusterSpec):
        super().__init__()
        self._items = items
        self._start, self._size = spec.start, spec.size
        drawn = np.random.default_rng(spec.start).choice(
            spec.size, size=min(spec.size, SAMPLE_SIZE), replace=False, shuffle=False
        )
        self._sample = tf.Variable(np.sort(drawn).astype(np.int32), trainable=False, name="sample")

    def __call__(self, queries: tf.Tensor, scores: tf.Tensor, rows: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        """Estimates the log-partition of every user.

        Args:
            queries: `[B, I, D]`.
            scores: `[B, W]` scores of the found items.
            rows: `[B, W]` int32 their rows inside the cluster, distinct in each row where `found`.
            found: `[B, W]` bool, False for padding.

        Returns:
            `[B]` float32.
        """
        sample = tf.convert_to_tensor(self._sample)  # [m], ascending
        # From the value: a gather on the variable itself makes every later read of it a copy.
        vectors = tf.gather(tf.convert_to_tensor(self._items), self._start + sample)
        sample_scores = best_scores(queries, vectors)  # [B, m]
        sample_scores = tf.tensor_scatter_nd_update(sample_scores, *self._found_in_sample(sample, rows, found))
        num_found = tf.reduce_sum(tf.cast(found, tf.float32), axis=1)
        num_sampled = tf.reduce_sum(tf.cast(sample_scores > float("-inf"), tf.float32), axis=1)
        # log 0 = -inf drops the tail when everything was found; 0 / 0 counts as 0.
        weight = tf.math.log(tf.math.divide_no_nan(self._size - num_found, num_sampled))
        tail = weight + tf.reduce_logsumexp(sample_scores, axis=1)
        head = tf.reduce_logsumexp(tf.where(found, scores, float("-inf")), axis=1)
        return tf.reduce_logsumexp(tf.stack([head, tail]), axis=0)

    def _found_in_sample(self, sample, rows, found):
        """Places `[P, 2]` in the `[B, m]` sample scores that were found, and a -inf for each."""
        place = tf.searchsorted(sample, tf.reshape(rows, [-1]))
        place = tf.reshape(tf.minimum(place, tf.shape(sample)[0] - 1), tf.shape(rows))
        where = tf.where(found & (tf.gather(sample, place) == rows))  # [P, 2]
        places = tf.stack([where[:, 0], tf.cast(tf.gather_nd(place, where), tf.int64)], axis=1)
        return places, tf.fill(tf.shape(places)[:1], float("-inf"))
