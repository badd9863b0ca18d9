"""Content vectors of items in a model: held once in memory, filled from a memory map, and projected to item vectors."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.items import ItemTable, forget

_ROWS = 4096  # copied at a time; each may lie on pages of its own
_ALIGNMENT = 64  # bytes


@dataclass(frozen=True)
class Content:
    """Vectors of one feature of kind `vector`, those of N items.

    Attributes:
        name: of the feature.
        vectors: `[N, C]` float32, 0 for an item without one.
        known: `[N]` bool, the items with a vector.
        mean: `[C]` mean over the trained items with a vector.
        scale: root of the mean squared distance from it.
    """

    name: str
    vectors: tf.Tensor
    known: np.ndarray
    mean: np.ndarray
    scale: float


def content_of(items: ItemTable) -> list[Content]:
    """Returns the content vectors of an item table, in the order of its items.

    Each is read from its memory map part by part, so that it is in memory once.
    """
    return [_content(name, vectors, items) for name, vectors in (items.vectors or {}).items()]


def _content(name: str, vectors: np.ndarray, items: ItemTable) -> Content:
    num_items, size = len(items.counts), vectors.shape[1]
    filled = _aligned(num_items, size)
    known, trained = np.zeros(num_items, bool), np.asarray(items.counts) > 0
    number, total, squares = 0, np.zeros(size), 0.0
    for start in range(0, num_items, _ROWS):
        part = np.asarray(vectors[items.sequence_indices[start : start + _ROWS] - 1])
        there = ~np.isnan(part).any(axis=1)
        known[start : start + len(part)] = there
        filled[start : start + len(part)] = np.where(there[:, None], part, 0)
        counted = part[there & trained[start : start + len(part)]].astype(np.float64)
        number, total, squares = number + len(counted), total + counted.sum(axis=0), squares + float((counted**2).sum())
        forget(vectors)
    mean = total / max(number, 1)
    variance = squares / max(number, 1) - float(mean @ mean)
    scale = variance**0.5 if number and variance > 1e-12 * squares / number else 1.0
    shared = tf.experimental.dlpack.from_dlpack(filled.__dlpack__())  # `tf.constant` would copy
    return Content(name, shared, known, mean.astype(np.float32), scale)


def _aligned(rows: int, columns: int) -> np.ndarray:
    """Returns a float32 array at an address that TensorFlow can share."""
    buffer = np.empty(rows * columns * 4 + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    return buffer[start : start + rows * columns * 4].view(np.float32).reshape(rows, columns)


class Projection(keras.layers.Layer):
    """Share of a content vector x in an item vector: W (x - mean) / scale, and a learned vector for an unknown one.

    The vectors are never trained. Mean and scale are kept with the weights, so that new items are projected alike.

    Args:
        content: the vectors.
        dim: D.
    """

    def __init__(self, content: Content, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Inside a function, so that no checkpoint holds the vectors.
        self._content = lambda: content
        size = len(content.mean)
        self.projection: tf.Variable = self.add_weight(
            name="projection", shape=[size, dim], initializer=keras.initializers.RandomNormal(0, 0.02)
        )
        self.unknown: tf.Variable = self.add_weight(name="unknown", shape=[dim], initializer="zeros")
        self.mean: tf.Variable = self.add_weight(name="mean", shape=[size], trainable=False)
        self.scale: tf.Variable = self.add_weight(name="scale", shape=[], trainable=False)
        self.mean.assign(content.mean)
        self.scale.assign(content.scale)

    def share(self) -> tf.Tensor:
        """Returns the share of the vectors of all items `[N, D]`."""
        content = self._content()
        return tf.where(content.known[:, None], self.project(content.vectors), self.unknown)

    def share_of(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the share of the vectors of some items, `[U]` int -> `[U, D]`."""
        content = self._content()
        known = tf.gather(tf.constant(content.known), rows)
        return tf.where(known[:, None], self.project(tf.gather(content.vectors, rows)), self.unknown)

    def share_for(self, vectors: np.ndarray) -> tf.Tensor:
        """Returns the share of vectors `[M, C]`, of any items, NaN for an unknown one: `[M, D]`."""
        known = ~np.isnan(vectors).any(axis=1, keepdims=True)
        return tf.where(known, self.project(np.where(known, vectors, 0)), self.unknown)

    def project(self, vectors: tf.Tensor) -> tf.Tensor:
        """Returns the share of vectors `[M, C]`, of any items: `[M, D]`."""
        scaled = tf.convert_to_tensor(self.projection) / self.scale
        return vectors @ scaled - tf.linalg.matvec(scaled, self.mean, transpose_a=True)
