"""Dropout with a mask from a random stream, so that a resumed training draws the masks of an uninterrupted one."""

from tfdnc.backend import tf
from tfdnc.model.randomness import Stream


def stateless_dropout(x: tf.Tensor, rate: float, stream: Stream | None) -> tf.Tensor:
    """Zeroes each element of `x` with probability `rate` and scales the rest by 1 / (1 - rate).

    One random byte decides an element, which is four times cheaper than one random float. The rate is therefore rounded
    to a multiple of 1/256, and the scale uses the rounded rate.

    Args:
        x: tensor of any shape.
        rate: probability of zeroing, in [0, 1).
        stream: for this mask; None returns `x` unchanged.
    """
    threshold = round(rate * 256)
    if stream is None or threshold == 0:
        return x
    size = tf.size(x)
    words = tf.random.stateless_uniform([(size + 3) // 4], stream.seed, minval=None, maxval=None, dtype=tf.int32)
    random_bytes = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size]
    keep = tf.cast(random_bytes >= tf.constant(threshold, tf.uint8), x.dtype) * (256.0 / (256 - threshold))
    return x * tf.reshape(keep, tf.shape(x))
