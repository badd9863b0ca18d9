"""Item vectors that are computed for single rows, so that a training step with item features costs what it reads."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfdnc.backend import tf
from tfdnc.model.randomness import Stream, hashed_uniforms


class ItemRows:
    """Item vectors `[N, D]` of which only single rows are computed; TensorFlow converts it to the matrix of all."""

    shape: tf.TensorShape

    def gather(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the vectors of rows, `[...]` int -> `[..., D]`."""
        raise NotImplementedError


class FeaturedRows(ItemRows):
    """Embeddings plus features of single items; a row that is read twice is computed once.

    Args:
        embeddings: `[N, D]`.
        feature_rows: `[F, D]`.
        splits: `[N + 1]` int64, features of item i are the entries splits[i] .. splits[i + 1] - 1.
        columns: `[E]` int64, feature of each entry.
        weights: `[E]` float32.
        known: `[N]` float32, 0 for items whose embedding is never read.
        hidden: share of the items whose embedding is left out.
        stream: decides which, the same ones in all gathers; None leaves none out.
        more: further shares of items in their vectors, each `[U]` int -> `[U, D]`.
    """

    def __init__(
        self,
        embeddings: tf.Variable,
        feature_rows: tf.Variable,
        splits: np.ndarray,
        columns: np.ndarray,
        weights: np.ndarray,
        known: np.ndarray,
        hidden: float,
        stream: Stream | None,
        more: Sequence[Callable[[tf.Tensor], tf.Tensor]] = (),
    ) -> None:
        self.shape = embeddings.shape
        self._embeddings, self._feature_rows = embeddings, feature_rows
        self._splits, self._columns, self._weights = splits, columns, weights
        self._known = known
        self._hidden, self._stream = hidden, stream
        self._more = more

    def gather(self, rows: tf.Tensor) -> tf.Tensor:
        """See `ItemRows`."""
        distinct, places = tf.unique(tf.reshape(rows, [-1]))
        known = tf.gather(tf.constant(self._known), distinct)
        if self._stream is not None and self._hidden > 0:
            drawn = hashed_uniforms(distinct, self._stream)
            known *= tf.cast(drawn >= self._hidden, tf.float32)
        vectors = tf.gather(self._embeddings, distinct) * known[:, None] + self._share(distinct)
        for share in self._more:
            vectors += share(distinct)
        return tf.reshape(tf.gather(vectors, places), tf.concat([tf.shape(rows), self.shape[1:]], axis=0))

    def _share(self, distinct: tf.Tensor) -> tf.Tensor:
        """Weighted sums of the features of items, `[U]` -> `[U, D]`."""
        splits = tf.constant(self._splits)
        starts = tf.gather(splits, distinct)
        entries = tf.ragged.range(starts, tf.gather(splits, distinct + 1))
        columns, weights = (tf.gather(tf.constant(one), entries.values) for one in (self._columns, self._weights))
        weighted = tf.gather(self._feature_rows, columns) * weights[:, None]
        return tf.math.unsorted_segment_sum(weighted, entries.value_rowids(), tf.size(distinct))


class SelectedRows(ItemRows):
    """Some items of a matrix of item vectors.

    Args:
        vectors: `[N, D]`, a variable or `ItemRows`.
        chosen: `[M]` int64, rows of it.
    """

    def __init__(self, vectors: "tf.Variable | ItemRows", chosen: np.ndarray) -> None:
        self.shape = tf.TensorShape([len(chosen), vectors.shape[1]])
        self._vectors, self._chosen = vectors, chosen

    def gather(self, rows: tf.Tensor) -> tf.Tensor:
        """See `ItemRows`."""
        return gather_rows(self._vectors, tf.gather(tf.constant(self._chosen), rows))


def gather_rows(vectors: "tf.Tensor | ItemRows", rows: tf.Tensor) -> tf.Tensor:
    """Returns rows of item vectors, `[N, D]`, `[...]` int -> `[..., D]`."""
    return vectors.gather(rows) if isinstance(vectors, ItemRows) else tf.gather(vectors, rows)


def is_by_row(vectors: "tf.Tensor | ItemRows") -> bool:
    """True for item vectors that have to be read by `gather_rows`: of a variable, or computed by row."""
    return isinstance(vectors, ItemRows | tf.Variable)


def _whole(vectors: ItemRows, dtype: Any = None, name: str | None = None, as_ref: bool = False) -> tf.Tensor:
    """Matrix of all rows, for `tf.convert_to_tensor`."""
    del dtype, name, as_ref
    return vectors.gather(tf.range(vectors.shape[0]))


tf.register_tensor_conversion_function(ItemRows, _whole)
