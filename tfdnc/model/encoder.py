"""How the user tower learns which cluster it is asked about: the task conditionings.

A conditioning answers two questions about one shared Transformer: which states train on which positions, and which
V user vectors a history gives. V = 1 searches every cluster with one vector, V = K gives each cluster its own.
"""

from typing import NamedTuple

from tfdnc.backend import keras, tf
from tfdnc.model.transformer import Transformer
from tfdnc.registry import Registry


class TrainingStates(NamedTuple):
    """Retrieval and intent states of one batch, with the positions they belong to."""

    retrieval: tf.Tensor  # [B, L, D]
    trained: tf.Tensor  # [B, L] bool: positions whose retrieval state has a loss
    intent: tf.Tensor  # [B, L, D]; every position with a target has an intent loss


class UserVectors(NamedTuple):
    """What a history is turned into."""

    retrieval: tf.Tensor  # [B, V, D]
    intent: tf.Tensor  # [B, D]


USER_ENCODERS: Registry[type["Conditioning"]] = Registry("user encoder")


class Conditioning(keras.layers.Layer):
    """Base of the task conditionings.

    Args:
        num_clusters: K.
        dim: D.
    """

    vectors_per_cluster = False  # True: V = K, each searches its own cluster; False: V interests search every cluster

    def __init__(self, num_clusters: int, dim: int, **kwargs):
        super().__init__(**kwargs)
        self._num_clusters = num_clusters
        self._dim = dim

    def training_states(
        self,
        trunk: Transformer,
        tokens: tf.Tensor,
        positions: tf.Tensor,
        clusters: tf.Tensor,
        has_target: tf.Tensor,
        seed,
    ) -> TrainingStates:
        """States of every position of a batch of windows.

        Args:
            trunk: the shared Transformer.
            tokens: `[B, L, D]` item embeddings of the histories.
            positions: `[L, D]` position embeddings.
            clusters: `[B, L]` cluster of each position's target.
            has_target: `[B, L]` bool.
            seed: `[2]` int32 dropout seed, or None.
        """
        raise NotImplementedError

    def user_vectors(
        self, trunk: Transformer, tokens: tf.Tensor, positions: tf.Tensor, clusters: tf.Tensor, lengths: tf.Tensor
    ) -> UserVectors:
        """User vectors of right-padded histories.

        Args:
            trunk: the shared Transformer.
            tokens: `[B, L, D]` item embeddings of the histories, L >= 1.
            positions: `[L, D]` position embeddings.
            clusters: `[B, L]` cluster of each history item (not of its successor).
            lengths: `[B]` number of items in each history; rows with 0 return finite, meaningless vectors.
        """
        raise NotImplementedError


@USER_ENCODERS.register("transformer")
class Unconditioned(Conditioning):
    """One vector searches every cluster: SASRec, and the paper's naive multi-task learning. V = 1."""

    def training_states(self, trunk, tokens, positions, clusters, has_target, seed):
        """One pass; the intent head reads the same states."""
        del clusters
        states = trunk(trunk.drop_inputs(tokens + positions, seed, salt=0), seed=seed).prefix
        return TrainingStates(states, has_target, states)

    def user_vectors(self, trunk, tokens, positions, clusters, lengths):
        """The state of the last item."""
        del clusters
        prefix, last, reach = _split_last(tokens + positions, lengths)
        states = trunk(prefix, last[:, None], reach[:, None], need_prefix=False).queries
        return UserVectors(states, states[:, 0])


class _Prompted(Conditioning):
    """Owns the task embeddings: K rows t_k, and one "no task" row that asks for the intent."""

    vectors_per_cluster = True

    def __init__(self, num_clusters: int, dim: int, **kwargs):
        super().__init__(num_clusters, dim, **kwargs)
        # Around 1, so that training starts at the unconditioned tower (the paper is silent about initialisation).
        initializer = keras.initializers.RandomNormal(mean=1.0, stddev=0.05)
        self._task_embeddings = self.add_weight(
            name="task_embeddings", shape=[num_clusters + 1, dim], initializer=initializer
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

    def training_states(self, trunk, tokens, positions, clusters, has_target, seed):
        """Prompted stream for retrieval, a query per position for the intent."""
        prompted = trunk.drop_inputs(tokens * self._prompts(clusters) + positions, seed, salt=0)
        asking = trunk.drop_inputs(tokens * self._no_task() + positions, seed, salt=1)
        reach = tf.range(tf.shape(tokens)[1])[None]  # query j reads the prefix below j
        states = trunk(prompted, asking, reach, seed=seed)
        return TrainingStates(states.prefix, has_target, states.queries)

    def user_vectors(self, trunk, tokens, positions, clusters, lengths):
        """K + 1 queries on one shared prefix."""
        next_clusters = tf.concat([clusters[:, 1:], tf.zeros_like(clusters[:, :1])], axis=1)
        prefix, _, reach = _split_last(tokens * self._prompts(next_clusters) + positions, lengths)
        last_token = _at_last(tokens, lengths)[:, None]  # [B, 1, D]
        last_position = tf.gather(positions, tf.maximum(lengths - 1, 0))[:, None]
        queries = last_token * self._task_embeddings + last_position  # [B, K + 1, D]
        reach = tf.repeat(reach[:, None], self._num_clusters + 1, axis=1)
        states = trunk(prefix, queries, reach, need_prefix=False).queries
        return UserVectors(states[:, :-1], states[:, -1])


@USER_ENCODERS.register("hadamard_literal")
class HadamardLiteral(_Prompted):
    """Every position carries s_i * t_k with one k per encoded sequence: Eq. 5 as the paper writes it.

    A training sequence is encoded for one cluster, drawn in proportion to the clusters of its targets, and only the
    positions whose target lies in it are trained; a request encodes the history K times, and once for the intent.
    """

    def training_states(self, trunk, tokens, positions, clusters, has_target, seed):
        """One drawn cluster per sequence; the intent needs a second pass under the "no task" row."""
        drawn = self._draw_cluster(clusters, has_target, seed)  # [B]
        retrieval = trunk(
            trunk.drop_inputs(tokens * self._prompts(drawn)[:, None] + positions, seed, salt=0), seed=seed
        ).prefix
        second = None if seed is None else seed + tf.constant([0, 1024])
        intent = trunk(trunk.drop_inputs(tokens * self._no_task() + positions, second, salt=1), seed=second).prefix
        trained = has_target & (clusters == drawn[:, None])
        return TrainingStates(retrieval, trained, intent)

    def user_vectors(self, trunk, tokens, positions, clusters, lengths):
        """K + 1 encodes of the whole history."""
        del clusters
        encodes = self._num_clusters + 1
        prompted = tokens[:, None] * self._task_embeddings[:, None] + positions  # [B, K + 1, L, D]
        shape = tf.shape(prompted)
        flat = tf.reshape(prompted, [-1, shape[2], self._dim])  # [B * (K + 1), L, D]
        prefix, last, reach = _split_last(flat, tf.repeat(lengths, encodes))
        states = trunk(prefix, last[:, None], reach[:, None], need_prefix=False).queries
        states = tf.reshape(states, [-1, encodes, self._dim])
        return UserVectors(states[:, :-1], states[:, -1])

    def _draw_cluster(self, clusters, has_target, seed):
        """The cluster of one target per sequence, each position equally likely: `[B]`."""
        if seed is None:
            seed = tf.constant([0, 0])
        noise = tf.random.stateless_uniform(tf.shape(clusters), seed + tf.constant([0, 2048]))
        chosen = tf.argmax(tf.where(has_target, noise, -1.0), axis=1, output_type=tf.int32)
        return tf.gather(clusters, chosen, batch_dims=1)


def _at_last(x, lengths):
    """`[B, L, D]` -> `[B, D]` at the last item of every history."""
    return tf.gather(x, tf.maximum(lengths - 1, 0), batch_dims=1)


def _split_last(x, lengths):
    """Prefix `[B, L - 1, D]`, last token `[B, D]`, and how much of the prefix belongs to the history `[B]`."""
    return x[:, :-1], _at_last(x, lengths), tf.maximum(lengths - 1, 0)
