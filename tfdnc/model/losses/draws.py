"""Items that are sampled from a pool (the catalogue, or a cluster) in one step, and their scores."""

import itertools
from typing import NamedTuple

import numpy as np

from tfdnc.backend import tf
from tfdnc.model.catalogue import Pool
from tfdnc.model.randomness import Stream

NEVER = -1e30
"""A score without weight; finite, so that the gradient of a sum of only such scores is 0."""


class Proposal(NamedTuple):
    """Distribution q from which items of one pool are drawn."""

    cumulative: np.ndarray  # [pool] float64, ends with 1
    log_q: np.ndarray  # [pool] float64, finite


class Draws(NamedTuple):
    """n draws with replacement from one pool, shared by its P positions of a step, and items of single positions."""

    rows: tf.Tensor  # [n] int32, rows inside the pool
    log_expected: tf.Tensor  # [n] float32, log(n q): the log of the expected number of draws of the row
    own: tf.Tensor | None = None  # [P, H] int32, distinct rows that a position always has, not its target; -1: none


class Competitors(NamedTuple):
    """Scores that a target competes with, by their weights in the sum of exp(score) over the pool."""

    positive: tf.Tensor  # [P] float32, score of the target
    logits: tf.Tensor  # [P, n + H] float32, score - log of the expected number; `NEVER` for what does not count


class DrawnScores(NamedTuple):
    """Scores of P states for their own target and for the draws."""

    positive: tf.Tensor  # [P] float32
    drawn: tf.Tensor  # [P, n] float32
    hit: tf.Tensor  # [P, n] bool, the draw is the position's own target


def make_proposal(counts: np.ndarray, exponent: float) -> Proposal:
    """Returns q(i) ~ max(count_i, 1) ** exponent; exponent 0 is uniform.

    Counts are at least 1, so that items without training events can be drawn, and log q is finite for every exponent.
    """
    logits = exponent * np.log(np.maximum(np.asarray(counts, np.float64), 1))
    log_q = logits - np.logaddexp.reduce(logits)
    cumulative = np.cumsum(np.exp(log_q))
    return Proposal(cumulative / cumulative[-1], log_q)


def draw(proposal: Proposal, uniforms: tf.Tensor) -> Draws:
    """Turns uniforms `[n]` float64 in [0, 1) into n draws from `proposal`.

    The steps of float32, 1e-7, would be too large: a tenth of the probability of an item among a million.
    """
    rows = tf.searchsorted(tf.constant(proposal.cumulative), uniforms, side="right")
    log_n = tf.math.log(tf.cast(tf.size(uniforms), tf.float32))
    return Draws(rows, log_n + tf.gather(tf.constant(proposal.log_q, tf.float32), rows))


def draw_from_pools(
    counts: np.ndarray, offsets: tuple[int, ...], n: int, exponent: float, stream: Stream | None
) -> list[Draws | None]:
    """Returns n draws from each pool, and None for a pool of at most n items: to score it whole is exact and cheaper.

    Args:
        counts: `[N]` training events of each item.
        offsets: pool k is rows offsets[k] .. offsets[k + 1] - 1.
        n: draws per pool.
        exponent: see `make_proposal`.
        stream: as all losses take it.
    """
    stream = stream or Stream.at(0, 0)
    uniforms = tf.random.stateless_uniform([len(offsets) - 1, n], stream.seed, dtype=tf.float64)
    return [
        draw(make_proposal(counts[start:stop], exponent), uniforms[k]) if stop - start > n else None
        for k, (start, stop) in enumerate(itertools.pairwise(offsets))
    ]


def score_draws(states: tf.Tensor, labels: tf.Tensor, pool: Pool, rows: tf.Tensor, dtype: tf.DType) -> DrawnScores:
    """Returns the scores r = state . item of every state's own target and of the shared draws.

    Args:
        states: `[P, D]`.
        labels: `[P]` int, rows of the targets inside the pool.
        pool: the items.
        rows: `[n]` int32, rows of the draws inside the pool.
        dtype: dtype of the `[P, D] x [D, n]` product.
    """
    positive = tf.reduce_sum(states * pool.gather(labels), axis=-1)
    drawn = tf.matmul(tf.cast(states, dtype), tf.cast(pool.gather(rows), dtype), transpose_b=True)
    hit = tf.cast(labels, tf.int32)[:, None] == rows
    return DrawnScores(positive, tf.cast(drawn, tf.float32), hit)


def score_competitors(
    states: tf.Tensor,
    labels: tf.Tensor,
    pool: Pool,
    draws: Draws | None,
    dtype: tf.DType,
    left_out: tf.Tensor | None = None,
) -> Competitors:
    """Returns the competitors of every position, whose expected sum of exp(logit) is that of exp(score) over the pool.

    A draw has the weight 1 / (n q), the inverse of its expected number of draws (Bengio & Senecal 2008; the log q
    correction of Yi et al. 2019). Items of a single position are there with probability 1 and so have the weight 1.
    Shared draws that hit them do not count, and estimate the rest of the pool. No draw of the target counts.

    Args:
        states: `[P, D]`.
        labels: `[P]` int, rows of the targets inside the pool.
        pool: the items.
        draws: from the pool; None for every item of the pool once.
        dtype: dtype of the `[P, D] x [D, n]` product.
        left_out: `[P, W]` int32, rows that do not count; below 0 where there is none.
    """
    rows = tf.range(pool.size) if draws is None else draws.rows
    scores = score_draws(states, labels, pool, rows, dtype)
    logits = scores.drawn if draws is None else scores.drawn - draws.log_expected
    gone = scores.hit if left_out is None else scores.hit | _are_among(rows, left_out)
    if draws is None or draws.own is None:
        return Competitors(scores.positive, tf.where(gone, NEVER, logits))
    own = draws.own
    own_logits = tf.einsum("pd,phd->ph", states, pool.gather(tf.maximum(own, 0)))
    own_gone = own < 0
    if left_out is not None:
        own_gone |= tf.reduce_any(own[:, None, :] == left_out[:, :, None], axis=1)
    logits = tf.concat([logits, own_logits], axis=1)
    gone = tf.concat([gone | _are_among(rows, own), own_gone], axis=1)
    return Competitors(scores.positive, tf.where(gone, NEVER, logits))


def _are_among(rows: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """Mask `[P, n]` of the rows `[n]` that are among those of a position, `[P, W]`; below 0: none."""
    return tf.reduce_any(own[:, :, None] == rows, axis=1)
