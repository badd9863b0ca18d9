"""Target attention: the task embedding of a cluster asks the states of the history, as a candidate asks in DIN."""

from typing import Any

from tfdnc.backend import tf
from tfdnc.contracts.model_config import ModelConfig
from tfdnc.model.dropout import stateless_dropout
from tfdnc.model.encoders.base import (
    USER_ENCODERS,
    Histories,
    TrainingStates,
    UserVectors,
    Windows,
    at_last,
    task_embeddings,
)
from tfdnc.model.encoders.on_transformer import OnTransformer
from tfdnc.model.layers import Dense, LayerNorm
from tfdnc.model.randomness import Stream, substream

_MASKED = -1e9  # finite: a row without a readable position must not become NaN


@USER_ENCODERS.register("target_attention")
class TargetAttention(OnTransformer):
    """u_k = norm(h + W sum over j of a_kj s_j), a_k = softmax over j of t_k . s_j / sqrt(D).

    s_j are the states of one Transformer, and h is the last of them. Zhou et al. 2018 (DIN) attend by the candidate;
    here the task embedding t_k is in its place. A map of the s_j inside the softmax would add nothing: t_k is free.
    All K vectors cost one encode, and the intent reads h.
    """

    vectors_per_cluster = True

    def __init__(
        self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, **kwargs: Any
    ) -> None:
        super().__init__(config, num_clusters, num_users, compute_dtype, **kwargs)
        self._task_embeddings = task_embeddings(self, num_clusters, config.dim, mean=0.0)
        self._out = Dense(config.dim, config.dim, compute_dtype, name="out")
        self._out_norm = LayerNorm(config.dim, name="out_norm")

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """Asks at every position for the cluster of its target, among the states so far."""
        states = self._states(self._positioned(windows.tokens), windows.elapsed, windows.user_token, stream)
        positions = tf.range(tf.shape(states)[1])
        logits = tf.gather(self._logits(states), windows.clusters, axis=1, batch_dims=1)  # [B, L, L]
        read = self._out(attend(logits, positions <= positions[:, None], states))
        read = stateless_dropout(read, self._config.dropout, substream(stream, "read"))
        return TrainingStates(self._out_norm(states + read), windows.has_target, states)

    def user_vectors(self, histories: Histories) -> UserVectors:
        """Asks the states of one encode K times."""
        states = self._states(self._positioned(histories.tokens), histories.elapsed, histories.user_token, None)
        inside = tf.sequence_mask(histories.lengths, tf.shape(states)[1])[:, None]  # [B, 1, L]
        state = at_last(states, histories.lengths)
        read = self._out(attend(self._logits(states), inside, states))  # [B, K, D]
        return UserVectors(self._out_norm(state[:, None] + read), state)

    def _logits(self, states: tf.Tensor) -> tf.Tensor:
        """Of every task and state: `[B, L, D]` -> `[B, K, L]`."""
        asking = self._task_embeddings * self._config.dim**-0.5
        return tf.transpose(tf.tensordot(states, asking, axes=[[2], [1]]), [0, 2, 1])


def attend(logits: tf.Tensor, readable: tf.Tensor, states: tf.Tensor) -> tf.Tensor:
    """Returns the mean of the readable states by the softmax of their logits.

    Args:
        logits: `[B, Q, L]`.
        readable: `[B | 1, Q | 1, L]` bool.
        states: `[B, L, D]`.

    Returns:
        `[B, Q, D]`; where nothing is readable, a finite mean of all states.
    """
    return tf.matmul(tf.nn.softmax(tf.where(readable, logits, _MASKED)), states)
