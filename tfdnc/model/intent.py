"""Intent models: probability of the next item's cluster, from a head, from the scores of the items, or from counts.

All map intent states `[P, D]`, which depend on no task prompt, to logits `[P, K]`; `HistoryIntent` maps histories. No
user vector depends on the intent model, so a tower may be given another one after its training.
"""

import itertools
from typing import Any, ClassVar, Literal

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.items import cluster_prior
from tfdnc.contracts.model_config import ModelConfig, TrainConfig
from tfdnc.model.catalogue import Catalogue
from tfdnc.model.encoders.base import Histories
from tfdnc.model.layers import Dense
from tfdnc.model.losses.draws import draw_from_pools
from tfdnc.model.randomness import Stream

CHEAP_ITEMS = 20_000
"""Largest catalogue for which `model.intent: auto` is `partition` at any number of events: scoring it costs little."""

MOST_ITEMS = 200_000
"""Largest catalogue for which `auto` is `partition` on a sparse log; every request scores all items once."""

SPARSE_EVENTS = 100
"""Training events per trained item, below which a log is sparse: a head overfits there (docs/results.md)."""

IntentKind = Literal["prior", "head", "partition", "history"]
"""Names of the intent models, as `model.intent` calls them; `prior` is that of `train.intent_weight: 0`."""

UntrainedKind = Literal["prior", "history"]
"""Names of those that read counts alone."""

_EXPONENT = 0.5  # of the counts by which items are drawn; on the log below, exponents 0 and 1 reach .319


def intent_kind(config: ModelConfig, train: TrainConfig, offsets: tuple[int, ...], counts: np.ndarray) -> IntentKind:
    """Returns the intent model of `config.intent`; with one cluster, where there is nothing to learn, a head.

    With `intent_weight` 0 it is the prior, unless the config names the other one that is not trained.

    Args:
        config: `intent`.
        train: `intent_weight`.
        offsets: K + 1 item counts.
        counts: `[N]` training events of each item, by which `auto` decides.
    """
    if train.intent_weight == 0 and config.intent != "history":
        return "prior"
    if len(offsets) == 2:
        return "head"
    return config.intent if config.intent != "auto" else auto_intent(counts)


def auto_intent(counts: np.ndarray) -> Literal["head", "partition"]:
    """Returns the choice of `model.intent: auto` for items with `[N]` training events.

    A partition needs no events of its own, but its cost in a request grows with the items. So a head is for catalogues
    that are large, and have enough events to train one; or larger still.
    """
    num_items = len(counts)
    if num_items <= CHEAP_ITEMS:
        return "partition"
    sparse = counts.sum() < SPARSE_EVENTS * np.count_nonzero(counts)
    return "partition" if sparse and num_items <= MOST_ITEMS else "head"


def make_intent(
    kind: IntentKind,
    config: ModelConfig,
    train: TrainConfig,
    offsets: tuple[int, ...],
    product_dtype: tf.DType,
) -> "IntentModel":
    """Returns the intent model of a kind.

    Args:
        kind: see `intent_kind`.
        config: `intent_width` and `dim`.
        train: `intent_items`.
        offsets: K + 1 item counts; cluster k is item rows offsets[k] .. offsets[k + 1] - 1.
        product_dtype: dtype of products with many items.
    """
    num_clusters = len(offsets) - 1
    if kind == "prior" or kind == "history":
        return untrained_intent(kind, num_clusters)
    if kind == "partition":
        return PartitionIntent(num_clusters, train.intent_items, product_dtype, name="intent")
    return HeadIntent(config.dim, num_clusters, config.intent_width, name="intent_head")


def untrained_intent(kind: UntrainedKind, num_clusters: int) -> "IntentModel":
    """Returns an intent model that reads counts alone, for K clusters."""
    if kind == "prior":
        return PriorIntent(name="intent_prior", trainable=False)
    return HistoryIntent(num_clusters, name="intent_history", trainable=False)


class IntentModel(keras.layers.Layer):
    """Base of the intent models: a request needs probabilities, the loss of a training logits.

    A call takes states `[P, D]`, the catalogue and the stream of a training step, and returns logits `[P, K]`.
    """

    kind: ClassVar[IntentKind]

    def of_requests(self, states: tf.Tensor, histories: Histories, catalogue: Catalogue) -> tf.Tensor:
        """Returns log p(cluster of the next item) `[B, K]` of histories with these states `[B, D]`."""
        del histories
        return tf.nn.log_softmax(self(states, catalogue))


class HeadIntent(IntentModel):
    """Two layers on the shared trunk: the separate intent model of the paper.

    In a full softmax the share of a cluster is a sum of exp(score) over its hundreds of items. A linear map of the same
    state to K numbers cannot represent that, and training it harms retrieval, which shares the state. On MovieLens-1M,
    `dnc_naive` after 20 of 40 epochs has validation R@20 .404 with one layer and .416 with two.

    Args:
        dim: D.
        num_clusters: K.
        width: of the hidden layer, as a multiple of D. With 4 the head is a seventh of a training step where one encode
            serves all clusters, with 1 a twentieth.
    """

    kind: ClassVar[IntentKind] = "head"

    def __init__(self, dim: int, num_clusters: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._inner = Dense(dim, width * dim, tf.float32, name="inner")
        self._outer = Dense(width * dim, num_clusters, tf.float32, name="outer")

    def call(self, states: tf.Tensor, catalogue: Catalogue, stream: Stream | None = None) -> tf.Tensor:
        """Returns logits of the next item's cluster, from the states alone."""
        del catalogue, stream
        return self._outer(tf.nn.relu(self._inner(states)))


class PriorIntent(IntentModel):
    """Share of the training events in each cluster, the same for all users; an untrained head would be noise."""

    kind: ClassVar[IntentKind] = "prior"

    def call(self, states: tf.Tensor, catalogue: Catalogue, stream: Stream | None = None) -> tf.Tensor:
        """Returns logits of the next item's cluster, from the counts alone."""
        del stream
        prior = cluster_prior(catalogue.counts, catalogue.offsets)
        return tf.repeat(tf.constant(np.log(prior), tf.float32)[None], tf.shape(states)[0], axis=0)


class HistoryIntent(IntentModel):
    """Shares of the user's own events in each cluster, with add-one smoothing; nothing is trained.

    Args:
        num_clusters: K.
    """

    kind: ClassVar[IntentKind] = "history"

    def __init__(self, num_clusters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._num_clusters = num_clusters

    def call(self, clusters: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Returns logits `[B, K]` from the clusters `[B, L]` of histories with these lengths `[B]`."""
        there = tf.sequence_mask(lengths, tf.shape(clusters)[1])
        events = tf.one_hot(tf.where(there, clusters, -1), self._num_clusters)  # nothing for padding
        return tf.math.log(tf.reduce_sum(events, axis=1) + 1.0)

    def of_requests(self, states: tf.Tensor, histories: Histories, catalogue: Catalogue) -> tf.Tensor:
        """See `IntentModel`; from the histories alone."""
        del states, catalogue
        return tf.nn.log_softmax(self(histories.clusters, histories.lengths))


class PartitionIntent(IntentModel):
    """p(k) ~ exp(b_k) sum over i in C_k of exp(h . v_i): the share of a cluster in a softmax over all items (ours).

    A head is trained on K classes alone, and overfits where users have few events. The item vectors prevent that, and
    this loss trains them to separate clusters. With one user vector and the loss `in_cluster_softmax` the sum of both
    losses is that of the full softmax, and the joint merge gives its list.

    In training, a cluster of more than `drawn` items is estimated from `drawn` samples. On MovieLens-1M cut down to
    nine events a user, with clusters of 56 to 634 items, 96 samples are as good as all items: validation R@20 .325 and
    .327. A head has .306.

    Args:
        num_clusters: K.
        drawn: items sampled from a larger cluster in a training step.
        product_dtype: dtype of the product of states and items.
    """

    kind: ClassVar[IntentKind] = "partition"

    def __init__(self, num_clusters: int, drawn: int, product_dtype: tf.DType, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._drawn = drawn
        self._product_dtype = product_dtype
        self._bias = self.add_weight(name="bias", shape=[num_clusters], initializer="zeros")

    def call(self, states: tf.Tensor, catalogue: Catalogue, stream: Stream | None = None) -> tf.Tensor:
        """Returns logits of the next item's cluster; with a `stream` on sampled items, without on all items."""
        if stream is None:
            # One cluster after the other: the scores of thousands of users and all items would not fit into memory.
            bounds, vectors = itertools.pairwise(catalogue.offsets), tf.convert_to_tensor(catalogue.embeddings)
            scores = [self._scores(states, vectors[start:stop]) for start, stop in bounds]
        else:
            rows, sizes, log_expected = self._draw(catalogue, stream)
            scores = self._scores(states, catalogue.pool().gather(rows)) - log_expected
            scores = tf.split(scores, sizes, axis=1)
        return tf.stack([tf.reduce_logsumexp(own, axis=1) for own in scores], axis=1) + self._bias

    def _scores(self, states: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
        """`[P, D]`, `[n, D]` -> `[P, n]` float32."""
        product = tf.matmul(
            tf.cast(states, self._product_dtype), tf.cast(vectors, self._product_dtype), transpose_b=True
        )
        return tf.cast(product, tf.float32)

    def _draw(self, catalogue: Catalogue, stream: Stream) -> tuple[tf.Tensor, list[int], tf.Tensor]:
        """Rows of sampled items, their number in each cluster, and the log of the expected draws of each row."""
        draws = draw_from_pools(catalogue.counts, catalogue.offsets, self._drawn, _EXPONENT, stream)
        rows, sizes, log_expected = [], [], []
        for (start, stop), drawn in zip(itertools.pairwise(catalogue.offsets), draws, strict=True):
            sizes.append(stop - start if drawn is None else self._drawn)
            rows.append(tf.range(start, stop) if drawn is None else start + drawn.rows)
            log_expected.append(tf.zeros([sizes[-1]]) if drawn is None else drawn.log_expected)
        return tf.concat(rows, axis=0), sizes, tf.concat(log_expected, axis=0)
