"""Encoders on one causal Transformer: SASRec, and the task prompts that tell it which cluster it is asked about."""

from typing import Any

from tfdnc.backend import keras, tf
from tfdnc.contracts.config import ModelConfig
from tfdnc.model.encoders.base import USER_ENCODERS, Histories, TrainingStates, UserVectors, Windows, at_last
from tfdnc.model.encoders.on_transformer import OnTransformer
from tfdnc.model.randomness import Stream, substream


@USER_ENCODERS.register("transformer")
class Unprompted(OnTransformer):
    """One vector searches every cluster: SASRec, and the paper's naive multi-task learning. V = 1."""

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """One pass; the intent head reads the same states."""
        states = self._states(self._placed(windows.tokens), windows.elapsed, stream)
        return TrainingStates(states, windows.has_target, states)

    def user_vectors(self, histories: Histories) -> UserVectors:
        """The state of the last item."""
        state = self._last_state(self._placed(histories.tokens), histories.lengths, histories.elapsed)
        return UserVectors(state[:, None], state)


class _Prompted(OnTransformer):
    """Owns the task embeddings: K rows t_k, and one "no task" row that asks for the intent."""

    vectors_per_cluster = True
    _initial_mean = 1.0  # a factor of 1 starts at the unprompted tower (the paper is silent about initialisation)

    def __init__(self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, **kwargs: Any):
        super().__init__(config, num_clusters, num_users, compute_dtype, **kwargs)
        self._task_embeddings = self.add_weight(
            name="task_embeddings",
            shape=[num_clusters + 1, config.dim],
            initializer=keras.initializers.RandomNormal(mean=self._initial_mean, stddev=0.05),
        )

    def _prompts(self, clusters):
        return tf.gather(self._task_embeddings, clusters)

    def _no_task(self):
        return self._task_embeddings[self._num_clusters]


@USER_ENCODERS.register("hadamard_per_position")
class HadamardPerPosition(_Prompted):
    """Position j carries s_j * t_c, c the cluster of its own next item: Eq. 5 with per-position prompts (ours).

    Nothing leaks: position j is asked for an item of cluster c, and later positions have seen that item. Every
    position trains in one pass, and at serving time the K queries differ from each other in the last position only.
    The intent query of position j carries the "no task" row and reads the prompted prefix below j.
    """

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """Prompted stream for retrieval, a query per position for the intent."""
        trunk, tokens = self._trunk, windows.tokens
        prompted, asking = (
            self._placed(tokens * self._prompts(windows.clusters)),
            self._placed(tokens * self._no_task()),
        )
        prompted = trunk.drop_inputs(prompted, substream(stream, "prefix"))
        asking = trunk.drop_inputs(asking, substream(stream, "queries"))
        states = trunk(prompted, asking, stream=stream, elapsed=windows.elapsed)  # query j reads the prefix below j
        return TrainingStates(states.prefix, windows.has_target, states.queries)

    def user_vectors(self, histories: Histories) -> UserVectors:
        """K + 1 queries on one shared prefix."""
        tokens, clusters, lengths, _, elapsed = histories
        next_clusters = tf.concat([clusters[:, 1:], tf.zeros_like(clusters[:, :1])], axis=1)
        prefix = self._placed(tokens * self._prompts(next_clusters))[:, :-1]
        last_token = at_last(tokens, lengths)[:, None]  # [B, 1, D]
        last_position = tf.gather(self._positions, tf.maximum(lengths - 1, 0))[:, None]
        queries = last_token * self._task_embeddings + last_position  # [B, K + 1, D]
        reach = tf.maximum(lengths - 1, 0)[:, None]  # of all queries alike, so that masks and biases are made once
        states = self._trunk(prefix, queries, reach, need_prefix=False, elapsed=elapsed).queries
        return UserVectors(states[:, :-1], states[:, -1])


class _OnePromptPerSequence(_Prompted):
    """Every encode of a sequence is for one cluster, as Eqs. 4 and 5 are written.

    A training sequence is encoded for one cluster, drawn in proportion to the clusters of its targets, and only the
    positions whose target lies in it are trained; a request encodes the history K times, and once for the intent.
    """

    encode_per_vector = True

    _extra = 0
    """Positions that the prompt itself takes."""

    def _prompted(self, tokens, prompts):
        """Placed and prompted tokens `[B, L + extra, D]`, given tokens `[B, L, D]` and one prompt a row `[B, D]`."""
        raise NotImplementedError

    def training_states(self, windows: Windows, stream: Stream | None) -> TrainingStates:
        """One drawn cluster per sequence; the intent needs a second pass under the "no task" row."""
        drawn = _draw_cluster(windows, substream(stream, "cluster"))  # [B]
        elapsed = self._placed_times(windows.elapsed)
        retrieval = self._states(self._prompted(windows.tokens, self._prompts(drawn)), elapsed, stream)
        no_task = tf.repeat(self._no_task()[None], tf.shape(drawn)[0], axis=0)
        intent = self._states(self._prompted(windows.tokens, no_task), elapsed, substream(stream, "intent"))
        trained = windows.has_target & (windows.clusters == drawn[:, None])
        return TrainingStates(retrieval[:, self._extra :], trained, intent[:, self._extra :])

    def user_vectors(self, histories: Histories) -> UserVectors:
        """K + 1 encodes of the whole history."""
        batch, encodes = tf.shape(histories.tokens)[0], self._num_clusters + 1
        rows, prompts = tf.repeat(tf.range(batch), encodes), tf.tile(tf.range(encodes), [batch])
        states = tf.reshape(self._encode(histories, rows, prompts), [-1, encodes, self._config.dim])
        return UserVectors(states[:, :-1], states[:, -1])

    def intent_state(self, histories: Histories) -> tf.Tensor:
        """One encode, under the "no task" row."""
        batch = tf.shape(histories.tokens)[0]
        return self._encode(histories, tf.range(batch), tf.repeat(self._num_clusters, batch))

    def wanted_vectors(self, histories: Histories, wanted: tf.Tensor) -> tf.Tensor:
        """An encode for every wanted vector."""
        pairs = tf.cast(tf.where(wanted), tf.int32)  # [P, 2]
        states = self._encode(histories, pairs[:, 0], pairs[:, 1])
        shape = tf.stack([*tf.unstack(tf.shape(wanted)), self._config.dim])
        return tf.ensure_shape(tf.scatter_nd(pairs, states, shape), [None, self._num_clusters, self._config.dim])

    def _encode(self, histories, rows, prompts):
        """States `[P, D]` of the histories `rows` `[P]` under the task embeddings `prompts` `[P]`."""
        tokens = self._prompted(tf.gather(histories.tokens, rows), self._prompts(prompts))
        elapsed = None if histories.elapsed is None else self._placed_times(tf.gather(histories.elapsed, rows))
        return self._last_state(tokens, tf.gather(histories.lengths, rows) + self._extra, elapsed)

    def _placed_times(self, elapsed):
        """`[B, L]` -> `[B, L + extra]`: the prompt stands there when the first item comes."""
        return None if elapsed is None else tf.pad(elapsed, [[0, 0], [self._extra, 0]])


@USER_ENCODERS.register("hadamard_literal")
class HadamardLiteral(_OnePromptPerSequence):
    """e_k = Transformer([s_1 * t_k, ..., s_L * t_k]): Eq. 5 as the paper writes it."""

    def _prompted(self, tokens, prompts):
        return self._placed(tokens * prompts[:, None])


@USER_ENCODERS.register("prefix")
class Prefix(_OnePromptPerSequence):
    """e_k = Transformer([t_k; s_1, ..., s_L]): Eq. 4.

    The prompt stands before the first item, where causal attention of every position reads it, and has no position
    embedding of its own: an item's position does not depend on whether there is a prompt.
    """

    _initial_mean = 0.0
    _extra = 1

    def _prompted(self, tokens, prompts):
        return tf.concat([prompts[:, None], self._placed(tokens)], axis=1)


def _draw_cluster(windows, stream):
    """The cluster of one target per sequence, each position equally likely: `[B]`."""
    stream = stream or Stream.at(0, 0)
    noise = tf.random.stateless_uniform(tf.shape(windows.clusters), stream.seed)
    chosen = tf.argmax(tf.where(windows.has_target, noise, -1.0), axis=1, output_type=tf.int32)
    return tf.gather(windows.clusters, chosen, batch_dims=1)
