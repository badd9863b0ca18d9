"""Inputs of losses and intent models: the items of a training step, and the positions with a target among them."""

import itertools
from typing import NamedTuple

import numpy as np

from tfdnc.backend import tf
from tfdnc.model.item_rows import ItemRows, gather_rows, is_by_row


class Targets(NamedTuple):
    """The positions that are trained."""

    items: tf.Tensor  # [P] int, item indices 1..N
    clusters: tf.Tensor  # [P] int, their clusters
    negatives: tf.Tensor  # [P, n] int, 0 where the cluster had no item left
    exposed: tf.Tensor | None = None  # [P, W] int, passed over before the target, 0 for none; None: none at all


class Pool(NamedTuple):
    """Items that one loss chooses from: a range of rows of a matrix of item vectors."""

    vectors: tf.Tensor | ItemRows  # [rows, D]
    start: int
    size: int

    @classmethod
    def of(cls, vectors: tf.Tensor) -> "Pool":
        """Returns the pool of all rows `[size, D]`."""
        return cls(vectors, 0, vectors.shape[0])

    def gather(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the vectors of rows inside the pool, `[...]` -> `[..., D]`."""
        return gather_rows(self.vectors, rows + self.start if self.start else rows)

    def whole(self) -> tf.Tensor:
        """Returns all vectors `[size, D]`; by a gather where the gradient of one has no other rows."""
        if is_by_row(self.vectors):
            return self.gather(tf.range(self.size))
        vectors = tf.convert_to_tensor(self.vectors)
        return vectors if self.size == vectors.shape[0] else vectors[self.start : self.start + self.size]


class Catalogue(NamedTuple):
    """The items; row i is item i + 1 (index 0 is padding and has no row).

    The embeddings are a tensor; or, of a model whose optimiser updates single rows, its variable, or `ItemRows`. The
    gradient of `gather_rows` of these holds the gathered rows alone. Any other read makes all N rows.
    """

    embeddings: tf.Tensor | ItemRows  # [N, D]
    offsets: tuple[int, ...]  # K + 1; cluster k is rows offsets[k] .. offsets[k + 1] - 1 (see `schema.ITEMS`)
    counts: np.ndarray  # [N] training events of each item
    hard: tf.Tensor | None = None  # [N, H] int32, hard items of each item as rows inside the loss's pool, or -1

    @property
    def num_items(self) -> int:
        """N."""
        return self.offsets[-1]

    def pool(self) -> Pool:
        """Returns the pool of all items."""
        return Pool(self.embeddings, 0, self.num_items)

    def clusters(self) -> list[Pool]:
        """Returns the pool of every cluster."""
        bounds = list(itertools.pairwise(self.offsets))
        if is_by_row(self.embeddings):
            return [Pool(self.embeddings, start, stop - start) for start, stop in bounds]
        return [Pool.of(own) for own in tf.split(self.embeddings, [stop - start for start, stop in bounds])]
