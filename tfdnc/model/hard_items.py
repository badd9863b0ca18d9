"""Hard items of every item: those nearest to it among the items that it competes with, found anew between epochs."""

import itertools

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.model_config import TrainConfig

_NONE = -1  # a place without an item: before the first refresh, or in a small pool
_SCORES = 2**24  # most scores in memory at a time


class HardItems(tf.Module):
    """Table of the hard items of every item, which a checkpoint of the model holds.

    It is empty until the first refresh.

    Args:
        offsets: of the catalogue; cluster k is rows offsets[k] .. offsets[k + 1] - 1.
        train: the ranks, and the loss, which competes in clusters or among all items.
    """

    def __init__(self, offsets: tuple[int, ...], train: TrainConfig) -> None:
        super().__init__(name="hard_items")
        self._bounds = offsets if train.is_in_cluster else (0, offsets[-1])
        self._first, self._last = train.hard_from, train.hard_to
        start = np.full([offsets[-1], self._last - self._first + 1], _NONE, np.int32)
        self.table: tf.Variable = tf.Variable(start, trainable=False, name="table")  # [N, H] rows inside the pool

    def refresh(self, vectors: tf.Tensor) -> None:
        """Fills the table from the item vectors `[N, D]`."""
        pools = [vectors[start:stop] for start, stop in itertools.pairwise(self._bounds)]
        self.table.assign(tf.concat([nearest_rows(pool, self._first, self._last) for pool in pools], axis=0))


def nearest_rows(vectors: tf.Tensor, first: int, last: int) -> tf.Tensor:
    """Returns the rows with the largest products with each row, itself apart, of ranks first .. last, counted from 1.

    All pairs are compared, a bounded number at a time: n^2 D multiplications.

    Args:
        vectors: `[n, D]`.
        first: the smallest rank.
        last: the largest rank.

    Returns:
        `[n, last - first + 1]` int32; of equal products the lower row comes first; -1 for ranks above n - 1.
    """
    size = vectors.shape[0]
    rows_at_once, found = max(1, _SCORES // size), min(last, size - 1)
    parts = []
    for start in range(0, size, rows_at_once):
        own = tf.range(start, min(start + rows_at_once, size))
        scores = tf.matmul(tf.gather(vectors, own), vectors, transpose_b=True)
        places = tf.stack([tf.range(tf.size(own)), own], axis=1)
        itself = tf.fill([tf.size(own)], scores.dtype.min)
        scores = tf.tensor_scatter_nd_update(scores, places, itself)
        parts.append(tf.math.top_k(scores, found).indices[:, first - 1 :])
    ranks = tf.concat(parts, axis=0)
    return tf.pad(ranks, [[0, 0], [0, last - first + 1 - ranks.shape[1]]], constant_values=_NONE)
