"""Encoders on one causal Transformer: SASRec, and SASRec with task prompts, one per cluster."""

from typing import Any

from tfdnc.backend import tf
from tfdnc.contracts.model_config import ModelConfig
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
from tfdnc.model.randomness import Stream, substream


@USER_ENCODERS.register("transformer")
class Unprompted(OnTransformer):
    """SASRec, and the paper's naive multi-task learning: one vector searches every cluster. V = 1."""

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """Encodes in one pass; the intent head reads the same states."""
        states = self._states(self._positioned(windows.tokens), windows.elapsed, windows.user_token, stream)
        return TrainingStates(states, windows.has_target, states)

    def user_vectors(self, histories: Histories) -> UserVectors:
        """Returns the state of the last item."""
        tokens, lengths = self._positioned(histories.tokens), histories.lengths
        state = self._last_state(tokens, lengths, histories.elapsed, histories.user_token)
        return UserVectors(state[:, None], state)


class _Prompted(OnTransformer):
    """Base with task embeddings: K rows t_k, and one "no task" row for the intent."""

    vectors_per_cluster = True
    _initial_mean = 1.0  # a factor of 1 starts as the unprompted tower (the paper gives no initialisation)

    def __init__(
        self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, **kwargs: Any
    ) -> None:
        super().__init__(config, num_clusters, num_users, compute_dtype, **kwargs)
        self._task_embeddings = task_embeddings(self, num_clusters + 1, config.dim, self._initial_mean)

    def _prompts(self, clusters: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._task_embeddings, clusters)

    def _no_task(self) -> tf.Tensor:
        return self._task_embeddings[self._num_clusters]


@USER_ENCODERS.register("hadamard_per_position")
class HadamardPerPosition(_Prompted):
    """Token s_j * t_c at position j, c the cluster of the next item: Eq. 5 with per-position prompts (ours).

    The prompt leaks no target: position j predicts an item of cluster c, and later positions read that item anyway.
    Every position trains in one pass. In a request the K queries differ in the last position only. The intent query of
    position j has the "no task" row and reads the prompted prefix below j.
    """

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """Encodes the prompted prefix for retrieval, and a query per position for the intent."""
        trunk, tokens = self._trunk, windows.tokens
        prompted = self._positioned(tokens * self._prompts(windows.clusters))
        queries = self._positioned(tokens * self._no_task())
        prompted = trunk.drop_inputs(prompted, substream(stream, "prefix"))
        queries = trunk.drop_inputs(queries, substream(stream, "queries"))
        # Query j reads the prefix below j.
        states = trunk(prompted, queries, stream=stream, elapsed=windows.elapsed, before=windows.user_token)
        return TrainingStates(states.prefix, windows.has_target, states.queries)

    def user_vectors(self, histories: Histories) -> UserVectors:
        """Encodes K + 1 queries on one shared prefix."""
        tokens, clusters, lengths = histories.tokens, histories.clusters, histories.lengths
        next_clusters = tf.concat([clusters[:, 1:], tf.zeros_like(clusters[:, :1])], axis=1)
        prefix = self._positioned(tokens * self._prompts(next_clusters))[:, :-1]
        last_token = at_last(tokens, lengths)[:, None]  # [B, 1, D]
        last_position = tf.gather(self._positions, tf.maximum(lengths - 1, 0))[:, None]
        queries = last_token * self._task_embeddings + last_position  # [B, K + 1, D]
        reach = tf.maximum(lengths - 1, 0)[
            :, None
        ]  # the same for all queries, so that masks and biases are computed once
        elapsed, before = histories.elapsed, histories.user_token
        states = self._trunk(prefix, queries, reach, need_prefix=False, elapsed=elapsed, before=before).queries
        return UserVectors(states[:, :-1], states[:, -1])


@USER_ENCODERS.register("hadamard_state")
class HadamardState(OnTransformer):
    """u_k = h * t_k, h the state at the end of the Transformer: one encode for all K vectors (ours).

    The paper multiplies the tokens (Eq. 5), which costs an encode per cluster, or a stream of queries. The intent reads
    h, so training and requests cost what an unprompted Transformer costs.
    """

    vectors_per_cluster = True

    def __init__(
        self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, **kwargs: Any
    ) -> None:
        super().__init__(config, num_clusters, num_users, compute_dtype, **kwargs)
        self._task_embeddings = task_embeddings(self, num_clusters, config.dim, mean=1.0)

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """Encodes in one pass, and multiplies every state by the task embedding of its target's cluster."""
        states = self._states(self._positioned(windows.tokens), windows.elapsed, windows.user_token, stream)
        return TrainingStates(states * tf.gather(self._task_embeddings, windows.clusters), windows.has_target, states)

    def user_vectors(self, histories: Histories) -> UserVectors:
        """Multiplies the state of the last item by all task embeddings."""
        tokens, lengths = self._positioned(histories.tokens), histories.lengths
        state = self._last_state(tokens, lengths, histories.elapsed, histories.user_token)
        return UserVectors(state[:, None] * self._task_embeddings, state)


class _OnePromptPerSequence(_Prompted):
    """Base that encodes a sequence for one cluster at a time, as in Eqs. 4 and 5.

    A training sequence is encoded for one cluster, drawn in proportion to the clusters of its targets, and only the
    positions whose target lies in it are trained; a request encodes the history K times, and once for the intent.
    """

    encode_per_vector = True

    _extra = 0
    """Number of positions of the prompt."""

    def _prompted(self, tokens: tf.Tensor, prompts: tf.Tensor) -> tf.Tensor:
        """Prompted tokens with positions `[B, L + extra, D]`, from tokens `[B, L, D]` and a prompt per row `[B, D]`."""
        raise NotImplementedError

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """Encodes each sequence for one drawn cluster, and with the "no task" row for the intent."""
        drawn = _draw_cluster(windows, substream(stream, "cluster"))  # [B]
        beside = self._with_prompt(windows.elapsed), windows.user_token
        retrieval = self._states(self._prompted(windows.tokens, self._prompts(drawn)), *beside, stream)
        no_task = tf.repeat(self._no_task()[None], tf.shape(drawn)[0], axis=0)
        intent = self._states(self._prompted(windows.tokens, no_task), *beside, substream(stream, "intent"))
        trained = windows.has_target & (windows.clusters == drawn[:, None])
        return TrainingStates(retrieval[:, self._extra :], trained, intent[:, self._extra :])

    def user_vectors(self, histories: Histories) -> UserVectors:
        """Encodes the whole history K + 1 times."""
        batch, encodes = tf.shape(histories.tokens)[0], self._num_clusters + 1
        rows, prompts = tf.repeat(tf.range(batch), encodes), tf.tile(tf.range(encodes), [batch])
        states = tf.reshape(self._encode(histories, rows, prompts), [-1, encodes, self._config.dim])
        return UserVectors(states[:, :-1], states[:, -1])

    def intent_state(self, histories: Histories) -> tf.Tensor:
        """Encodes once, with the "no task" row."""
        batch = tf.shape(histories.tokens)[0]
        return self._encode(histories, tf.range(batch), tf.repeat(self._num_clusters, batch))

    def wanted_vectors(self, histories: Histories, wanted: tf.Tensor) -> tf.Tensor:
        """Encodes once for every wanted vector."""
        pairs = tf.cast(tf.where(wanted), tf.int32)  # [P, 2]
        states = self._encode(histories, pairs[:, 0], pairs[:, 1])
        shape = tf.stack([*tf.unstack(tf.shape(wanted)), self._config.dim])
        return tf.ensure_shape(tf.scatter_nd(pairs, states, shape), [None, self._num_clusters, self._config.dim])

    def _encode(self, histories: Histories, rows: tf.Tensor, prompts: tf.Tensor) -> tf.Tensor:
        """States `[P, D]` of the histories `rows` `[P]` with the task embeddings `prompts` `[P]`."""
        tokens = self._prompted(tf.gather(histories.tokens, rows), self._prompts(prompts))
        elapsed = None if histories.elapsed is None else self._with_prompt(tf.gather(histories.elapsed, rows))
        user_token = None if histories.user_token is None else tf.gather(histories.user_token, rows)
        return self._last_state(tokens, tf.gather(histories.lengths, rows) + self._extra, elapsed, user_token)

    def _with_prompt(self, elapsed: tf.Tensor | None) -> tf.Tensor | None:
        """`[B, L]` -> `[B, L + extra]`: no time elapses from the prompt to the first item."""
        return None if elapsed is None else tf.pad(elapsed, [[0, 0], [self._extra, 0]])


@USER_ENCODERS.register("hadamard_literal")
class HadamardLiteral(_OnePromptPerSequence):
    """e_k = Transformer([s_1 * t_k, ..., s_L * t_k]): Eq. 5 as the paper writes it."""

    def _prompted(self, tokens: tf.Tensor, prompts: tf.Tensor) -> tf.Tensor:
        return self._positioned(tokens * prompts[:, None])


@USER_ENCODERS.register("prefix")
class Prefix(_OnePromptPerSequence):
    """e_k = Transformer([t_k; s_1, ..., s_L]): Eq. 4.

    The prompt is before the first item, where causal attention of every position reads it. It has no position
    embedding, so an item has the same position with and without a prompt.
    """

    _initial_mean = 0.0
    _extra = 1

    def _prompted(self, tokens: tf.Tensor, prompts: tf.Tensor) -> tf.Tensor:
        return tf.concat([prompts[:, None], self._positioned(tokens)], axis=1)


def _draw_cluster(windows: Windows, stream: Stream | None) -> tf.Tensor:
    """The cluster of one target per sequence, drawn uniformly over its positions: `[B]`."""
    stream = stream or Stream.at(0, 0)
    noise = tf.random.stateless_uniform(tf.shape(windows.clusters), stream.seed)
    chosen = tf.argmax(tf.where(windows.has_target, noise, -1.0), axis=1, output_type=tf.int32)
    return tf.gather(windows.clusters, chosen, batch_dims=1)
