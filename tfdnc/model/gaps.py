"""What the time between two events says: an embedding per power of two, in whatever unit the log counts time."""

from tfdnc.backend import keras, tf
from tfdnc.model.losses.draws import SALT
from tfdnc.schema import UNKNOWN_TIME

NUM_BUCKETS = 65
"""Unknown, 0, and one for each power of two that int64 holds."""


class GapEmbedding(keras.layers.Layer):
    """Elapsed time `[B, L]` int64 -> `[B, L, D]`: one row for unknown, one for 0, one for each 2^n <= gap < 2^(n + 1).

    Added to the token of an item, it says how long after it the next event came, or comes: for the last item of a
    history that is the request. HSTU (Zhai et al. 2024) lets attention see the same times, the request's included.
    """

    def __init__(self, dim: int, **kwargs):
        super().__init__(**kwargs)
        self._rows = self.add_weight(
            name="rows", shape=[NUM_BUCKETS, dim], initializer=keras.initializers.RandomNormal(0, 0.02)
        )

    def call(self, elapsed: tf.Tensor) -> tf.Tensor:
        """`[B, L]` -> `[B, L, D]`; anything below 0 is unknown."""
        return tf.gather(tf.convert_to_tensor(self._rows), gap_buckets(elapsed))


def gap_buckets(elapsed: tf.Tensor) -> tf.Tensor:
    """Elapsed time int64 of any shape -> int32: 0 for unknown, 1 for 0, n + 2 for 2^n <= elapsed < 2^(n + 1)."""
    # The exponent of a float32, read from its bits: exact and the same on every machine, which a logarithm is not.
    # Without the bit below its highest one, no number is rounded up to the next power of two.
    known = tf.maximum(elapsed, 0)
    known = tf.bitwise.bitwise_and(known, tf.bitwise.invert(tf.bitwise.right_shift(known, 1)))
    bits = tf.bitcast(tf.cast(known, tf.float32), tf.int32)
    exponent = tf.bitwise.right_shift(bits, 23) - 127  # -127 of 0
    return tf.where(elapsed < 0, 0, tf.maximum(exponent, -1) + 2)


def hide_times(elapsed: tf.Tensor, share: float, seed: tf.Tensor | None) -> tf.Tensor:
    """Makes all times of a share of the rows `[B, L]` unknown; `seed` `[2]` int32, None hides nothing."""
    if seed is None or share == 0:
        return elapsed
    drawn = tf.random.stateless_uniform([tf.shape(elapsed)[0], 1], seed + tf.constant([0, SALT]))
    return tf.where(drawn < share, tf.constant(UNKNOWN_TIME, elapsed.dtype), elapsed)
