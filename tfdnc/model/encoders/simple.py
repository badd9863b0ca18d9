"""Encoders that read no sequence: item counts, and matrix factorisation."""

from typing import Any

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.model_config import ModelConfig
from tfdnc.model.encoders.base import USER_ENCODERS, Histories, TrainingStates, UserEncoder, UserVectors, Windows
from tfdnc.model.randomness import Stream


@USER_ENCODERS.register("item_counts")
class ItemCounts(UserEncoder):
    """List of the most popular unseen items: every user is the constant 1, every item the logarithm of its count.

    It is not trained (`train.epochs: 0`). With K clusters the scores are exactly log p(i | k) plus a constant.
    """

    reads_order = False

    @staticmethod
    def initial_items(counts: np.ndarray, dim: int) -> np.ndarray | None:
        """Returns log(count) in the first dimension; items without events come last."""
        items = np.zeros([len(counts), dim], np.float32)
        items[:, 0] = np.log(np.maximum(counts, 0.5))
        return items

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """Returns the constant at every position."""
        states = self._ones(tf.shape(windows.clusters))
        return TrainingStates(states, windows.has_target, states)

    def user_vectors(self, histories: Histories) -> UserVectors:
        """Returns the constant for every history."""
        states = self._ones(tf.shape(histories.lengths))
        return UserVectors(states[:, None], states)

    def _ones(self, shape: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(tf.zeros(shape, tf.int32), self._config.dim)


@USER_ENCODERS.register("user_embedding")
class UserEmbedding(UserEncoder):
    """Matrix factorisation: r = p_u . q_i with an embedding per user, trained on the targets of the user's windows.

    A request has a history and no user of the training, so its p_u is folded in. It is the minimum of the training
    objective (Eq. 2 with uniform negatives) over p with fixed item embeddings, see `fold_in`. That serves new users,
    and users with new events.
    """

    reads_order = False

    _PENALTY = 0.03
    """L2 weight of p in the fold-in; without it p would grow without bound for a few events."""

    def __init__(
        self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, **kwargs: Any
    ) -> None:
        super().__init__(config, num_clusters, num_users, compute_dtype, **kwargs)
        if num_users:
            self._users = self.add_weight(
                name="users", shape=[num_users, config.dim], initializer=keras.initializers.RandomNormal(0, 0.1)
            )

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """Returns the embedding of the user at every position."""
        rows = tf.gather(self._users, windows.users)[:, None]  # [B, 1, D]
        states = tf.repeat(rows, tf.shape(windows.clusters)[1], axis=1)
        return TrainingStates(states, windows.has_target, states)

    def user_vectors(self, histories: Histories) -> UserVectors:
        """Folds in every history."""
        tokens, lengths, items = histories.tokens, histories.lengths, histories.items
        liked = tokens / self._config.dim**0.5  # as they are scored
        state = fold_in(liked, lengths, sample_rows(items), self._PENALTY)
        return UserVectors(state[:, None], state)


def sample_rows(items: tf.Tensor, most: int = 1024) -> tf.Tensor:
    """Returns evenly spaced rows of `[N, D]` as uniform negatives, all of them for N <= most."""
    step = tf.maximum(1, (tf.shape(items)[0] + most - 1) // most)
    return items[::step]


def fold_in(liked: tf.Tensor, lengths: tf.Tensor, others: tf.Tensor, penalty: float, iterations: int = 20) -> tf.Tensor:
    """Returns the embeddings of users, given item embeddings.

    Minimises mean over liked of -log s(p . q) + mean over others of -log s(-p . q) + penalty / 2 |p|^2. The logistic
    loss curves at most 1/4 everywhere (Boehning & Lindsay 1988), so a Newton step with that bound never overshoots.

    Args:
        liked: `[B, L, D]` embeddings of the history, right-padded.
        lengths: `[B]`; a row with 0 gives the minimum for the others alone.
        others: `[S, D]` embeddings of negatives.
        penalty: above 0.
        iterations: Newton steps.

    Returns:
        `[B, D]`.
    """
    weight = tf.sequence_mask(lengths, tf.shape(liked)[1], tf.float32)
    weight /= tf.maximum(tf.cast(lengths, tf.float32), 1.0)[:, None]  # [B, L]
    share = 1.0 / tf.cast(tf.shape(others)[0], tf.float32)
    bound = tf.matmul(liked * weight[:, :, None], liked, transpose_a=True)  # [B, D, D]
    bound += tf.matmul(others, others, transpose_a=True) * share
    factor = tf.linalg.cholesky(bound / 4 + penalty * tf.eye(liked.shape[2]))
    user = tf.zeros_like(liked[:, 0])
    for _ in range(iterations):
        attraction = weight * tf.sigmoid(-tf.einsum("bd,bld->bl", user, liked))
        repulsion = share * tf.sigmoid(tf.matmul(user, others, transpose_b=True))
        gradient = tf.matmul(repulsion, others) - tf.einsum("bl,bld->bd", attraction, liked) + penalty * user
        user -= tf.linalg.cholesky_solve(factor, gradient[:, :, None])[:, :, 0]
    return user
