"""Binary losses: each score is the logit of "this is the next item", on given negatives or on drawn items."""

import math

from tfdnc.backend import tf
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.model.catalogue import Catalogue, Pool, Targets
from tfdnc.model.losses.base import LOSSES, by_cluster
from tfdnc.model.losses.draws import draw_from_pools, score_draws
from tfdnc.model.randomness import Stream


@LOSSES.register("bce")
def binary_cross_entropy(
    states: tf.Tensor,
    targets: Targets,
    catalogue: Catalogue,
    train: TrainConfig,
    dtype: tf.DType,
    stream: Stream | None,
) -> tf.Tensor:
    """-log s(r+) - mean over negatives of log(1 - s(r-)), r = state . item: Eq. 2, or Eq. 3 on in-cluster negatives.

    The distribution of the negatives is that of `examples.sampler`, which decides between the two equations. A padded
    negative (exhausted cluster) has no weight. log(1 - s(r)) = log s(-r) is the stable form.

    Raises:
        UserError: the batches hold no negatives.
    """
    del dtype, stream
    if targets.negatives.shape[1] == 0:
        raise UserError(
            f"Expected negatives for train.loss {train.loss}, got records without: raise examples.negative_sets, or "
            "set train.negatives to online."
        )
    pool = catalogue.pool()
    positive = pool.gather(targets.items - 1)  # [P, D]
    present = tf.cast(targets.negatives > 0, tf.float32)  # [P, n]
    negative = pool.gather(tf.maximum(targets.negatives - 1, 0))  # [P, n, D]
    positive_loss = tf.nn.softplus(-tf.reduce_sum(states * positive, axis=-1))
    negative_loss = tf.nn.softplus(tf.einsum("pd,pnd->pn", states, negative)) * present
    return positive_loss + tf.math.divide_no_nan(tf.reduce_sum(negative_loss, axis=-1), tf.reduce_sum(present, axis=-1))


@LOSSES.register("gbce")
def generalised_bce(
    states: tf.Tensor,
    targets: Targets,
    catalogue: Catalogue,
    train: TrainConfig,
    dtype: tf.DType,
    stream: Stream | None,
) -> tf.Tensor:
    """gBCE (Petrov & Macdonald 2023) on n = `num_negatives` items drawn uniformly per step: `calibrated_bce`.

    A catalogue of at most n items is scored whole.

    Raises:
        UserError: `negative_exponent` is not 0, or `draws` is not `pool`; beta corrects for the number of negatives,
            not for their choice.
    """
    [rows] = _draw_uniformly(catalogue, (0, catalogue.offsets[-1]), train, stream)
    shift = prior_logit(catalogue.num_items)
    return calibrated_bce(states, targets.items - 1, catalogue.pool(), rows, train.calibration, dtype, shift)


@LOSSES.register("in_cluster_gbce")
def in_cluster_generalised_bce(
    states: tf.Tensor,
    targets: Targets,
    catalogue: Catalogue,
    train: TrainConfig,
    dtype: tf.DType,
    stream: Stream | None,
) -> tf.Tensor:
    """gBCE inside the target's own cluster, with n draws per cluster and step; a cluster of at most n scored whole.

    Raises:
        UserError: as `gbce`.
    """
    rows = _draw_uniformly(catalogue, catalogue.offsets, train, stream)
    return by_cluster(
        lambda k, own_states, labels, pool: calibrated_bce(
            own_states, labels, pool, rows[k], train.calibration, dtype, prior_logit(pool.size)
        ),
        states,
        targets,
        catalogue,
    )


def prior_logit(pool: int) -> float:
    """Returns the logit of one item in a pool of so many, to add to every score; 0 for a pool of one item.

    Without it, every item of an untrained model has probability 1/2. Hundreds of negatives then first lower all scores,
    mostly through popularity, and training does not recover: after 40 epochs on MovieLens-1M R@10 is .035, against .037
    of the most popular items. The order of items is the same with and without it.
    """
    return -math.log(max(pool - 1, 1))


def calibrated_bce(
    states: tf.Tensor,
    labels: tf.Tensor,
    pool: Pool,
    rows: tf.Tensor,
    calibration: float,
    dtype: tf.DType,
    shift: float = 0.0,
) -> tf.Tensor:
    """beta softplus(-r+) + sum over the n real negatives of softplus(r-), with beta of `positive_weight`.

    This is -[beta log s(r+) + sum log(1 - s(r-))] without a logarithm of a power of s, for which Petrov & Macdonald
    need float64. They divide it by n + 1; the gradients of the sum have the size of those of a softmax.

    Draws are shared, so a position may draw its own target. That draw is left out, and n is the number of the others.
    Given n, they are uniform on the items that are not the target, as the paper assumes, and t = 1 is exactly
    calibrated. If there are none, the loss is that of the positive.

    Args:
        states: `[P, D]`.
        labels: `[P]` int, rows of the targets inside the pool.
        pool: the items.
        rows: `[draws]` int32, rows of uniform draws inside the pool, or each of its rows once.
        calibration: t.
        dtype: dtype of the product.
        shift: added to every score, which gives its logit.

    Returns:
        `[P]`; 0 in a pool of one item, which has no negatives.
    """
    scores = score_draws(states, labels, pool, rows, dtype)
    real = tf.reduce_sum(tf.cast(~scores.hit, tf.float32), axis=-1)
    negative_loss = tf.reduce_sum(tf.where(scores.hit, 0.0, tf.nn.softplus(scores.drawn + shift)), axis=-1)
    weight = positive_weight(real, pool.size, calibration)
    return weight * tf.nn.softplus(-scores.positive - shift) + negative_loss


def positive_weight(real: tf.Tensor, pool: int, calibration: float) -> tf.Tensor:
    """Returns beta = a (t (1 - 1 / a) + 1 / a) = 1 - t (1 - a), with a = n / (pool - 1).

    a is the share of the negatives that are scored.

    With t = 0 the loss is plain BCE, whose s(r) is too large where a is small; with t = 1, s(r) is the probability of
    the item. a is at most 1; a pool of one item has beta 0.

    Args:
        real: `[P]` float32, n, the real negatives of each position.
        pool: items of the pool.
        calibration: t.
    """
    if pool <= 1:
        return tf.zeros_like(real)
    return 1 - calibration * (1 - tf.minimum(real / (pool - 1), 1.0))


def _draw_uniformly(
    catalogue: Catalogue, offsets: tuple[int, ...], train: TrainConfig, stream: Stream | None
) -> list[tf.Tensor]:
    """Rows of n draws per pool, or all rows of a pool of at most n."""
    if train.negative_exponent != 0:
        raise UserError(
            f"Expected train.negative_exponent 0 with train.loss {train.loss}, which is calibrated for uniform "
            f"negatives, not {train.negative_exponent}; a sampled softmax corrects for popular ones."
        )
    if train.draws != "pool":
        raise UserError(
            f"Expected train.draws pool with train.loss {train.loss}, which is calibrated for uniform negatives, not "
            f"{train.draws}; a sampled softmax corrects for others."
        )
    draws = draw_from_pools(catalogue.counts, offsets, train.num_negatives, 0.0, stream)
    return [tf.range(offsets[k + 1] - offsets[k]) if drawn is None else drawn.rows for k, drawn in enumerate(draws)]
