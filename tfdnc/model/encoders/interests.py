"""Encoders with several interests that all search the whole catalogue: MIND and ComiRec-SA.

Training picks for every position the interest with the highest score of the target, and scores the negatives with the
same one. A request searches with all interests, and the score of an item is the highest over the interests.
"""

from typing import Any

from tfdnc.backend import keras, tf
from tfdnc.contracts.model_config import ModelConfig
from tfdnc.model.dropout import stateless_dropout
from tfdnc.model.encoders.base import (
    USER_ENCODERS,
    Histories,
    TrainingStates,
    UserEncoder,
    UserVectors,
    Windows,
    position_embeddings,
)
from tfdnc.model.layers import Dense
from tfdnc.model.randomness import Stream, substream

_MASKED = -1e9  # finite: a row without a readable item must not become NaN


class _Interests(UserEncoder):
    """Base that computes the interests of every prefix of a window, or of whole histories. V = I.

    Both published methods train on one prefix per sample. An interest is a weighted sum over the items of a prefix.
    All prefixes of a window are therefore one masked product `[B, L * I, L] x [B, L, D]`, and one pass trains every
    position.
    """

    def _interests(self, tokens: tf.Tensor, reach: tf.Tensor, stream: Stream | None) -> tf.Tensor:
        """Interests `[B, P, I, D]` of the first `reach[b, p]` tokens; tokens `[B, L, D]`, reach `[B, P]`."""
        raise NotImplementedError

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """Trains at position p, which reads the items up to p, the interest with the highest score of the target."""
        reach = tf.zeros_like(windows.clusters) + tf.range(1, tf.shape(windows.clusters)[1] + 1)
        interests = self._interests(windows.tokens, reach, substream(stream, "tokens"))
        scores = tf.einsum("blid,bld->bli", interests, windows.targets)
        states = tf.gather(interests, tf.argmax(scores, axis=2), batch_dims=2)
        return TrainingStates(states, windows.has_target, tf.reduce_mean(interests, axis=2))

    def user_vectors(self, histories: Histories) -> UserVectors:
        """Returns all interests of the whole history."""
        interests = self._interests(histories.tokens, histories.lengths[:, None], stream=None)[:, 0]
        return UserVectors(interests, tf.reduce_mean(interests, axis=1))


@USER_ENCODERS.register("mind")
class MultiInterestByDynamicRouting(_Interests):
    """Behaviour-to-interest dynamic routing (Li et al. 2019).

    It has one bilinear map S for all pairs, routing logits with fixed random initial values, three iterations, and
    squashed capsules. A history of |I_u| items has K'_u = max(1, min(I, floor(log2 |I_u|))) interests. Those beyond
    K'_u repeat the first one, which changes no maximum. Label-aware attention is the hard one (power p to infinity): a
    target trains the interest with its highest score, as requests score. The order of the items has no influence; at
    most `model.max_length` items count.
    """

    _ITERATIONS = 3

    def __init__(
        self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, **kwargs: Any
    ) -> None:
        super().__init__(config, num_clusters, num_users, compute_dtype, **kwargs)
        dim = config.dim
        self._bilinear = Dense(dim, dim, compute_dtype, name="bilinear")
        self._start = self.add_weight(
            name="routing_start",
            shape=[config.interests, config.max_length],
            initializer=keras.initializers.RandomNormal(0, 1),
            trainable=False,
        )
        self._inner = Dense(dim, 4 * dim, compute_dtype, name="inner")
        self._outer = Dense(4 * dim, dim, compute_dtype, name="outer")

    def _interests(self, tokens: tf.Tensor, reach: tf.Tensor, stream: Stream | None) -> tf.Tensor:
        count = self._config.interests
        dropped = stateless_dropout(tokens, self._config.dropout, stream)
        behaviours = self._bilinear(dropped)  # [B, L, D]
        length = tf.shape(tokens)[1]
        read = tf.cast(tf.range(length) < reach[:, :, None], tf.float32)[:, :, None]  # [B, P, 1, L]
        idle = _idle(reach, count)[:, :, :, None]  # [B, P, I, 1]
        logits = self._start[:, :length] + idle
        # Only the last iteration is differentiated: the logits are messages, not parameters.
        fixed = tf.stop_gradient(behaviours)
        for _ in range(self._ITERATIONS - 1):
            capsules = _squash(_weighted_sum(tf.nn.softmax(logits, axis=2) * read, fixed))
            logits += _agreement(capsules, fixed)
        capsules = _squash(_weighted_sum(tf.nn.softmax(tf.stop_gradient(logits), axis=2) * read, behaviours))
        interests = self._outer(tf.nn.relu(self._inner(capsules)))
        return tf.where(idle < 0, interests[:, :, :1], interests)


@USER_ENCODERS.register("comirec")
class ControllableMultiInterest(_Interests):
    """ComiRec-SA: A = softmax(W2 tanh(W1 H)) over the items of the history, V = A H (Cen et al. 2020).

    H has position embeddings, W1 is `[4 D, D]`, W2 `[I, 4 D]`. The controllable variant is merge `score` with
    `merge.diversity` above 0 on category clusters.
    """

    def __init__(
        self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, **kwargs: Any
    ) -> None:
        super().__init__(config, num_clusters, num_users, compute_dtype, **kwargs)
        dim = config.dim
        self._positions = position_embeddings(self, config)
        self._inner = Dense(dim, 4 * dim, compute_dtype, name="inner")
        self._outer = Dense(4 * dim, config.interests, compute_dtype, name="outer")

    def _interests(self, tokens: tf.Tensor, reach: tf.Tensor, stream: Stream | None) -> tf.Tensor:
        length = tf.shape(tokens)[1]
        dropped = stateless_dropout(tokens + self._positions[:length], self._config.dropout, stream)
        logits = self._outer(tf.tanh(self._inner(dropped)))  # [B, L, I]
        unread = tf.where(tf.range(length) < reach[:, :, None], 0.0, _MASKED)[:, :, None]  # [B, P, 1, L]
        weights = tf.nn.softmax(tf.transpose(logits, [0, 2, 1])[:, None] + unread)  # [B, P, I, L]
        return _weighted_sum(weights, dropped)


def _idle(lengths: tf.Tensor, most: int) -> tf.Tensor:
    """Mask `[B, P, I]` for histories of lengths `[B, P]`: 0 for interests in use, a large negative number else."""
    return tf.where(tf.range(most) < _number_of_interests(lengths, most)[:, :, None], 0.0, _MASKED)


def _number_of_interests(lengths: tf.Tensor, most: int) -> tf.Tensor:
    """max(1, min(most, floor(log2 length))), exactly: a logarithm in float32 may be too small at a power of two."""
    bounds = tf.constant([2**i for i in range(2, min(most, 30) + 1)], tf.int32)  # no int32 is 2^31
    return 1 + tf.reduce_sum(tf.cast(lengths[:, :, None] >= bounds, tf.int32), axis=2)


def _weighted_sum(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """`[B, P, I, L]`, `[B, L, D]` -> `[B, P, I, D]`."""
    shape = tf.shape(weights)
    flat = tf.matmul(tf.reshape(weights, [shape[0], -1, shape[3]]), values)
    return tf.reshape(flat, [shape[0], shape[1], weights.shape[2], values.shape[2]])


def _agreement(capsules: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """`[B, P, I, D]`, `[B, L, D]` -> `[B, P, I, L]`."""
    shape = tf.shape(capsules)
    flat = tf.matmul(tf.reshape(capsules, [shape[0], -1, capsules.shape[3]]), values, transpose_b=True)
    return tf.reshape(flat, [shape[0], shape[1], capsules.shape[2], tf.shape(values)[1]])


def _squash(x: tf.Tensor) -> tf.Tensor:
    """Keeps the direction and maps the norm n to n^2 / (1 + n^2)."""
    square = tf.reduce_sum(tf.square(x), axis=-1, keepdims=True)
    return x * (square / (1.0 + square)) * tf.math.rsqrt(square + 1e-9)
