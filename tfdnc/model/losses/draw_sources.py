"""Sources of the items that a sampled softmax draws in a step: pool, batch, both, or pool and hard items."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.contracts.registry import Registry
from tfdnc.model.catalogue import Catalogue
from tfdnc.model.losses.draws import Draws, draw_from_pools, make_proposal
from tfdnc.model.randomness import Stream, substream

DrawIn = Callable[[int, tf.Tensor], Draws | None]
"""`(k, labels [P_k] rows of the targets inside pool k) -> draws`, or None for a pool that is scored whole."""

DrawSource = Callable[[Catalogue, tuple[int, ...], TrainConfig, Stream | None], DrawIn]
"""`(catalogue, offsets of the pools, settings, stream) -> draws in a pool`."""

DRAW_SOURCES: Registry[DrawSource] = Registry("source of draws")
"""Sources by name, for `train.draws`."""


@DRAW_SOURCES.register("pool")
def from_the_pool(catalogue: Catalogue, offsets: tuple[int, ...], train: TrainConfig, stream: Stream | None) -> DrawIn:
    """n = `num_negatives` draws from all items of a pool by count ** `negative_exponent`."""
    draws = draw_from_pools(catalogue.counts, offsets, train.num_negatives, train.negative_exponent, stream)
    return lambda k, labels: draws[k]


@DRAW_SOURCES.register("batch")
def from_the_batch(catalogue: Catalogue, offsets: tuple[int, ...], train: TrainConfig, stream: Stream | None) -> DrawIn:
    """n draws from the targets of the step in the pool: the step reads no other items for them.

    Their log q is that of the share of the training events, by which an item is a target on average (Yi et al. 2019).
    """
    return _some_from_the_batch(catalogue.counts, offsets, train, stream, share=1.0)


@DRAW_SOURCES.register("mixed")
def from_both(catalogue: Catalogue, offsets: tuple[int, ...], train: TrainConfig, stream: Stream | None) -> DrawIn:
    """n / 2 draws from the targets of the step, the others as by `pool`; the batch alone lacks rare items."""
    return _some_from_the_batch(catalogue.counts, offsets, train, stream, share=0.5)


@DRAW_SOURCES.register("hard")
def with_hard_items(
    catalogue: Catalogue, offsets: tuple[int, ...], train: TrainConfig, stream: Stream | None
) -> DrawIn:
    """n draws as by `pool`, and for every position the hard items of its target, see `HardItems`.

    ANCE (Xiong et al. 2021) asks the index with the user's state for each training position. That costs an encode and a
    search of all positions, and 4 H bytes for each. A target stands for the states that it is the answer to, so a
    list per item is enough: it needs no encode, and 4 H bytes per item.

    Raises:
        ValueError: the catalogue has no hard items.
    """
    if catalogue.hard is None:
        raise ValueError("Expected a catalogue with hard items for train.draws hard, got one without.")
    from_pool = from_the_pool(catalogue, offsets, train, stream)

    def draw_in(k: int, labels: tf.Tensor) -> Draws | None:
        drawn = from_pool(k, labels)
        own = tf.gather(catalogue.hard, labels + offsets[k])
        return None if drawn is None else drawn._replace(own=own)

    return draw_in


def _some_from_the_batch(
    counts: np.ndarray, offsets: tuple[int, ...], train: TrainConfig, stream: Stream | None, share: float
) -> DrawIn:
    n = train.num_negatives
    of_batch = math.ceil(share * n)
    bounds = list(itertools.pairwise(offsets))
    own_stream = substream(stream, "batch") or Stream.at(0, 0)
    uniforms = tf.random.stateless_uniform([len(bounds), of_batch], own_stream.seed, dtype=tf.float64)
    of_pools: list[Draws | None] = [None] * len(bounds)
    if n > of_batch:
        of_pools = draw_from_pools(counts, offsets, n - of_batch, train.negative_exponent, stream)

    def draw_in(k: int, labels: tf.Tensor) -> Draws | None:
        start, stop = bounds[k]
        if stop - start <= n:
            return None
        rows = pick(tf.cast(labels, tf.int32), uniforms[k])
        own = of_pools[k]
        rows = rows if own is None else tf.concat([rows, own.rows], axis=0)
        events = counts[start:stop]
        expected = log_expected(events, rows, [(of_batch, 1.0), (n - of_batch, train.negative_exponent)])
        return Draws(rows, expected)

    return draw_in


def pick(labels: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """Returns labels at random positions, `[P]` int32 and `[n]` float64 in [0, 1) -> `[n]`; row 0 where P is 0."""
    last = tf.maximum(tf.size(labels) - 1, 0)
    positions = tf.minimum(tf.cast(uniforms * tf.cast(tf.size(labels), tf.float64), tf.int32), last)
    return tf.gather(tf.concat([labels, [0]], axis=0), positions)


def log_expected(counts: np.ndarray, rows: tf.Tensor, sources: list[tuple[int, float]]) -> tf.Tensor:
    """Returns the log of the expected number of draws of each row by all sources together: `[n]` float32.

    So a draw has one weight, by whichever source it came, and the expected sum of weighted scores is that of the pool.

    Args:
        counts: `[pool]` training events.
        rows: `[n]` int32, the draws.
        sources: number of draws, and the exponent of the counts by which they are drawn.
    """
    logs = [math.log(number) + make_proposal(counts, exponent).log_q for number, exponent in sources if number]
    return tf.gather(tf.constant(np.logaddexp.reduce(logs, axis=0), tf.float32), rows)
