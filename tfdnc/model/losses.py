"""What a positive must beat: the training losses, as pure functions of user states and item embeddings.

Every loss takes the same arguments and returns one value per position `[P]`, so a config can name any of them:

    states: `[P, D]` user states, one per position that has a target.
    targets: a `Targets` of P positions.
    item_embeddings: `[N, D]`, row i is item i + 1 (index 0 is padding and has no row).
    offsets: K + 1 item counts; cluster k is rows offsets[k] .. offsets[k + 1] - 1 (see `schema.ITEMS`).
    dtype: dtype of the large matrix products; logits are float32 afterwards.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

from tfdnc.backend import tf
from tfdnc.registry import Registry


class Targets(NamedTuple):
    """The positions that are trained."""

    items: tf.Tensor  # [P] int, item indices 1..N
    clusters: tf.Tensor  # [P] int, their clusters
    negatives: tf.Tensor  # [P, n] int, 0 where the cluster had no item left


Loss = Callable[[tf.Tensor, Targets, tf.Tensor, tuple[int, ...], tf.DType], tf.Tensor]
LOSSES: Registry[Loss] = Registry("loss")


@LOSSES.register("bce")
def binary_cross_entropy(states, targets, item_embeddings, offsets, dtype):
    """-log s(r+) - mean over negatives of log(1 - s(r-)), r = state . item: Eq. 2, or Eq. 3 on in-cluster negatives.

    The negatives are those of the records, so the sampler of the examples job decides which equation it is. A padded
    negative (exhausted cluster) carries no weight. log(1 - s(r)) = log s(-r) is the stable form.
    """
    del offsets, dtype
    positive = tf.gather(item_embeddings, targets.items - 1)  # [P, D]
    present = tf.cast(targets.negatives > 0, tf.float32)  # [P, n]
    negative = tf.gather(item_embeddings, tf.maximum(targets.negatives - 1, 0))  # [P, n, D]
    positive_loss = tf.nn.softplus(-tf.reduce_sum(states * positive, axis=-1))
    negative_loss = tf.nn.softplus(tf.einsum("pd,pnd->pn", states, negative)) * present
    return positive_loss + tf.math.divide_no_nan(tf.reduce_sum(negative_loss, axis=-1), tf.reduce_sum(present, axis=-1))


@LOSSES.register("softmax")
def full_softmax(states, targets, item_embeddings, offsets, dtype):
    """-log softmax over all N items (Klenitskiy & Vasilev 2023): the strong form of the single retriever."""
    del offsets
    return _cross_entropy(states, targets.items - 1, item_embeddings, dtype)


@LOSSES.register("in_cluster_softmax")
def in_cluster_softmax(states, targets, item_embeddings, offsets, dtype):
    """-log softmax over the items of the target's own cluster: Eq. 3 with every item of C_k as a negative (ours).

    Positions are partitioned by cluster, so K products of `[P_k, D] x [D, n_k]` replace one `[P, D] x [D, N]`:
    about N / n_k times cheaper than masking full logits. A cluster of one item has loss 0.
    """
    clusters = tf.cast(targets.clusters, tf.int32)
    num_clusters = len(offsets) - 1
    places = tf.dynamic_partition(tf.range(tf.size(clusters)), clusters, num_clusters)
    states_of = tf.dynamic_partition(states, clusters, num_clusters)
    items_of = tf.dynamic_partition(targets.items - 1, clusters, num_clusters)
    sizes = [stop - start for start, stop in itertools.pairwise(offsets)]
    losses = [
        _cross_entropy(states_of[k], items_of[k] - offsets[k], embeddings, dtype)
        for k, embeddings in enumerate(tf.split(item_embeddings, sizes))
    ]
    return tf.dynamic_stitch(places, losses)


def _cross_entropy(states, labels, embeddings, dtype):
    """-log softmax(states . embeddings^T)[label]: `[P, D]`, `[P]`, `[n, D]` -> `[P]`."""
    logits = tf.matmul(tf.cast(states, dtype), tf.cast(embeddings, dtype), transpose_b=True)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=tf.cast(logits, tf.float32))
