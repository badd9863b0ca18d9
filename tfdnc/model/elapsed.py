"""Embedding of elapsed time, the time from one event to the next: one row per power of two of the log's unit."""

from typing import Any

import numpy as np

from tfdnc.backend import keras, tf

NUM_BUCKETS = 65
"""Unknown, 0, and one for each power of two that int64 holds."""

_FIELDS = np.arange(1 << 12)  # a sign, and the exponent of 2^n as n + 1023; that of 0 is 0
BUCKET_OF_FIELD = np.where(_FIELDS >> 11, 0, np.clip(_FIELDS - 1021, 1, NUM_BUCKETS - 1)).astype(np.int32)
"""Bucket of every value of `elapsed_fields`."""


class ElapsedEmbedding(keras.layers.Layer):
    """Elapsed time `[B, L]` int64 -> `[B, L, D]`: rows for unknown, for 0, and for each 2^n <= elapsed < 2^(n + 1).

    Added to the token of an item, it gives the time to the next event; after the last item that is the request. HSTU
    (Zhai et al. 2024) lets attention read the same times, that of the request included.
    """

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rows = self.add_weight(
            name="rows", shape=[NUM_BUCKETS, dim], initializer=keras.initializers.RandomNormal(0, 0.02)
        )

    def call(self, elapsed: tf.Tensor) -> tf.Tensor:
        """`[B, L]` -> `[B, L, D]`; anything below 0 is unknown."""
        return tf.gather(tf.convert_to_tensor(self._rows), elapsed_buckets(elapsed))


def elapsed_fields(elapsed: tf.Tensor) -> tf.Tensor:
    """Elapsed time int64 of any shape -> int64 0 .. len(BUCKET_OF_FIELD) - 1, one value or several per bucket."""
    # Sign and exponent are read from the bits of a float64: unlike a logarithm, they are the same on every machine.
    # It is also the fewest operations on a time for every pair of positions. From 2^53 on times are rounded: one that
    # is within 2^-54 of the next power of two counts as that power.
    bits = tf.bitcast(tf.cast(elapsed, tf.float64), tf.uint64)
    return tf.bitcast(tf.bitwise.right_shift(bits, 52), tf.int64)


def elapsed_buckets(elapsed: tf.Tensor) -> tf.Tensor:
    """Elapsed time int64 of any shape -> int32: 0 for unknown, 1 for 0, n + 2 for 2^n <= elapsed < 2^(n + 1)."""
    return tf.gather(BUCKET_OF_FIELD, elapsed_fields(elapsed))
