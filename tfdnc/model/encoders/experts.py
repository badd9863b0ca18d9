"""Encoders that mix experts per cluster: multi-gate mixture of experts, and progressive layered extraction."""

from typing import Any

from tfdnc.backend import keras, tf
from tfdnc.contracts.model_config import ModelConfig
from tfdnc.model.dropout import stateless_dropout
from tfdnc.model.encoders.base import USER_ENCODERS, Histories, TrainingStates, UserVectors, Windows, of_cluster
from tfdnc.model.encoders.on_transformer import OnTransformer
from tfdnc.model.layers import LayerNorm
from tfdnc.model.randomness import Stream, substream
from tfdnc.model.transformer import Transformer


@USER_ENCODERS.register("mmoe")
class MultiGateMixtureOfExperts(OnTransformer):
    """e_k = sum over experts of g_k[e] * expert_e(s), each expert a Transformer of its own (Ma et al. 2018).

    The paper compares with four self-attention experts and does not give the input of the gates. Ours is the mean of
    the items so far, which depends on the user and not on the experts that the gate weighs. The intent is one more task
    with another gate. One pass over a sequence trains every position, and one pass gives all K vectors.
    """

    vectors_per_cluster = True

    def __init__(
        self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, **kwargs: Any
    ) -> None:
        super().__init__(config, num_clusters, num_users, compute_dtype, **kwargs)
        self._others = [self._transformer(f"expert_{i}") for i in range(1, config.experts)]
        self._gates = self.add_weight(
            name="gates", shape=[config.dim, (num_clusters + 1) * config.experts], initializer="glorot_uniform"
        )

    @property
    def _experts(self) -> list[Transformer]:
        return [self._trunk, *self._others]

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """Mixes every position by the gate of its target's cluster, and by that of the intent."""
        tokens = self._positioned(windows.tokens)
        states = [
            self._states(tokens, windows.elapsed, windows.user_token, substream(stream, "expert", i), trunk=expert)
            for i, expert in enumerate(self._experts)
        ]
        counts = tf.range(1, tf.shape(tokens)[1] + 1, dtype=tf.float32)[:, None]
        gates = self._gate(tf.cumsum(windows.tokens, axis=1) / counts)  # [B, L, K + 1, E]
        states = tf.stack(states, axis=2)  # [B, L, E, D]
        retrieval = _mix(of_cluster(gates, windows.clusters), states)
        return TrainingStates(retrieval, windows.has_target, _mix(gates[:, :, -1], states))

    def user_vectors(self, histories: Histories) -> UserVectors:
        """Mixes one encode by every expert K + 1 times."""
        tokens, lengths, beside = histories.tokens, histories.lengths, (histories.elapsed, histories.user_token)
        positioned = self._positioned(tokens)
        states = [self._last_state(positioned, lengths, *beside, expert) for expert in self._experts]
        inside = tf.sequence_mask(lengths, tf.shape(tokens)[1], tf.float32)[:, :, None]
        mean = tf.reduce_sum(tokens * inside, axis=1) / tf.maximum(tf.cast(lengths, tf.float32), 1.0)[:, None]
        mixed = tf.matmul(self._gate(mean), tf.stack(states, axis=1))  # [B, K + 1, D]
        return UserVectors(mixed[:, :-1], mixed[:, -1])

    def _gate(self, x: tf.Tensor) -> tf.Tensor:
        """`[..., D]` -> weights `[..., K + 1, E]` that sum to 1 over the experts."""
        logits = tf.tensordot(x, self._gates, axes=1)
        shape = tf.concat([tf.shape(x)[:-1], [self._num_clusters + 1, self._config.experts]], axis=0)
        return tf.nn.softmax(tf.reshape(logits, shape))


@USER_ENCODERS.register("ple")
class ProgressiveLayeredExtraction(OnTransformer):
    """Shared and per-cluster experts above one Transformer (Tang et al. 2020, customized gate control).

    Task k mixes the shared experts and its own one, all two-layer perceptrons on the trunk's state x, by a softmax of
    x, and adds the mixture to x. A per-cluster expert runs at the positions of its cluster only, so K experts cost as
    much as one. The intent is one more task. There is one level; the paper does not give the number.
    """

    vectors_per_cluster = True

    def __init__(
        self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, **kwargs: Any
    ) -> None:
        super().__init__(config, num_clusters, num_users, compute_dtype, **kwargs)
        dim, tasks = config.dim, num_clusters + 1
        self._norm = LayerNorm(dim, name="expert_norm")
        self._shared = _Perceptrons(config.experts, dim, compute_dtype, name="shared_experts")
        self._own = _Perceptrons(tasks, dim, compute_dtype, name="own_experts")
        self._gates = self.add_weight(
            name="gates", shape=[tasks, dim, config.experts + 1], initializer="glorot_uniform"
        )
        self._out_norm = LayerNorm(dim, name="out_norm")

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """Sorts positions by cluster for the own experts, and restores their order afterwards."""
        states = self._states(self._positioned(windows.tokens), windows.elapsed, windows.user_token, stream)
        shape = tf.shape(states)
        x = tf.reshape(states, [-1, self._config.dim])  # [B * L, D]
        shared = self._shared.all(self._norm(x))  # [B * L, S, D]
        clusters = tf.reshape(windows.clusters, [-1])
        rows_of = tf.dynamic_partition(tf.range(tf.size(clusters)), clusters, self._num_clusters)
        mixed = [self._task(k, tf.gather(x, rows), tf.gather(shared, rows), stream) for k, rows in enumerate(rows_of)]
        retrieval = tf.reshape(tf.dynamic_stitch(rows_of, mixed), shape)
        intent = tf.reshape(self._task(self._num_clusters, x, shared, stream), shape)
        return TrainingStates(retrieval, windows.has_target, intent)

    def user_vectors(self, histories: Histories) -> UserVectors:
        """Mixes the outputs of the experts for one encode K + 1 times."""
        beside = histories.elapsed, histories.user_token
        x = self._last_state(self._positioned(histories.tokens), histories.lengths, *beside)  # [B, D]
        shared = self._shared.all(self._norm(x))
        tasks = [self._task(k, x, shared) for k in range(self._num_clusters + 1)]
        return UserVectors(tf.stack(tasks[:-1], axis=1), tasks[-1])

    def _task(self, k: int, x: tf.Tensor, shared: tf.Tensor, stream: Stream | None = None) -> tf.Tensor:
        """State of task k `[P, D]`, given trunk states `[P, D]` and outputs of the shared experts `[P, S, D]`."""
        normed = self._norm(x)
        outputs = tf.concat([shared, self._own.one(k, normed)[:, None]], axis=1)  # [P, S + 1, D]
        gate = tf.nn.softmax(tf.matmul(normed, self._gates[k]))
        own_stream = substream(stream, "task", k)
        return self._out_norm(x + stateless_dropout(_mix(gate, outputs), self._config.dropout, own_stream))


class _Perceptrons(keras.layers.Layer):
    """Two-layer perceptrons `[.., D] -> [.., D]` with their weights stacked."""

    def __init__(self, count: int, dim: int, compute_dtype: tf.DType, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._product_dtype = compute_dtype
        self._inner = self.add_weight(name="inner", shape=[count, dim, dim], initializer=_glorot(dim))
        self._outer = self.add_weight(name="outer", shape=[count, dim, dim], initializer=_glorot(dim))
        self._bias = self.add_weight(name="bias", shape=[count, dim], initializer="zeros")

    def one(self, i: int, x: tf.Tensor) -> tf.Tensor:
        """Perceptron i: `[P, D]` -> `[P, D]`."""
        return self._product(tf.nn.relu(self._product(x, self._inner[i]) + self._bias[i]), self._outer[i])

    def all(self, x: tf.Tensor) -> tf.Tensor:
        """Every perceptron: `[P, D]` -> `[P, count, D]`."""
        return tf.stack([self.one(i, x) for i in range(self._inner.shape[0])], axis=1)

    def _product(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.matmul(tf.cast(x, self._product_dtype), tf.cast(kernel, self._product_dtype)), tf.float32)


def _glorot(dim: int) -> keras.initializers.Initializer:
    """Glorot initializer of one `[D, D]` matrix; that of Keras would take the stack for a receptive field."""
    limit = (6 / (2 * dim)) ** 0.5
    return keras.initializers.RandomUniform(-limit, limit)


def _mix(gate: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """`[..., E]` weights, `[..., E, D]` -> `[..., D]`."""
    return tf.reduce_sum(gate[..., None] * outputs, axis=-2)
