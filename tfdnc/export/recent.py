"""What of a request's history is encoded: the last known items of every row, and the time that went by after each."""

from tfdnc.backend import tf
from tfdnc.contracts.schema import UNKNOWN_TIME


def last_items(items: tf.Tensor, max_length: int, *others: tf.Tensor) -> tf.Tensor | tuple[tf.Tensor, ...]:
    """Moves the items of every row to the left and keeps the last `max_length`, as wide as the longest row needs.

    Args:
        items: `[B, L]` int32 item indices, oldest first, 0 anywhere (padding, unknown ids).
        max_length: most items of a row that are kept.
        others: `[B, L]` what else is known of each item.

    Returns:
        `[B, W]` int32, right-padded with 0, 1 <= W <= max_length; where there are others, the same of them too.
    """
    known = items > 0
    count = tf.reduce_sum(tf.cast(known, tf.int32), axis=1, keepdims=True)
    place = tf.cumsum(tf.cast(known, tf.int32), axis=1) - 1 - tf.maximum(count - max_length, 0)
    where = tf.where(known & (place >= 0))  # [P, 2]
    target = tf.stack([tf.cast(where[:, 0], tf.int32), tf.gather_nd(place, where)], axis=1)
    width = tf.clip_by_value(tf.reduce_max(count), 1, max_length)
    shape = tf.stack([tf.shape(items)[0], width])
    moved = tuple(tf.scatter_nd(target, tf.gather_nd(values, where), shape) for values in (items, *others))
    return moved if others else moved[0]


def widen_times(times: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """`[B, T]` -> `[B, width]` int64: the first columns, `UNKNOWN_TIME` where there are no more."""
    missing = tf.maximum(width - tf.shape(times)[1], 0)
    return tf.pad(times[:, :width], [[0, 0], [0, missing]], constant_values=UNKNOWN_TIME)


def elapsed_times(items: tf.Tensor, times: tf.Tensor, request_time: tf.Tensor) -> tf.Tensor:
    """Time from every item to the next one, and from the last to the request.

    Args:
        items: `[B, W]` right-padded with 0.
        times: `[B, W]` int64 of the items, from 0 up, or `UNKNOWN_TIME`.
        request_time: `[B]` int64, likewise.

    Returns:
        `[B, W]` int64, `UNKNOWN_TIME` where one of both is, 0 where the clock went backwards.
    """
    last = tf.reduce_sum(tf.cast(items > 0, tf.int32), axis=1, keepdims=True) - 1
    following = tf.pad(times[:, 1:], [[0, 0], [0, 1]])
    following = tf.where(tf.range(tf.shape(items)[1]) == last, request_time[:, None], following)
    return tf.where((times >= 0) & (following >= 0), tf.maximum(following - times, 0), UNKNOWN_TIME)
