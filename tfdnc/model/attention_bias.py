"""Learned biases of attention logits, by the distance of two positions and by the time elapsed between them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tfdnc.backend import keras, tf
from tfdnc.model.elapsed import BUCKET_OF_FIELD, NUM_BUCKETS, elapsed_fields


class PositionTimes(NamedTuple):
    """Times of each position since the start of the row: of its event as a key, and of its query.

    The query of a position is at the time of the next event, or of the request.
    """

    event: tf.Tensor  # [B, P] int64, later than every query where a time of the row is unknown
    query: tf.Tensor  # [B, P] int64

    @classmethod
    def of(cls, elapsed: tf.Tensor) -> "PositionTimes":
        """Returns the times, given the time elapsed `[B, P]` from each position to the next."""
        query, known = tf.cumsum(elapsed, axis=1), tf.reduce_all(elapsed >= 0, axis=1, keepdims=True)
        return cls(tf.where(known, query - elapsed, 2**62), query)

    def elapsed_of_pairs(self, query: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Returns the time elapsed from keys `[1, L]` to queries `[B | 1, Q]`: `[B, Q, L]`, below 0: unknown."""
        return self._at(self.query, query)[:, :, None] - self._at(self.event, key)[:, None]

    def elapsed_of_own(self, query: tf.Tensor) -> tf.Tensor:
        """Returns the time elapsed from the event of positions `[B | 1, Q]` to their query: `[B, Q]`, as of pairs."""
        return self._at(self.query, query) - self._at(self.event, query)

    def _at(self, times: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        batch = tf.shape(times)[0]
        return tf.gather(times, tf.broadcast_to(positions, [batch, tf.shape(positions)[1]]), batch_dims=1)


class BiasTable(keras.layers.Layer):
    """Learned bias of attention logits by a number: `[B, Q, L]` int -> `[B, H, Q, L]`."""

    def __init__(self, rows: int, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rows = self.add_weight(name="rows", shape=[rows, heads], initializer="zeros")

    def call(self, numbers: tf.Tensor) -> tf.Tensor:
        """Returns the bias of every head for numbers 0 .. rows - 1."""
        return _look_up(tf.convert_to_tensor(self._rows), numbers)


class ElapsedBias(BiasTable):
    """Learned bias of attention logits by elapsed time: `[B, Q, L]` int64, below 0 unknown -> `[B, H, Q, L]`."""

    def __init__(self, heads: int, **kwargs: Any) -> None:
        super().__init__(NUM_BUCKETS, heads, **kwargs)

    def call(self, elapsed: tf.Tensor) -> tf.Tensor:
        """Returns the bias of every head for the buckets of elapsed times."""
        # Expands the table to a row per field. Mapping each pair to its bucket would cost more: pairs are the largest
        # tensor of a Transformer.
        return _look_up(tf.gather(tf.convert_to_tensor(self._rows), BUCKET_OF_FIELD), elapsed_fields(elapsed))


@tf.custom_gradient
def _look_up(rows: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, None]]]:
    """Rows `[R, H]` of numbers `[B, Q, L]` as `[B, H, Q, L]`."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        # Sums by number, in one row and so always in the same order. The gradient of tf.gather takes six times as long.
        flat, size = tf.reshape(numbers, [1, -1]), tf.cast(tf.shape(rows)[0], numbers.dtype)
        sums = [
            tf.raw_ops.DenseBincount(input=flat, size=size, weights=tf.reshape(of_head, [1, -1]))[0]
            for of_head in tf.unstack(upstream, axis=1)
        ]
        return tf.stack(sums, axis=1), None

    return tf.transpose(tf.gather(rows, numbers), [0, 3, 1, 2]), gradient
