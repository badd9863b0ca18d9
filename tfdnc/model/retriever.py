"""The retriever: a TFRS model that trains a tower, on any loss and with an intent model of its own."""

import tensorflow_recommenders as tfrs

from tfdnc.backend import keras, tf
from tfdnc.contracts.config import TrainConfig
from tfdnc.model.catalogue import Targets
from tfdnc.model.encoders import TrainingStates, Windows
from tfdnc.model.gaps import hide_times
from tfdnc.model.item_tower import FeaturedItems, TrainedItems
from tfdnc.model.losses import LOSSES
from tfdnc.model.precision import resolve_precision
from tfdnc.model.randomness import Stream, substream
from tfdnc.model.tower import Tower, rows_of


class Retriever(tfrs.Model):
    """Training of a tower as one Keras model; K = 1 is the classic single retriever.

    Nothing in it is read after training: evaluation and export take its `tower`.

    Args:
        tower: what is trained.
        train: loss, intent weight, and precision of the matrix products.
        seed: fixes dropout, and the items that losses draw.
    """

    def __init__(self, tower: Tower, train: TrainConfig, seed: int):
        super().__init__(name="retriever")
        self.tower = tower
        self._seed = seed
        self._train_config = train
        self.distribute_reduction_method = "first"  # what a step returns is of all replicas; Keras would sum it up
        self._loss_function = LOSSES.resolve(train.loss)
        self._intent_weight = train.intent_weight
        self._product_dtype = resolve_precision(train.precision)
        self._hidden_times = train.hidden_times
        featured = isinstance(tower.items, FeaturedItems)
        self._trained_items = TrainedItems(tower.counts, tower.offsets) if featured else None
        self._retrieval_loss = keras.metrics.Mean(name="retrieval_loss")
        # Where there is no intent to learn there is no loss to show either.
        self._learns_intent = tower.intent.trainable
        if self._learns_intent:
            self._intent_loss = keras.metrics.Mean(name="intent_loss")

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
        items = self._item_vectors(stream)
        states = self._training_states(inputs, items, stream)
        where = tf.where(states.trained)  # [P, 2]
        targets = Targets(
            tf.gather_nd(inputs["target"], where),
            tf.gather_nd(inputs["target_cluster"], where),
            _negatives(inputs["negatives"], where),
        )
        catalogue = self.tower.catalogue(items)
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
        logits = self.tower.intent(tf.gather_nd(states.intent, where), catalogue, substream(stream, "intent"))
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
        return self._training_states(inputs, self._item_vectors(stream), stream)

    def _item_vectors(self, stream):
        return self.tower.item_vectors(substream(stream, "items"))

    def _training_states(self, inputs, items, stream):
        hidden = substream(stream, "times")
        elapsed = hide_times(inputs["elapsed"], self._hidden_times, hidden) if self.tower.reads_times else None
        windows = Windows(
            users=inputs["user"],
            tokens=self.tower.tokens(items, inputs["history"], elapsed),
            targets=rows_of(items, inputs["target"]),
            clusters=inputs["target_cluster"],
            has_target=inputs["target"] > 0,
            elapsed=elapsed,
        )
        return self.tower.encoder.training_states(windows, substream(stream, "encoder"))

    def stream_of(self, step: tf.Tensor) -> Stream:
        """The stream of everything random in one training step; each of R replicas counts R to a step."""
        replicas = _replicas()
        replica = tf.cast(replicas.replica_id_in_sync_group, tf.int64)
        return Stream.at(self._seed, tf.cast(step, tf.int64) * replicas.num_replicas_in_sync + replica)


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
