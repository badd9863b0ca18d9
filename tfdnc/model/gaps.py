"""What the time between two events says: an embedding per power of two, in whatever unit the log counts time."""

from typing import Any

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.schema import UNKNOWN_TIME
from tfdnc.model.randomness import Stream

NUM_BUCKETS = 65
"""Unknown, 0, and one for each power of two that int64 holds."""

_FIELDS = np.arange(1 << 12)  # a sign, and the exponent of 2^n as n + 1023; that of 0 is 0
BUCKET_OF_FIELD = np.where(_FIELDS >> 11, 0, np.clip(_FIELDS - 1021, 1, NUM_BUCKETS - 1)).astype(np.int32)
"""Bucket of every `gap_fields`."""


class GapEmbedding(keras.layers.Layer):
    """Elapsed time `[B, L]` int64 -> `[B, L, D]`: one row for unknown, one for 0, one for each 2^n <= gap < 2^(n + 1).

    Added to the token of an item, it says how long after it the next event came, or comes: for the last item of a
    history that is the request. HSTU (Zhai et al. 2024) lets attention see the same times, the request's included.
    """

    def __init__(self, dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        self._rows = self.add_weight(
            name="rows", shape=[NUM_BUCKETS, dim], initializer=keras.initializers.RandomNormal(0, 0.02)
        )

    def call(self, elapsed: tf.Tensor) -> tf.Tensor:
        """`[B, L]` -> `[B, L, D]`; anything below 0 is unknown."""
        return tf.gather(tf.convert_to_tensor(self._rows), gap_buckets(elapsed))


def gap_fields(elapsed: tf.Tensor) -> tf.Tensor:
    """Elapsed time int64 of any shape -> int64 0 .. len(BUCKET_OF_FIELD) - 1, the same for times of the same bucket."""
    # The sign and the exponent of a float64, read from its bits: the same on every machine, which a logarithm is not,
    # and the fewest passes over a time for every pair of positions. From 2^53 on times are rounded, and one that is
    # within 2^-54 of the next power of two counts as that.
    bits = tf.bitcast(tf.cast(elapsed, tf.float64), tf.uint64)
    return tf.bitcast(tf.bitwise.right_shift(bits, 52), tf.int64)


def gap_buckets(elapsed: tf.Tensor) -> tf.Tensor:
    """Elapsed time int64 of any shape -> int32: 0 for unknown, 1 for 0, n + 2 for 2^n <= elapsed < 2^(n + 1)."""
    return tf.gather(BUCKET_OF_FIELD, gap_fields(elapsed))


def hide_times(elapsed: tf.Tensor, share: float, stream: Stream | None) -> tf.Tensor:
    """Makes all times of a share of the rows `[B, L]` unknown; without a stream hides nothing."""
    if stream is None or share == 0:
        return elapsed
    drawn = tf.random.stateless_uniform([tf.shape(elapsed)[0], 1], stream.seed)
    return tf.where(drawn < share, tf.constant(UNKNOWN_TIME, elapsed.dtype), elapsed)
