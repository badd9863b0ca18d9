"""What turns a history into user vectors: the contract of all user encoders.

An encoder answers two questions: which states train on which positions of a window, and which V user vectors a history
gives. V = K vectors search one cluster each; any other number searches every cluster, and the best score counts.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.config import ModelConfig
from tfdnc.contracts.features import TIME
from tfdnc.contracts.registry import Registry
from tfdnc.model.randomness import Stream


class Windows(NamedTuple):
    """A batch of training windows; what their tokens say of the inputs is in them already."""

    users: tf.Tensor  # [B] int32 numbers of the windows' users
    tokens: tf.Tensor  # [B, L, D] item embeddings of the histories
    targets: tf.Tensor  # [B, L, D] item embeddings of the targets, as they are scored
    clusters: tf.Tensor  # [B, L] int32 clusters of the targets
    has_target: tf.Tensor  # [B, L] bool
    inputs: Mapping[str, tf.Tensor] = MappingProxyType({})  # [B, L] of each that the model reads, by `Feature.key`

    @property
    def elapsed(self) -> tf.Tensor | None:
        """Time from each item to its target `[B, L]` int64, below 0: unknown; None for a model that reads none."""
        return self.inputs.get(TIME.key)


class Histories(NamedTuple):
    """A batch of right-padded histories to encode."""

    tokens: tf.Tensor  # [B, L, D] item embeddings, L >= 1
    clusters: tf.Tensor  # [B, L] int32 cluster of each history item (not of its successor)
    lengths: tf.Tensor  # [B] int32; rows with 0 give finite, meaningless vectors
    items: tf.Tensor  # [N, D] all item embeddings
    inputs: Mapping[str, tf.Tensor] = MappingProxyType({})  # as of `Windows`

    @property
    def elapsed(self) -> tf.Tensor | None:
        """Time to the next item or the request, as of `Windows`."""
        return self.inputs.get(TIME.key)


class TrainingStates(NamedTuple):
    """Retrieval and intent states of one batch, with the positions they belong to."""

    retrieval: tf.Tensor  # [B, L, D]
    trained: tf.Tensor  # [B, L] bool: positions whose retrieval state has a loss
    intent: tf.Tensor  # [B, L, D]; every position with a target has an intent loss


class UserVectors(NamedTuple):
    """What a history is turned into."""

    retrieval: tf.Tensor  # [B, V, D]
    intent: tf.Tensor  # [B, D]


@runtime_checkable
class Encoder(Protocol):
    """All that a tower and a training ask of a user encoder.

    Built as `encoder(config, num_clusters, num_users, compute_dtype, name=...)`; `UserEncoder`, a base with defaults,
    describes these. All variables exist then, and all that is random in training comes from the stream it is given.
    """

    vectors_per_cluster: ClassVar[bool]
    """Whether V = K and vector k searches cluster k only; otherwise every vector searches every cluster."""

    reads_order: ClassVar[bool]
    """Whether a token may say more than which item it is; else tokens have to be item embeddings times sqrt(D)."""

    encode_per_vector: ClassVar[bool]
    """Whether every vector costs an encode of its own: `intent_state` and `wanted_vectors` are called only then."""

    @property
    def variables(self) -> list[tf.Variable]:
        """All weights, those that training leaves alone included."""

    @staticmethod
    def initial_items(counts: np.ndarray, dim: int) -> np.ndarray | None:
        """Item embeddings `[N, D]` to start from, given the `[N]` training events; None for small random ones."""

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """States of every position of a batch, each trained to score its target.

        Args:
            windows: the batch, padded on the right.
            stream: of everything random in it; None, outside of training, switches dropout off.
        """

    def user_vectors(self, histories: Histories) -> UserVectors:
        """User vectors of a batch of histories: what the last position would be trained as, for every vector."""

    def intent_state(self, histories: Histories) -> tf.Tensor:
        """The `intent` of `user_vectors`, `[B, D]`, and nothing else."""

    def wanted_vectors(self, histories: Histories, wanted: tf.Tensor) -> tf.Tensor:
        """The `retrieval` of `user_vectors`, `[B, V, D]`, where `wanted` `[B, V]` bool, zeros elsewhere."""


USER_ENCODERS: Registry[type[Encoder]] = Registry("user encoder")


class UserEncoder(keras.layers.Layer):
    """Base of the user encoders: a Keras layer with the defaults of an `Encoder`, whose methods are described there.

    Args:
        config: widths and counts.
        num_clusters: K.
        num_users: users with a row in whatever the encoder keeps per user; 0 outside training. A weight of them is
            named `users`: a warm start leaves it as it was made.
        compute_dtype: dtype of the matrix products.
    """

    vectors_per_cluster: ClassVar[bool] = False
    reads_order: ClassVar[bool] = True
    encode_per_vector: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, **kwargs: Any):
        super().__init__(**kwargs)
        self._config = config
        self._num_clusters = num_clusters
        self._num_users = num_users
        self._product_dtype = compute_dtype

    @staticmethod
    def initial_items(counts: np.ndarray, dim: int) -> np.ndarray | None:
        """None: small random ones."""
        del counts, dim

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """See `Encoder`."""
        raise NotImplementedError

    def user_vectors(self, histories: Histories) -> UserVectors:
        """See `Encoder`."""
        raise NotImplementedError

    def intent_state(self, histories: Histories) -> tf.Tensor:
        """See `Encoder`; of those with `encode_per_vector`."""
        raise NotImplementedError

    def wanted_vectors(self, histories: Histories, wanted: tf.Tensor) -> tf.Tensor:
        """See `Encoder`; of those with `encode_per_vector`."""
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
