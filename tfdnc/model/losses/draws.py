"""Items that are sampled from a pool (the catalogue, or a cluster) in one step, and their scores."""

import itertools
from typing import NamedTuple

import numpy as np

from tfdnc.backend import tf
from tfdnc.model.catalogue import Pool
from tfdnc.model.randomness import Stream


class Proposal(NamedTuple):
    """Distribution q from which items of one pool are drawn."""

    cumulative: np.ndarray  # [pool] float64, ends with 1
    log_q: np.ndarray  # [pool] float64, finite


class Draws(NamedTuple):
    """n draws with replacement from one pool, shared by all its positions of a step."""

    rows: tf.Tensor  # [n] int32, rows inside the pool
    log_expected: tf.Tensor  # [n] float32, log(n q): the log of the expected number of draws of the row


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
