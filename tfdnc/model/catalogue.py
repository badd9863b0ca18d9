"""Inputs of losses and intent models: the items of a training step, and the positions with a target among them."""

from typing import NamedTuple

import numpy as np

from tfdnc.backend import tf


class Targets(NamedTuple):
    """The positions that are trained."""

    items: tf.Tensor  # [P] int, item indices 1..N
    clusters: tf.Tensor  # [P] int, their clusters
    negatives: tf.Tensor  # [P, n] int, 0 where the cluster had no item left


class Catalogue(NamedTuple):
    """The items; row i is item i + 1 (index 0 is padding and has no row)."""

    embeddings: tf.Tensor  # [N, D], a tensor or a variable
    offsets: tuple[int, ...]  # K + 1; cluster k is rows offsets[k] .. offsets[k + 1] - 1 (see `schema.ITEMS`)
    counts: np.ndarray  # [N] training events of each item
