"""Softmax over a hierarchy: a target above what was shown with it and passed over, and both above all other items.

A list shows what an earlier recommender chose. So an item that was passed over is a harder negative for the target than
a drawn one, and a weaker positive above one.
"""

from tfdnc.backend import tf
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.model.catalogue import Catalogue, Pool, Targets
from tfdnc.model.losses.base import LOSSES, by_cluster
from tfdnc.model.losses.draw_sources import DRAW_SOURCES
from tfdnc.model.losses.draws import NEVER, Draws, score_competitors
from tfdnc.model.randomness import Stream


@LOSSES.register("exposure_softmax")
def exposure_softmax(
    states: tf.Tensor,
    targets: Targets,
    catalogue: Catalogue,
    train: TrainConfig,
    dtype: tf.DType,
    stream: Stream | None,
) -> tf.Tensor:
    """`hierarchy` on n = `num_negatives` items, drawn per step as by `sampled_softmax`; a small catalogue is whole."""
    draw = DRAW_SOURCES.resolve(train.draws)(catalogue, (0, catalogue.num_items), train, stream)
    labels = targets.items - 1
    exposed = _exposed(targets) - 1
    return hierarchy(states, labels, exposed, catalogue.pool(), draw(0, labels), train.exposure_weight, dtype)


@LOSSES.register("in_cluster_exposure_softmax")
def in_cluster_exposure_softmax(
    states: tf.Tensor,
    targets: Targets,
    catalogue: Catalogue,
    train: TrainConfig,
    dtype: tf.DType,
    stream: Stream | None,
) -> tf.Tensor:
    """`exposure_softmax` inside the target's own cluster; exposures of other clusters have no part in it."""
    draw = DRAW_SOURCES.resolve(train.draws)(catalogue, catalogue.offsets, train, stream)
    offsets = tf.constant(catalogue.offsets)
    rows = _exposed(targets) - 1 - tf.gather(offsets, tf.cast(targets.clusters, tf.int32))[:, None]

    def in_pool(k: int, own_states: tf.Tensor, labels: tf.Tensor, pool: Pool, exposed: tf.Tensor) -> tf.Tensor:
        inside = tf.where((exposed >= 0) & (exposed < pool.size), exposed, -1)
        return hierarchy(own_states, labels, inside, pool, draw(k, labels), train.exposure_weight, dtype)

    return by_cluster(in_pool, states, targets, catalogue, rows)


def hierarchy(
    states: tf.Tensor,
    labels: tf.Tensor,
    exposed: tf.Tensor,
    pool: Pool,
    draws: Draws | None,
    weight: float,
    dtype: tf.DType,
) -> tf.Tensor:
    """-log of e(+) / (e(+) + E + R), plus `weight` times the mean over exposures j of -log of e(j) / (e(j) + R).

    e = exp(r) of a score r = state . item, E the sum over the exposures, and R that over all other items, or its
    estimate from draws with their weights, see `draws.score_competitors`. Draws that hit the target or
    an exposure are left out of R. The target is no exposure.

    Args:
        states: `[P, D]`.
        labels: `[P]` int, rows of the targets inside the pool.
        exposed: `[P, W]` int, rows of the exposures inside the pool, in any places; below 0 where there is none.
        pool: the items.
        draws: n draws from the pool; None for every item of the pool once.
        weight: of the second level; 0 leaves the exposures as negatives.
        dtype: dtype of the `[P, D] x [D, n]` product.

    Returns:
        `[P]`; without an exposure the cross entropy of the target.
    """
    exposed = tf.cast(exposed, tf.int32)
    there = (exposed >= 0) & (exposed != tf.cast(labels, tf.int32)[:, None])
    shown = tf.einsum("pd,pwd->pw", states, pool.gather(tf.maximum(exposed, 0)))
    shown = tf.where(there, shown, NEVER)  # [P, W]
    positive, competing = score_competitors(states, labels, pool, draws, dtype, tf.where(there, exposed, -1))
    log_rest = tf.reduce_logsumexp(competing, axis=1, keepdims=True)  # [P, 1]
    below = tf.concat([positive[:, None], shown, log_rest], axis=1)
    first = tf.reduce_logsumexp(below, axis=1) - positive
    second = tf.where(there, tf.nn.softplus(tf.where(there, log_rest - shown, 0.0)), 0.0)
    number = tf.reduce_sum(tf.cast(there, tf.float32), axis=1)
    return first + weight * tf.math.divide_no_nan(tf.reduce_sum(second, axis=1), number)


def _exposed(targets: Targets) -> tf.Tensor:
    """Exposures `[P, W]` int32; W = 0 where a batch has none."""
    if targets.exposed is None:
        return tf.zeros([tf.size(targets.items), 0], tf.int32)
    return tf.cast(targets.exposed, tf.int32)  # int64 where a model has item features
