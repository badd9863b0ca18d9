"""The intent model: which cluster the next item is in, learned by a head of its own or read off the items' scores.

All take intent states `[P, D]`, which no task prompt has touched, and give logits `[P, K]`.
"""

import itertools
from typing import Any

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.config import ModelConfig, TrainConfig
from tfdnc.contracts.items import cluster_prior
from tfdnc.model.catalogue import Catalogue
from tfdnc.model.layers import Dense
from tfdnc.model.losses.draws import draw_from_pools
from tfdnc.model.randomness import Stream

AUTO_ITEMS = 20_000
"""`model.intent: auto` is `partition` for catalogues of at most so many items: a request scores all of them once."""

_EXPONENT = 0.5  # of the counts that items are drawn by: on the log below, uniform draws reach .319, 1 the same


def make_intent(
    config: ModelConfig, train: TrainConfig, offsets: tuple[int, ...], product_dtype: tf.DType
) -> keras.layers.Layer:
    """Returns the intent model that `config.intent` asks for; with one cluster, which leaves nothing to learn, a head.

    One that is not to be learned (`intent_weight` 0) is the prior.

    Args:
        config: `intent` and `dim`.
        train: `intent_items` and `intent_weight`.
        offsets: K + 1 item counts; cluster k is item rows offsets[k] .. offsets[k + 1] - 1.
        product_dtype: of products with many items.
    """
    num_clusters, num_items = len(offsets) - 1, offsets[-1]
    if train.intent_weight == 0:
        return PriorIntent(name="intent_prior")
    few = config.intent == "auto" and num_items <= AUTO_ITEMS
    if num_clusters > 1 and (few or config.intent == "partition"):
        return PartitionIntent(num_clusters, train.intent_items, product_dtype, name="intent")
    return HeadIntent(config.dim, num_clusters, name="intent_head")


class HeadIntent(keras.layers.Layer):
    """Two layers of its own: the paper's separate intent model, on the shared trunk.

    In a full softmax the share of a cluster is a sum of exp(score) over its hundreds of items. A linear map of the same
    state to K numbers cannot follow that, and costs the retrieval that shares the state (MovieLens-1M, `dnc_naive`
    after 20 of 40 epochs: validation R@20 .404 with one layer, .416 with two).
    """

    def __init__(self, dim: int, num_clusters: int, **kwargs: Any):
        super().__init__(**kwargs)
        self._inner = Dense(dim, 4 * dim, tf.float32, name="inner")
        self._outer = Dense(4 * dim, num_clusters, tf.float32, name="outer")

    def call(self, states: tf.Tensor, catalogue: Catalogue, stream: Stream | None = None) -> tf.Tensor:
        """Logits of the next item's cluster; reads the states alone."""
        del catalogue, stream
        return self._outer(tf.nn.relu(self._inner(states)))


class PriorIntent(keras.layers.Layer):
    """The share of the training events in each cluster, whoever asks: a head that nobody trained would be noise."""

    def call(self, states: tf.Tensor, catalogue: Catalogue, stream: Stream | None = None) -> tf.Tensor:
        """Logits of the next item's cluster; reads the counts alone."""
        del stream
        prior = cluster_prior(catalogue.counts, catalogue.offsets)
        return tf.repeat(tf.constant(np.log(prior), tf.float32)[None], tf.shape(states)[0], axis=0)


class PartitionIntent(keras.layers.Layer):
    """p(k) ~ exp(b_k) sum over i in C_k of exp(h . v_i): what a softmax over all items says of a cluster (ours).

    A head learns p(k) from K classes alone, and where users have few events it learns them by heart. The items' own
    vectors do not let it, and they learn from it how clusters lie to each other. With one user vector and the loss
    `in_cluster_softmax` the sum of both losses is that of the full softmax, and the joint merge is its list.

    In training, a cluster of more than `drawn` items is estimated from as many draws. On MovieLens-1M cut down to nine
    events a user, with clusters of 56 to 634 items, 96 draws do as well as all items (validation R@20 .325 and .327; a
    head .306).

    Args:
        num_clusters: K.
        drawn: items that stand for a larger cluster in a training step.
        product_dtype: of the product of states and items.
    """

    def __init__(self, num_clusters: int, drawn: int, product_dtype: tf.DType, **kwargs: Any):
        super().__init__(**kwargs)
        self._drawn = drawn
        self._product_dtype = product_dtype
        self._bias = self.add_weight(name="bias", shape=[num_clusters], initializer="zeros")

    def call(self, states: tf.Tensor, catalogue: Catalogue, stream: Stream | None = None) -> tf.Tensor:
        """Logits of the next item's cluster; `stream` draws as losses do, None scores every item."""
        if stream is None:
            # One cluster after the other: the scores of thousands of users and all items would not fit.
            bounds = itertools.pairwise(catalogue.offsets)
            scores = [self._scores(states, catalogue.embeddings[start:stop]) for start, stop in bounds]
        else:
            rows, sizes, log_expected = self._draw(catalogue, stream)
            scores = self._scores(states, tf.gather(catalogue.embeddings, rows)) - log_expected
            scores = tf.split(scores, sizes, axis=1)
        return tf.stack([tf.reduce_logsumexp(own, axis=1) for own in scores], axis=1) + self._bias

    def _scores(self, states, vectors):
        """`[P, D]`, `[n, D]` -> `[P, n]` float32."""
        product = tf.matmul(
            tf.cast(states, self._product_dtype), tf.cast(vectors, self._product_dtype), transpose_b=True
        )
        return tf.cast(product, tf.float32)

    def _draw(self, catalogue, stream):
        """Rows that stand for the clusters, how many each cluster has, and the log of how often each is drawn."""
        draws = draw_from_pools(catalogue.counts, catalogue.offsets, self._drawn, _EXPONENT, stream)
        rows, sizes, log_expected = [], [], []
        for (start, stop), drawn in zip(itertools.pairwise(catalogue.offsets), draws, strict=True):
            sizes.append(stop - start if drawn is None else self._drawn)
            rows.append(tf.range(start, stop) if drawn is None else start + drawn.rows)
            log_expected.append(tf.zeros([sizes[-1]]) if drawn is None else drawn.log_expected)
        return tf.concat(rows, axis=0), sizes, tf.concat(log_expected, axis=0)
