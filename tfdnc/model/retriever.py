"""Retriever: a TFRS model that trains a tower with any loss, and an intent model beside it."""

import tensorflow_recommenders as tfrs

from tfdnc.backend import keras, tf
from tfdnc.contracts.features import EXPOSURES, WEIGHT
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.model.auxiliary import AUXILIARIES, Views, draw_masked
from tfdnc.model.catalogue import Catalogue, Targets
from tfdnc.model.encoders import TrainingStates, Windows
from tfdnc.model.hard_items import HardItems
from tfdnc.model.item_tower import FeaturedItems, TrainedItems
from tfdnc.model.losses import LOSSES
from tfdnc.model.precision import resolve_precision
from tfdnc.model.randomness import Stream, substream
from tfdnc.model.tower import Tower, rows_of


class Retriever(tfrs.Model):
    """Training of a tower as one Keras model; K = 1 is the classic single retriever.

    Evaluation and export read its `tower` alone.

    Args:
        tower: the tower to train.
        train: loss, intent weight, and precision of the matrix products.
        seed: fixes dropout, and the items that losses draw.
        by_row: whether a step reads single rows of the item embeddings, so that their gradient has only these rows;
            for an optimiser that updates no others. The losses are the same.
    """

    def __init__(self, tower: Tower, train: TrainConfig, seed: int, by_row: bool = False) -> None:
        super().__init__(name="retriever")
        self.tower: Tower = tower
        self._seed = seed
        self._by_row = by_row
        self._train_config = train
        self.distribute_reduction_method = "first"  # a step returns figures of all replicas; Keras would sum them
        self._loss_function = LOSSES.resolve(train.loss)
        self._intent_weight = train.intent_weight
        self._product_dtype = resolve_precision(train.precision)
        featured = isinstance(tower.items, FeaturedItems)
        self._trained_items = TrainedItems(tower.counts, tower.offsets) if featured else None
        trained = self._trained_catalogue(tower.item_embeddings)
        self.hard_items: HardItems | None = HardItems(trained.offsets, train) if train.draws == "hard" else None
        self._retrieval_loss = keras.metrics.Mean(name="retrieval_loss")
        # Without an intent to train there is no intent loss to show.
        self._learns_intent = tower.intent.trainable
        if self._learns_intent:
            self._intent_loss = keras.metrics.Mean(name="intent_loss")
        self._auxiliaries = {name: AUXILIARIES.resolve(name) for name in train.auxiliary}
        self._auxiliary_losses = {name: keras.metrics.Mean(name=f"{name}_loss") for name in train.auxiliary}

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Returns the mean retrieval loss of trained positions, plus weighted means of intent and auxiliary losses.

        The intent loss is over all positions with a target. Means are weighted by `weight` where the batch has one.
        With one cluster or `intent_weight` 0 there is no intent loss, and its inputs are not computed.

        Args:
            inputs: `user` `[B]`, `history`, `target`, `target_cluster` `[B, L]` and `negatives` `[B, L, n]`, 0 where
                padded; of a log with weights also `weight` `[B, L]` float32; and `[B, L]` of every declared input that
                the tower reads by its key, such as `elapsed` int64, the time from each history item to its target;
                `exposures` `[B, L, W]` also for a loss that reads them.
            training: True switches dropout on, and losses draw other items in every step.
        """
        stream = self.stream_of(self.optimizer.iterations) if training else None
        items = self._item_vectors(stream)
        states = self._training_states(inputs, items, stream, substream(stream, "encoder"))
        where = tf.where(states.trained)  # [P, 2]
        targets = Targets(
            tf.gather_nd(inputs["target"], where),
            tf.gather_nd(inputs["target_cluster"], where),
            _negatives(inputs["negatives"], where),
            self._exposed(inputs, where),
        )
        catalogue = self._trained_catalogue(items)
        if self._trained_items is not None:
            targets = self._trained_items.targets(targets)
        if self.hard_items is not None:
            catalogue = catalogue._replace(hard=self.hard_items.table)
        losses = self._loss_function(
            tf.gather_nd(states.retrieval, where),
            targets,
            catalogue,
            self._train_config,
            self._product_dtype,
            substream(stream, "loss"),
        )
        loss = _mean(losses, _weights(inputs, where), self._retrieval_loss)
        if self._auxiliaries:
            loss += self._auxiliary_loss(inputs, items, states, stream)
        if not self._learns_intent:  # without a reader of the intent states TensorFlow prunes their computation
            return loss

        where = tf.where(inputs["target"] > 0)
        logits = self.tower.intent(tf.gather_nd(states.intent, where), catalogue, substream(stream, "intent"))
        labels = tf.gather_nd(inputs["target_cluster"], where)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        intent_loss = _mean(losses, _weights(inputs, where), self._intent_loss)
        return loss + self._intent_weight * intent_loss

    def refresh_hard_items(self) -> None:
        """Finds the hard items anew by the present item vectors, for a model with `draws: hard`."""
        if self.hard_items is not None:
            present = self._trained_catalogue(self.tower.item_vectors())
            self.hard_items.refresh(tf.convert_to_tensor(present.embeddings))

    def _trained_catalogue(self, items: tf.Tensor) -> Catalogue:
        """Items that compete with targets, from the vectors `[N, D]` of all."""
        return self.tower.catalogue(items) if self._trained_items is None else self._trained_items.catalogue(items)

    def _exposed(self, inputs: dict[str, tf.Tensor], where: tf.Tensor) -> tf.Tensor | None:
        """Exposures `[P, W]` of positions `[P, 2]`, for a loss that reads them."""
        read = self._train_config.reads_exposures and EXPOSURES.key in inputs
        return tf.gather_nd(inputs[EXPOSURES.key], where) if read else None

    # No branch depends on a tensor. AutoGraph would translate the source of all layers, for seconds of every training.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Trains on a batch and returns means over the epoch so far; `tfrs.Model` returns the loss of the last batch.

        A mean is over the positions of all replicas by their weights; `loss` is computed from the other means.
        """
        super().train_step(inputs)
        figures = {metric.name: metric.result() for metric in self.metrics}
        loss = figures["retrieval_loss"] + self._intent_weight * figures.get("intent_loss", 0.0)
        for name, weight in self._train_config.auxiliary.items():
            loss += weight * figures[f"{name}_loss"]
        return figures | {"loss": loss}

    def training_states(self, inputs: dict[str, tf.Tensor], stream: Stream | None) -> TrainingStates:
        """Returns the states of a batch, and the positions with a retrieval loss.

        Args:
            inputs: as `compute_loss` takes them.
            stream: of a training step; None switches dropout off.
        """
        return self._training_states(inputs, self._item_vectors(stream), stream, substream(stream, "encoder"))

    def _item_vectors(self, stream: Stream | None) -> tf.Tensor:
        own_stream = substream(stream, "items")
        return self.tower.items.rows(own_stream) if self._by_row else self.tower.item_vectors(own_stream)

    def _training_states(
        self,
        inputs: dict[str, tf.Tensor],
        items: tf.Tensor,
        stream: Stream | None,
        encoder_stream: Stream | None,
        masked: tf.Tensor | None = None,
    ) -> TrainingStates:
        beside = self.tower.inputs.hide(inputs, self._train_config, stream)
        windows = Windows(
            users=inputs["user"],
            tokens=self.tower.tokens(items, inputs["history"], beside, masked),
            targets=rows_of(items, inputs["target"]),
            clusters=inputs["target_cluster"],
            has_target=inputs["target"] > 0,
            inputs=beside,
            user_token=self.tower.inputs.user_token(beside),
        )
        return self.tower.encoder.training_states(windows, encoder_stream)

    def _auxiliary_loss(
        self, inputs: dict[str, tf.Tensor], items: tf.Tensor, states: TrainingStates, stream: Stream | None
    ) -> tf.Tensor:
        """Sum of the mean auxiliary losses by their weights, over the positions of all items."""
        history, own_stream = inputs["history"], substream(stream, "auxiliary")
        masked = draw_masked(history, self._train_config.masked_items, own_stream)
        # Both views hide the same inputs, and have dropout masks of their own.
        others = self._training_states(inputs, items, stream, substream(own_stream, "encoder"), masked)
        where = tf.where(history > 0)  # [P, 2]
        parts = states.intent, others.intent, rows_of(items, history), masked
        views = Views(*(tf.gather_nd(part, where) for part in parts))
        total = tf.constant(0.0)
        for name, weight in self._train_config.auxiliary.items():
            total += weight * _mean(self._auxiliaries[name](views), None, self._auxiliary_losses[name])
        return total

    def stream_of(self, step: tf.Tensor) -> Stream:
        """Returns the stream of all random numbers in one step; with R replicas a step has R streams, one each."""
        replicas = _replicas()
        replica = tf.cast(replicas.replica_id_in_sync_group, tf.int64)
        return Stream.at(self._seed, tf.cast(step, tf.int64) * replicas.num_replicas_in_sync + replica)


def _negatives(negatives: tf.Tensor, where: tf.Tensor) -> tf.Tensor:
    """`[B, L, n]` at positions `[P, 2]` -> `[P, n]`; n = 0 apart: TensorFlow cannot gather from an empty tensor."""
    count = negatives.shape[2]
    return tf.zeros([tf.shape(where)[0], 0], tf.int32) if count == 0 else tf.gather_nd(negatives, where)


def _weights(inputs: dict[str, tf.Tensor], where: tf.Tensor) -> tf.Tensor | None:
    """Weights `[P]` of positions `[P, 2]`; None for a log without weights."""
    return tf.gather_nd(inputs[WEIGHT.key], where) if WEIGHT.key in inputs else None


def _mean(losses: tf.Tensor, weights: tf.Tensor | None, metric: keras.metrics.Mean) -> tf.Tensor:
    """This replica's share of the mean loss over all replicas, whose gradients Keras sums.

    The mean is weighted by `weights` `[P]`, equal ones if None, and 0 if all are 0. For a single replica the share is
    the mean. `metric` is updated with the mean of all replicas, weighted by the sum of their weights.
    """
    total = tf.cast(tf.size(losses), tf.float32) if weights is None else tf.reduce_sum(weights)
    weighted = losses if weights is None else weights * losses
    total = _over_replicas(total)
    share = tf.math.divide_no_nan(tf.reduce_sum(weighted), total)
    metric.update_state(_over_replicas(share), total)
    return share


def _over_replicas(value: tf.Tensor) -> tf.Tensor:
    """Sum of a scalar over all replicas."""
    replicas = _replicas()
    return value if replicas.num_replicas_in_sync == 1 else replicas.all_reduce(tf.distribute.ReduceOp.SUM, value)


def _replicas() -> tf.distribute.ReplicaContext:
    return tf.distribute.get_replica_context()
