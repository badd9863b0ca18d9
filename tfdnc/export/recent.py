"""Encoded part of a request: the last known items of every row, and the other inputs that the model reads."""

from collections.abc import Callable, Mapping, Sequence

from tfdnc.backend import tf
from tfdnc.contracts.bundle import PER_EVENT, Row
from tfdnc.contracts.features import Feature, Kind
from tfdnc.contracts.schema import UNKNOWN_TIME


def recent_inputs(
    items: tf.Tensor, max_length: int, features: Sequence[Feature], given: Mapping[str, tf.Tensor]
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Reads a request as training reads a window.

    Args:
        items: `[B, L]` int32 item indices, oldest first, 0 anywhere (padding, unknown ids).
        max_length: most items of a row that are kept.
        features: inputs that the model reads.
        given: the tensors of their `request_rows` by name.

    Returns:
        `[B, W]` items as `last_items` gives them, and the same of every input by its key.
    """
    rows = {row.name: row for feature in features for row in feature.request_rows}
    width = tf.shape(items)[1]
    beside = {name: widen(given[name], width, _unknown(row)) for name, row in rows.items() if row.shape == PER_EVENT}
    recent, *moved = last_items(items, max_length, *beside.values())
    tensors = {**given, **dict(zip(beside, moved, strict=True))}
    read = {
        feature.key: _READERS[feature.kind](recent, *(tensors[row.name] for row in feature.request_rows))
        for feature in features
    }
    return recent, read


def _unknown(row: Row) -> float:
    """The value of an input for columns that are missing."""
    if not isinstance(row.neutral, int | float):
        raise ValueError(f"Expected a number as the neutral value of {row.name}, got {row.neutral!r}.")
    return row.neutral


def last_items(items: tf.Tensor, max_length: int, *others: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Moves the items of every row to the left and keeps the last `max_length`, as wide as the longest row needs.

    Args:
        items: `[B, L]` int32 item indices, oldest first, 0 anywhere (padding, unknown ids).
        max_length: most items of a row that are kept.
        others: `[B, L]` values beside each item.

    Returns:
        `[B, W]` int32, right-padded with 0, 1 <= W <= max_length, and the same of the others.
    """
    known = items > 0
    count = tf.reduce_sum(tf.cast(known, tf.int32), axis=1, keepdims=True)
    column = tf.cumsum(tf.cast(known, tf.int32), axis=1) - 1 - tf.maximum(count - max_length, 0)
    where = tf.where(known & (column >= 0))  # [P, 2]
    target = tf.stack([tf.cast(where[:, 0], tf.int32), tf.gather_nd(column, where)], axis=1)
    width = tf.clip_by_value(tf.reduce_max(count), 1, max_length)
    shape = tf.stack([tf.shape(items)[0], width])
    return tuple(tf.scatter_nd(target, tf.gather_nd(values, where), shape) for values in (items, *others))


def widen(values: tf.Tensor, width: tf.Tensor, unknown: float) -> tf.Tensor:
    """`[B, T]` -> `[B, width]`: the first columns, and `unknown` in missing ones."""
    missing = tf.maximum(width - tf.shape(values)[1], 0)
    return tf.pad(values[:, :width], [[0, 0], [0, missing]], constant_values=tf.constant(unknown, values.dtype))


def elapsed_times(items: tf.Tensor, times: tf.Tensor, request_time: tf.Tensor) -> tf.Tensor:
    """Returns the time elapsed from every item to the next one, and from the last to the request.

    Args:
        items: `[B, W]` right-padded with 0.
        times: `[B, W]` int64 of the items, from 0 up, or `UNKNOWN_TIME`.
        request_time: `[B]` int64, likewise.

    Returns:
        `[B, W]` int64, `UNKNOWN_TIME` where one of the two times is unknown, 0 where the later one is smaller.
    """
    last = tf.reduce_sum(tf.cast(items > 0, tf.int32), axis=1, keepdims=True) - 1
    following = tf.pad(times[:, 1:], [[0, 0], [0, 1]])
    following = tf.where(tf.range(tf.shape(items)[1]) == last, request_time[:, None], following)
    return tf.where((times >= 0) & (following >= 0), tf.maximum(following - times, 0), UNKNOWN_TIME)


def own_values(items: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns the values of an input that needs no conversion, `[B, W]`."""
    del items
    return values


_READERS: dict[Kind, Callable[..., tf.Tensor]] = {Kind.TIME: elapsed_times, Kind.NUMBER: own_values}
"""By kind: items `[B, W]` and the tensors of the `request_rows` -> values that a window reads, `[B, W]`."""
