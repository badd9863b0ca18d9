"""Softmax losses: the target against all items, or those of its cluster, or a sample of them."""

from tfdnc.backend import tf
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.model.catalogue import Catalogue, Pool, Targets
from tfdnc.model.losses.base import LOSSES, by_cluster
from tfdnc.model.losses.chunks import chunked_cross_entropy
from tfdnc.model.losses.draw_sources import DRAW_SOURCES
from tfdnc.model.losses.draws import Draws, score_competitors
from tfdnc.model.randomness import Stream

WHOLE_ITEMS = 50_000
"""Largest catalogue whose scores are in memory all together; the gradients of all clusters need them at one time."""


@LOSSES.register("softmax")
def full_softmax(
    states: tf.Tensor,
    targets: Targets,
    catalogue: Catalogue,
    train: TrainConfig,
    dtype: tf.DType,
    stream: Stream | None,
) -> tf.Tensor:
    """-log softmax over all N items (Klenitskiy & Vasilev 2023), a strong single retriever."""
    del train, stream
    return _whole_cross_entropy(states, targets.items - 1, catalogue.pool(), catalogue, dtype)


@LOSSES.register("in_cluster_softmax")
def in_cluster_softmax(
    states: tf.Tensor,
    targets: Targets,
    catalogue: Catalogue,
    train: TrainConfig,
    dtype: tf.DType,
    stream: Stream | None,
) -> tf.Tensor:
    """-log softmax over the items of the target's own cluster: Eq. 3 with every item of C_k as a negative (ours).

    About N / n_k times cheaper than masking full logits. A cluster of one item has loss 0.
    """
    del train, stream
    return by_cluster(
        lambda _, own_states, labels, pool: _whole_cross_entropy(own_states, labels, pool, catalogue, dtype),
        states,
        targets,
        catalogue,
    )


@LOSSES.register("sampled_softmax")
def sampled_softmax(
    states: tf.Tensor,
    targets: Targets,
    catalogue: Catalogue,
    train: TrainConfig,
    dtype: tf.DType,
    stream: Stream | None,
) -> tf.Tensor:
    """`sampled_cross_entropy` against n = `num_negatives` items, drawn per step from the source `train.draws`.

    A catalogue of at most n items is scored whole, as by `softmax`.
    """
    draw = DRAW_SOURCES.resolve(train.draws)(catalogue, (0, catalogue.num_items), train, stream)
    labels = targets.items - 1
    return _cross_entropy_on(draw(0, labels), states, labels, catalogue.pool(), catalogue, dtype)


@LOSSES.register("in_cluster_sampled_softmax")
def in_cluster_sampled_softmax(
    states: tf.Tensor,
    targets: Targets,
    catalogue: Catalogue,
    train: TrainConfig,
    dtype: tf.DType,
    stream: Stream | None,
) -> tf.Tensor:
    """`sampled_softmax` inside the target's own cluster, with n draws per cluster and step.

    A cluster of at most n items is scored whole, as by `in_cluster_softmax`; one of one item has loss 0.
    """
    draw = DRAW_SOURCES.resolve(train.draws)(catalogue, catalogue.offsets, train, stream)
    return by_cluster(
        lambda k, own_states, labels, pool: _cross_entropy_on(
            draw(k, labels), own_states, labels, pool, catalogue, dtype
        ),
        states,
        targets,
        catalogue,
    )


def cross_entropy(states: tf.Tensor, labels: tf.Tensor, embeddings: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """-log softmax(states . embeddings^T)[label]: `[P, D]`, `[P]`, `[pool, D]` -> `[P]`."""
    logits = tf.matmul(tf.cast(states, dtype), tf.cast(embeddings, dtype), transpose_b=True)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=tf.cast(logits, tf.float32))


def sampled_cross_entropy(states: tf.Tensor, labels: tf.Tensor, pool: Pool, draws: Draws, dtype: tf.DType) -> tf.Tensor:
    """-log of exp(r+) / (exp(r+) + sum over draws j that are not the target of exp(r_j) / (n q_j)): `[P]`.

    The weights are those of `score_competitors`. The target is always included with weight 1. The expected denominator
    is then the sum over the whole pool, for any n and q. The loss and its gradient depend on the log and the inverse of
    the denominator, and approach those of `cross_entropy` as n grows.

    Args:
        states: `[P, D]`.
        labels: `[P]` int, rows of the targets inside the pool.
        pool: the items.
        draws: n draws from the pool.
        dtype: dtype of the product.
    """
    positive, competing = score_competitors(states, labels, pool, draws, dtype)
    logits = tf.concat([positive[:, None], competing], axis=1)  # [P, 1 + n + H]
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.zeros_like(labels), logits=logits)


def _cross_entropy_on(
    draws: Draws | None, states: tf.Tensor, labels: tf.Tensor, pool: Pool, catalogue: Catalogue, dtype: tf.DType
) -> tf.Tensor:
    """Cross entropy on the draws, or on the whole pool if they are None."""
    if draws is None:
        return _whole_cross_entropy(states, labels, pool, catalogue, dtype)
    return sampled_cross_entropy(states, labels, pool, draws, dtype)


def _whole_cross_entropy(
    states: tf.Tensor, labels: tf.Tensor, pool: Pool, catalogue: Catalogue, dtype: tf.DType
) -> tf.Tensor:
    """Cross entropy on a whole pool; in a large catalogue from one chunk of items after the other."""
    compute = chunked_cross_entropy if catalogue.num_items > WHOLE_ITEMS else cross_entropy
    return compute(states, labels, pool.whole(), dtype)
