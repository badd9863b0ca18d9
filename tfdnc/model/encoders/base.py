"""Contract of all user encoders, which make user vectors of a history.

An encoder gives the states that are trained at the positions of a window, and the V user vectors of a history. With
`vectors_per_cluster` V is K and each vector searches one cluster; other vectors search every cluster, and the best
score of an item counts.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.features import TIME
from tfdnc.contracts.model_config import ModelConfig
from tfdnc.contracts.registry import Registry
from tfdnc.model.randomness import Stream


class Windows(NamedTuple):
    """A batch of training windows; their tokens include the declared inputs."""

    users: tf.Tensor  # [B] int32 numbers of the windows' users
    tokens: tf.Tensor  # [B, L, D] item embeddings of the histories
    targets: tf.Tensor  # [B, L, D] item embeddings of the targets, as they are scored
    clusters: tf.Tensor  # [B, L] int32 clusters of the targets
    has_target: tf.Tensor  # [B, L] bool
    inputs: Mapping[str, tf.Tensor] = MappingProxyType({})  # [B, L] of each that the model reads, by `Feature.key`
    user_token: tf.Tensor | None = None  # [B, 1, D] inputs of the user, with `model.user_token`

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
    user_token: tf.Tensor | None = None  # likewise

    @property
    def elapsed(self) -> tf.Tensor | None:
        """Time to the next item or the request, as of `Windows`."""
        return self.inputs.get(TIME.key)


class TrainingStates(NamedTuple):
    """Retrieval and intent states of one batch, and the positions that are trained."""

    retrieval: tf.Tensor  # [B, L, D]
    trained: tf.Tensor  # [B, L] bool: positions whose retrieval state has a loss
    intent: tf.Tensor  # [B, L, D]; every position with a target has an intent loss


class UserVectors(NamedTuple):
    """Vectors of a history, for retrieval and for the intent."""

    retrieval: tf.Tensor  # [B, V, D]
    intent: tf.Tensor  # [B, D]


@runtime_checkable
class Encoder(Protocol):
    """Interface of a user encoder for the tower and the training.

    The constructor, described at `UserEncoder`, a base with defaults, creates all variables. All random numbers of a
    training come from the stream that is passed.
    """

    vectors_per_cluster: ClassVar[bool]
    """True if V = K and vector k searches cluster k only; otherwise every vector searches every cluster."""

    reads_order: ClassVar[bool]
    """True if tokens may hold more than the item; False if they have to be item embeddings times sqrt(D)."""

    reads_user_token: ClassVar[bool]
    """True if it reads `user_token` of windows and histories; others are refused with `model.user_token`."""

    encode_per_vector: ClassVar[bool]
    """True if every vector costs a separate encode: only then `intent_state` and `wanted_vectors` are called."""

    def __init__(
        self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, *, name: str
    ) -> None: ...

    @property
    def variables(self) -> list[tf.Variable]:
        """All weights, those that are not trained included."""

    @staticmethod
    def initial_items(counts: np.ndarray, dim: int) -> np.ndarray | None:
        """Returns initial item embeddings `[N, D]`, given the `[N]` training events; None for small random ones."""

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """Returns the states of every position of a batch, each trained to score its target.

        Args:
            windows: the batch, padded on the right.
            stream: of all random numbers; None, outside of training, switches dropout off.
        """

    def user_vectors(self, histories: Histories) -> UserVectors:
        """Returns the user vectors of a batch of histories: the state of the last position, for every vector."""

    def intent_state(self, histories: Histories) -> tf.Tensor:
        """Returns the `intent` of `user_vectors`, `[B, D]`, alone."""

    def wanted_vectors(self, histories: Histories, wanted: tf.Tensor) -> tf.Tensor:
        """Returns the `retrieval` of `user_vectors`, `[B, V, D]`, where `wanted` `[B, V]` is True, else zeros."""


USER_ENCODERS: Registry[type[Encoder]] = Registry("user encoder")


class UserEncoder(keras.layers.Layer):
    """Base of the user encoders: a Keras layer with the defaults of an `Encoder`, whose methods are described there.

    Args:
        config: widths and counts.
        num_clusters: K.
        num_users: number of users, for encoders with weights per user; 0 outside training. Such a weight is named
            `users`, and a warm start leaves it as it was made.
        compute_dtype: dtype of the matrix products.
    """

    vectors_per_cluster: ClassVar[bool] = False
    reads_order: ClassVar[bool] = True
    reads_user_token: ClassVar[bool] = False
    encode_per_vector: ClassVar[bool] = False

    def __init__(
        self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._config = config
        self._num_clusters = num_clusters
        self._num_users = num_users
        self._product_dtype = compute_dtype

    @staticmethod
    def initial_items(counts: np.ndarray, dim: int) -> np.ndarray | None:
        """Returns None: small random ones."""
        del counts, dim
        return None

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """See `Encoder`."""
        raise NotImplementedError

    def user_vectors(self, histories: Histories) -> UserVectors:
        """See `Encoder`."""
        raise NotImplementedError

    def intent_state(self, histories: Histories) -> tf.Tensor:
        """See `Encoder`; for those with `encode_per_vector`."""
        raise NotImplementedError

    def wanted_vectors(self, histories: Histories, wanted: tf.Tensor) -> tf.Tensor:
        """See `Encoder`; for those with `encode_per_vector`."""
        raise NotImplementedError


def position_embeddings(encoder: UserEncoder, config: ModelConfig) -> tf.Variable:
    """Adds a weight `[max_length, D]` to an encoder and returns it."""
    return encoder.add_weight(
        name="positions",
        shape=[config.max_length, config.dim],
        initializer=keras.initializers.RandomNormal(0, 0.02),
    )


def task_embeddings(encoder: UserEncoder, rows: int, dim: int, mean: float) -> tf.Variable:
    """Adds a weight `[rows, D]` to an encoder and returns it: row k is t_k, random around `mean`."""
    return encoder.add_weight(
        name="task_embeddings",
        shape=[rows, dim],
        initializer=keras.initializers.RandomNormal(mean=mean, stddev=0.05),
    )


def at_last(x: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """`[B, L, D]` -> `[B, D]` at the last item of every history."""
    return tf.gather(x, tf.maximum(lengths - 1, 0), batch_dims=1)


def of_cluster(x: tf.Tensor, clusters: tf.Tensor) -> tf.Tensor:
    """`[B, L, K, ...]` -> `[B, L, ...]` at each position's cluster `[B, L]`."""
    return tf.gather(x, clusters, batch_dims=2)
