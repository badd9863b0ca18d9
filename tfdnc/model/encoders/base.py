"""What turns a history into user vectors: the contract of all user encoders.

An encoder answers two questions: which states train on which positions of a window, and which V user vectors a history
gives. V = K vectors search one cluster each; any other number searches every cluster, and the best score counts.
"""

from typing import NamedTuple

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.config import ModelConfig
from tfdnc.contracts.registry import Registry
from tfdnc.model.randomness import Stream


class Windows(NamedTuple):
    """A batch of training windows."""

    users: tf.Tensor  # [B] int32 numbers of the windows' users
    tokens: tf.Tensor  # [B, L, D] item embeddings of the histories
    targets: tf.Tensor  # [B, L, D] item embeddings of the targets, as they are scored
    clusters: tf.Tensor  # [B, L] int32 clusters of the targets
    has_target: tf.Tensor  # [B, L] bool
    elapsed: tf.Tensor | None = None  # [B, L] int64 time from each item to its target, below 0: unknown


class Histories(NamedTuple):
    """A batch of right-padded histories to encode."""

    tokens: tf.Tensor  # [B, L, D] item embeddings, L >= 1
    clusters: tf.Tensor  # [B, L] int32 cluster of each history item (not of its successor)
    lengths: tf.Tensor  # [B] int32; rows with 0 give finite, meaningless vectors
    items: tf.Tensor  # [N, D] all item embeddings
    elapsed: tf.Tensor | None = None  # [B, L] int64 time to the next item or the request, below 0: unknown


class TrainingStates(NamedTuple):
    """Retrieval and intent states of one batch, with the positions they belong to."""

    retrieval: tf.Tensor  # [B, L, D]
    trained: tf.Tensor  # [B, L] bool: positions whose retrieval state has a loss
    intent: tf.Tensor  # [B, L, D]; every position with a target has an intent loss


class UserVectors(NamedTuple):
    """What a history is turned into."""

    retrieval: tf.Tensor  # [B, V, D]
    intent: tf.Tensor  # [B, D]


USER_ENCODERS: Registry[type["UserEncoder"]] = Registry("user encoder")


class UserEncoder(keras.layers.Layer):
    """Base of the user encoders.

    Args:
        config: widths and counts.
        num_clusters: K.
        num_users: users with a row in whatever the encoder keeps per user; 0 outside training.
        compute_dtype: dtype of the matrix products.
    """

    vectors_per_cluster = False
    """Whether V = K and vector k searches cluster k only."""

    reads_order = True
    """Whether a token may say more than which item it is; else tokens have to be item embeddings times sqrt(D)."""

    encode_per_vector = False
    """Whether every vector costs an encode of its own: then `intent_state` and `wanted_vectors` are there too."""

    def __init__(self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, **kwargs):
        super().__init__(**kwargs)
        self._config = config
        self._num_clusters = num_clusters
        self._num_users = num_users
        self._product_dtype = compute_dtype

    @staticmethod
    def initial_items(counts: np.ndarray, dim: int) -> np.ndarray | None:
        """Item embeddings `[N, D]` to start from, given the `[N]` training events; None for small random ones."""
        del counts, dim

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """States of every position of a batch; `stream` is that of dropout, None switches it off."""
        raise NotImplementedError

    def user_vectors(self, histories: Histories) -> UserVectors:
        """User vectors of a batch of histories."""
        raise NotImplementedError

    def intent_state(self, histories: Histories) -> tf.Tensor:
        """The `intent` of `user_vectors`, and nothing else."""
        raise NotImplementedError

    def wanted_vectors(self, histories: Histories, wanted: tf.Tensor) -> tf.Tensor:
        """The `retrieval` of `user_vectors` where `wanted` `[B, V]` bool, zeros elsewhere."""
        raise NotImplementedError


def position_embeddings(encoder: UserEncoder, config: ModelConfig) -> tf.Variable:
    """Adds the weight `[max_length, D]` to an encoder."""
    return encoder.add_weight(
        name="positions",
        shape=[config.max_length, config.dim],
        initializer=keras.initializers.RandomNormal(0, 0.02),
    )


def at_last(x: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """`[B, L, D]` -> `[B, D]` at the last item of every history."""
    return tf.gather(x, tf.maximum(lengths - 1, 0), batch_dims=1)


def of_cluster(x: tf.Tensor, clusters: tf.Tensor) -> tf.Tensor:
    """`[B, L, K, ...]` -> `[B, L, ...]` at each position's cluster `[B, L]`."""
    return tf.gather(x, clusters, batch_dims=2)
