"""Encoded part of a request: the last known items of every row, and the other inputs that the model reads."""

from collections.abc import Callable, Mapping, Sequence

from tfdnc.backend import tf
from tfdnc.contracts.features import Feature, Of
from tfdnc.contracts.schema import UNKNOWN_TIME

NumbersOf = Callable[[Feature, tf.Tensor], tf.Tensor]
"""Input and its values in a request, of any shape -> values as windows have them."""


def recent_inputs(
    items: tf.Tensor,
    max_length: int,
    features: Sequence[Feature],
    given: Mapping[str, tf.Tensor],
    numbers_of: NumbersOf,
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Reads a request as training reads a window.

    Args:
        items: `[B, L]` int32 item indices, oldest first, 0 anywhere (padding, unknown ids).
        max_length: most items of a row that are kept.
        features: inputs that the model reads.
        given: the tensors of their `request_rows` by name.
        numbers_of: values of requests -> those of windows, see `value_numbers`.

    Returns:
        `[B, W]` items as `last_items` gives them, and every input by its key: `[B, W]`, or `[B, 1]` of users.
    """
    rows = {row.name: (row, feature) for feature in features for row in feature.request_rows}
    tensors = {name: numbers_of(feature, given[name]) for name, (_, feature) in rows.items()}
    width = tf.shape(items)[1]
    per_event = [name for name, (row, _) in rows.items() if row.of_events]
    beside = [widen(tensors[name], width, rows[name][1].form.unknown) for name in per_event]
    recent, *moved = last_items(items, max_length, *beside)
    tensors |= dict(zip(per_event, moved, strict=True))
    return recent, {feature.key: _of_window(feature, recent, tensors) for feature in features}


def _of_window(feature: Feature, items: tf.Tensor, tensors: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Returns the values of an input that a window of these items `[B, W]` reads."""
    own = [tensors[row.name] for row in feature.request_rows]
    if feature.of is Of.USER:
        return own[0][:, None]
    if feature.of is Of.REQUEST:
        return following(items, tensors[feature.history_row.name], own[0])
    return elapsed_times(items, *own) if feature.form.relative else own[0]


def last_items(items: tf.Tensor, max_length: int, *others: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Moves the items of every row to the left and keeps the last `max_length`, as wide as the longest row needs.

    Args:
        items: `[B, L]` int32 item indices, oldest first, 0 anywhere (padding, unknown ids).
        max_length: most items of a row that are kept.
        others: `[B, L]` values beside each item, or `[B, L, X]`.

    Returns:
        `[B, W]` int32, right-padded with 0, 1 <= W <= max_length, and the same of the others.
    """
    known = items > 0
    count = tf.reduce_sum(tf.cast(known, tf.int32), axis=1, keepdims=True)
    column = tf.cumsum(tf.cast(known, tf.int32), axis=1) - 1 - tf.maximum(count - max_length, 0)
    where = tf.where(known & (column >= 0))  # [P, 2]
    target = tf.stack([tf.cast(where[:, 0], tf.int32), tf.gather_nd(column, where)], axis=1)
    width = tf.clip_by_value(tf.reduce_max(count), 1, max_length)

    def moved(values: tf.Tensor) -> tf.Tensor:
        # A stack of numbers, so that TensorFlow's optimiser knows the rank: it complains about attention without one.
        further = [tf.shape(values)[axis] for axis in range(2, values.shape.rank)]
        shape = tf.stack([tf.shape(items)[0], width, *further])
        return tf.scatter_nd(target, tf.gather_nd(values, where), shape)

    return tuple(moved(values) for values in (items, *others))


def widen(values: tf.Tensor, width: tf.Tensor, unknown: float) -> tf.Tensor:
    """`[B, T]` -> `[B, width]`: first columns, `unknown` in missing ones. `[B, T, X]` -> `[B, width, X + 1]`."""
    missing = tf.maximum(width - tf.shape(values)[1], 0)
    # One more in a third dimension: a request may have none, and TensorFlow gathers nothing from an empty tensor.
    paddings = [[0, 0], [0, missing], *[[0, 1]] * (values.shape.rank - 2)]
    return tf.pad(values[:, :width], paddings, constant_values=tf.constant(unknown, values.dtype))


def following(items: tf.Tensor, values: tf.Tensor, of_request: tf.Tensor) -> tf.Tensor:
    """Returns the value of the item after every item, and that of the request after the last one.

    Args:
        items: `[B, W]` right-padded with 0.
        values: `[B, W]` of the items.
        of_request: `[B]`.
    """
    last = tf.reduce_sum(tf.cast(items > 0, tf.int32), axis=1, keepdims=True) - 1
    shifted = tf.pad(values[:, 1:], [[0, 0], [0, 1]])
    return tf.where(tf.range(tf.shape(items)[1]) == last, of_request[:, None], shifted)


def elapsed_times(items: tf.Tensor, times: tf.Tensor, request_time: tf.Tensor) -> tf.Tensor:
    """Returns the time elapsed from every item to the next one, and from the last to the request.

    Args:
        items: `[B, W]` right-padded with 0.
        times: `[B, W]` int64 of the items, from 0 up, or `UNKNOWN_TIME`.
        request_time: `[B]` int64, likewise.

    Returns:
        `[B, W]` int64, `UNKNOWN_TIME` where one of the two times is unknown, 0 where the later one is smaller.
    """
    later = following(items, times, request_time)
    return tf.where((times >= 0) & (later >= 0), tf.maximum(later - times, 0), UNKNOWN_TIME)
