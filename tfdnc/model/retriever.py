"""The retriever: a TFRS model of user tower, item tower and intent model that trains and answers under any config."""

from pathlib import Path

import numpy as np
import tensorflow_recommenders as tfrs

from tfdnc.backend import keras, tf
from tfdnc.contracts.config import ModelConfig, TrainConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.schema import UNKNOWN_TIME
from tfdnc.contracts.tensorflow_paths import tensorflow_path
from tfdnc.model.catalogue import Catalogue, Targets
from tfdnc.model.encoders import USER_ENCODERS, Histories, TrainingStates, Windows
from tfdnc.model.gaps import GapEmbedding, hide_times
from tfdnc.model.intent import make_intent
from tfdnc.model.item_tower import FeatureMatrix, ItemFeatures, TrainedItems
from tfdnc.model.losses import LOSSES
from tfdnc.model.precision import resolve_precision
from tfdnc.model.randomness import Stream, substream


class Retriever(tfrs.Model):
    """Divide-and-conquer retrieval as one Keras model; K = 1 is the classic single retriever.

    Args:
        config: the user tower.
        train: loss, intent weight, and precision of the matrix products.
        offsets: K + 1 item counts; cluster k is item rows offsets[k] .. offsets[k + 1] - 1.
        seed: fixes initial weights, dropout, and the items that losses draw.
        counts: `[N]` training events of each item: what some encoders start from, and what losses that correct for
            popularity sample by; None is uniform, and enough outside training.
        num_users: users in the training records; 0 outside training.
        features: what `config.item_features` reads, in training; None elsewhere, for `write` adds them up.

    Raises:
        UserError: `config.times` with an encoder that reads no order.
    """

    def __init__(
        self,
        config: ModelConfig,
        train: TrainConfig,
        offsets: tuple[int, ...],
        seed: int,
        counts: np.ndarray | None = None,
        num_users: int = 0,
        features: FeatureMatrix | None = None,
    ):
        super().__init__(name="retriever")
        keras.utils.set_random_seed(seed)
        self.offsets = tuple(int(offset) for offset in offsets)
        self.num_clusters = len(self.offsets) - 1
        self.num_items = self.offsets[-1]
        self.max_length = config.max_length
        self._seed = seed
        self._counts = np.ones(self.num_items, np.int64) if counts is None else counts
        self._train_config = train
        self.distribute_reduction_method = "first"  # what a step returns is of all replicas; Keras would sum it up
        self._loss_function = LOSSES.resolve(train.loss)
        self._intent_weight = train.intent_weight
        self._product_dtype = resolve_precision(train.precision)
        self.item_embeddings = self.add_weight(
            name="item_embeddings",
            shape=[self.num_items, config.dim],
            initializer=keras.initializers.RandomNormal(0, 0.02),
        )
        encoder = USER_ENCODERS.resolve(config.encoder)
        if config.times and not encoder.reads_order:
            raise UserError(f"Expected model.times only with an encoder that reads order, {config.encoder} does not.")
        if (initial := encoder.initial_items(self._counts, config.dim)) is not None:
            if features is not None:
                raise UserError(f"Expected no model.item_features with {config.encoder}, whose item vectors are given.")
            self.item_embeddings.assign(initial)
        self._features = self._trained_items = None
        if features is not None:
            self._features = ItemFeatures(config.dim, features, self._counts, train.hidden_items, name="item_features")
            self._trained_items = TrainedItems(self._counts, self.offsets)
        self._encoder = encoder(config, self.num_clusters, num_users, self._product_dtype, name="encoder")
        self._gaps = GapEmbedding(config.dim, name="gaps") if config.times else None
        self._hidden_times = train.hidden_times
        self._intent = make_intent(config, train, self.offsets, self._product_dtype)
        # One cluster leaves no intent to learn, a weight of 0 asks for none: then there is no loss to show either.
        self._learns_intent = self._intent.trainable = self.num_clusters > 1 and train.intent_weight > 0
        self._retrieval_loss = keras.metrics.Mean(name="retrieval_loss")
        if self._learns_intent:
            self._intent_loss = keras.metrics.Mean(name="intent_loss")

    @property
    def vectors_per_cluster(self) -> bool:
        """Whether user vector k searches cluster k only; otherwise every vector searches every cluster."""
        return self._encoder.vectors_per_cluster

    @property
    def encode_per_vector(self) -> bool:
        """Whether every user vector costs an encode of its own, so that it pays to say which are wanted."""
        return self._encoder.encode_per_vector

    @property
    def reads_times(self) -> bool:
        """Whether times say something to this model: then `elapsed` is an input of its batches."""
        return self._gaps is not None

    @property
    def input_specs(self) -> list[tf.TensorSpec]:
        """Specs of the arguments of `user_vectors`."""
        times = [tf.TensorSpec([None, None], tf.int64)] if self.reads_times else []
        return [tf.TensorSpec([None, None], tf.int32), *times]

    @property
    def serving_variables(self) -> list[tf.Variable]:
        """Everything `user_vectors` and a search read, what training leaves alone included."""
        times = self._gaps.variables if self.reads_times else []
        return [self.item_embeddings, *times, *self._encoder.variables, *self._intent.variables]

    def item_vectors(self, stream: Stream | None = None) -> tf.Tensor:
        """Item vectors `[N, D]`: what tokens are made of, and what user vectors are compared with.

        Args:
            stream: of a training step; None leaves no embedding out.
        """
        embeddings = tf.convert_to_tensor(self.item_embeddings)
        return embeddings if self._features is None else self._features(embeddings, substream(stream, "items"))

    def write(self, path: Path) -> None:
        """Writes a checkpoint whose `item_embeddings` are the item vectors: who reads it need not know of features."""
        embeddings = self.item_embeddings.numpy()
        self.item_embeddings.assign(self.item_vectors())
        try:
            tf.train.Checkpoint(model=self).write(tensorflow_path(path))
        finally:
            self.item_embeddings.assign(embeddings)

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Mean retrieval loss over trained positions plus `intent_weight` times that of intent over all with a target.

        Positions count by their `weight` where the batch has one. With one cluster or `intent_weight` 0 there is no
        intent loss, and what only it reads is not computed.

        Args:
            inputs: `user` `[B]`, `history`, `target`, `target_cluster` `[B, L]` and `negatives` `[B, L, n]`, 0 where
                padded; of a log with weights also `weight` `[B, L]` float32; with `reads_times` also `elapsed`
                `[B, L]` int64, the time from each history item to its target.
            training: switches dropout on, and makes the items that losses draw differ from step to step.
        """
        stream = self.stream_of(self.optimizer.iterations) if training else None
        items = self.item_vectors(stream)
        states = self._training_states(inputs, items, stream)
        where = tf.where(states.trained)  # [P, 2]
        targets = Targets(
            tf.gather_nd(inputs["target"], where),
            tf.gather_nd(inputs["target_cluster"], where),
            _negatives(inputs["negatives"], where),
        )
        catalogue = Catalogue(items, self.offsets, self._counts)
        if self._trained_items is not None:
            targets, catalogue = self._trained_items.targets(targets), self._trained_items.catalogue(items)
        losses = self._loss_function(
            tf.gather_nd(states.retrieval, where),
            targets,
            catalogue,
            self._train_config,
            self._product_dtype,
            substream(stream, "loss"),
        )
        loss = _mean(losses, _weights(inputs, where), self._retrieval_loss)
        if not self._learns_intent:  # nobody reads the intent states then, and TensorFlow prunes what computes them
            return loss

        where = tf.where(inputs["target"] > 0)
        logits = self._intent(tf.gather_nd(states.intent, where), catalogue, substream(stream, "intent"))
        labels = tf.gather_nd(inputs["target_cluster"], where)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        intent_loss = _mean(losses, _weights(inputs, where), self._intent_loss)
        return loss + self._intent_weight * intent_loss

    def train_step(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """As `tfrs.Model`, whose `loss` is that of the last batch: here all figures are means over the epoch so far.

        The mean is over positions by their weights, those of all replicas; `loss` is what the two others make of it.
        """
        super().train_step(inputs)
        figures = {metric.name: metric.result() for metric in self.metrics}
        return figures | {"loss": figures["retrieval_loss"] + self._intent_weight * figures.get("intent_loss", 0.0)}

    def training_states(self, inputs: dict[str, tf.Tensor], stream: Stream | None) -> TrainingStates:
        """States of a batch, and which of its positions have a retrieval loss.

        Args:
            inputs: as `compute_loss` takes them.
            stream: of a training step; None switches dropout off.
        """
        return self._training_states(inputs, self.item_vectors(stream), stream)

    def _training_states(self, inputs, items, stream):
        hidden = substream(stream, "times")
        elapsed = hide_times(inputs["elapsed"], self._hidden_times, hidden) if self.reads_times else None
        windows = Windows(
            users=inputs["user"],
            tokens=self._embed(items, inputs["history"], elapsed),
            targets=_rows(items, inputs["target"]),
            clusters=inputs["target_cluster"],
            has_target=inputs["target"] > 0,
            elapsed=elapsed,
        )
        return self._encoder.training_states(windows, substream(stream, "encoder"))

    def stream_of(self, step: tf.Tensor) -> Stream:
        """The stream of everything random in one training step; each of R replicas counts R to a step."""
        replicas = _replicas()
        replica = tf.cast(replicas.replica_id_in_sync_group, tf.int64)
        return Stream.at(self._seed, tf.cast(step, tf.int64) * replicas.num_replicas_in_sync + replica)

    def user_vectors(self, history: tf.Tensor, elapsed: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Encodes histories for retrieval.

        Args:
            history: `[B, L]` int32 item indices, oldest first, right-padded with 0, L <= max_length.
            elapsed: `[B, L]` int64 time from each item to the next, from the last to the request, below 0 where it is
                unknown; None where all are. Read with `reads_times` only.

        Returns:
            `[B, V, D]` user vectors (V is K with `vectors_per_cluster`, else any number) and `[B, K]` log p(cluster of
            the next item). A row without items gives finite, meaningless values: callers answer it from a prior.
        """
        histories = self._histories(history, elapsed)
        vectors = self._encoder.user_vectors(histories)
        return vectors.retrieval, self._log_intent(vectors.intent, histories.items)

    def log_intent(self, history: tf.Tensor, elapsed: tf.Tensor | None = None) -> tf.Tensor:
        """The `[B, K]` of `user_vectors` alone; of encoders with `encode_per_vector`."""
        histories = self._histories(history, elapsed)
        return self._log_intent(self._encoder.intent_state(histories), histories.items)

    def wanted_vectors(self, history: tf.Tensor, wanted: tf.Tensor, elapsed: tf.Tensor | None = None) -> tf.Tensor:
        """The `[B, K, D]` of `user_vectors` where `wanted` `[B, K]` bool, zeros elsewhere; encoders as `log_intent`."""
        return self._encoder.wanted_vectors(self._histories(history, elapsed), wanted)

    def _histories(self, history, elapsed):
        if not self.reads_times:
            elapsed = None
        elif elapsed is None:
            elapsed = tf.fill(tf.shape(history), tf.constant(UNKNOWN_TIME, tf.int64))
        lengths = tf.reduce_sum(tf.cast(history > 0, tf.int32), axis=1)
        rows = tf.reshape(tf.maximum(history - 1, 0), [-1])
        clusters = tf.reshape(tf.searchsorted(tf.constant(self.offsets[1:]), rows, side="right"), tf.shape(history))
        items = self.item_vectors()
        return Histories(self._embed(items, history, elapsed), clusters, lengths, items, elapsed)

    def _log_intent(self, states, items):
        return tf.nn.log_softmax(self._intent(states, Catalogue(items, self.offsets, self._counts)))

    def _embed(self, vectors, items, elapsed=None):
        """Item vectors `[N, D]`, `[B, L]` item indices and, unless None, times -> tokens `[B, L, D]`."""
        tokens = _rows(vectors, items) * vectors.shape[1] ** 0.5
        return tokens if elapsed is None else tokens + self._gaps(elapsed)


def _rows(vectors, items):
    """Item vectors `[N, D]`, `[B, L]` item indices -> `[B, L, D]`; padding gets those of some item, which nobody reads.

    Of a tensor: a gather on the variable itself (ResourceGather) switches it to copy-on-read for good, and the exact
    index would then copy the whole item matrix once per cluster and request.
    """
    return tf.gather(vectors, tf.maximum(items - 1, 0))


def _negatives(negatives, where):
    """`[B, L, n]` at positions `[P, 2]` -> `[P, n]`; TensorFlow gathers nothing from what is empty."""
    count = negatives.shape[2]
    return tf.zeros([tf.shape(where)[0], 0], tf.int32) if count == 0 else tf.gather_nd(negatives, where)


def _weights(inputs, where):
    """Weights of positions, `[P]` of `where` `[P, 2]`; None where the log has none."""
    return tf.gather_nd(inputs["weight"], where) if "weight" in inputs else None


def _mean(losses, weights, metric):
    """This replica's share of the mean of `[P]` over all replicas, which the sum of their gradients is that of.

    It is the mean by `weights` `[P]`, or of equal ones where they are None; 0 where nothing has a weight. Alone, the
    share is the mean. `metric` counts the mean of all replicas by the weights of all of them.
    """
    total = tf.cast(tf.size(losses), tf.float32) if weights is None else tf.reduce_sum(weights)
    weighted = losses if weights is None else weights * losses
    total = _over_replicas(total)
    share = tf.math.divide_no_nan(tf.reduce_sum(weighted), total)
    metric.update_state(_over_replicas(share), total)
    return share


def _over_replicas(value):
    """Sum of a scalar over all replicas."""
    replicas = _replicas()
    return value if replicas.num_replicas_in_sync == 1 else replicas.all_reduce(tf.distribute.ReduceOp.SUM, value)


def _replicas():
    return tf.distribute.get_replica_context()
