"""Negative samplers: items for a positive to compete with, drawn exactly from the distribution in the config.

Eq. 3 of Zhang et al. (WWW'23) sets a positive i in C_k against negatives from C_k minus the user's own items I_u.
Here I_u is the user's *training* items: without the held-out ones among the negatives, the model could learn them.
With `data.seen: allow` I_u is the target alone, see `draw_negatives`.

A draw is a proposal from the whole pool, and is repeated while it hits I_u. Where I_u has more than half of the pool's
probability, the rest of the pool is listed and drawn from directly, which bounds the time of a draw.

The module is a contract because two folders draw from it: the examples job once, the training in every epoch.
"""

import itertools
from typing import Protocol

import numpy as np

from tfdnc.contracts import schema
from tfdnc.contracts.config import ExamplesConfig
from tfdnc.contracts.registry import Registry

REDRAWN, EXACT, EMPTY = "redrawn", "exact", "empty"
"""Counts of a draw: proposals that hit I_u, negatives drawn from a list, and negatives that do not exist (`PAD`)."""

_CROWDED = 0.5  # share of a pool in I_u from which on the pool is listed


class NegativeSampler(Protocol):
    """Interface of the registered classes.

    Args:
        offsets: `[K + 1]`; cluster k is the items `offsets[k]..offsets[k + 1] - 1`; together they are 1..N.
        counts: `[N + 1]` training events of every item.
        config: parameters of the distribution.
    """

    def __init__(self, offsets: np.ndarray, counts: np.ndarray, config: ExamplesConfig) -> None: ...

    def draw(
        self, generator: np.random.Generator, targets: np.ndarray, own: np.ndarray, num_negatives: int
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Draws the negatives of one user.

        Args:
            generator: one per user, so that a draw does not depend on the draws for other users.
            targets: `[T]` the items to draw negatives for.
            own: I_u, all training items of the user, which are never negatives; repetitions do not matter.
            num_negatives: n.

        Returns:
            `[T, n]` negatives, independent of each other, `PAD` where there is none to draw; and the counts by
            `REDRAWN`, `EXACT`, `EMPTY`.
        """


NEGATIVE_SAMPLERS: Registry[type[NegativeSampler]] = Registry("negative sampler")
"""Samplers by name, for `examples.sampler`."""


def user_generator(seed: int, user_key: int, epoch: int = -1) -> np.random.Generator:
    """Returns the random generator of one user, a function of the seed, the user and the epoch alone.

    Args:
        seed: any integer.
        user_key: 64 bits that identify the user.
        epoch: every number from 0 on has another stream; -1 has the stream of records, which serve every epoch.
    """
    key = np.array([seed % (1 << 64), user_key], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, epoch + 1], np.uint64)))


def draw_negatives(
    sampler: NegativeSampler,
    generator: np.random.Generator,
    targets: np.ndarray,
    own: np.ndarray,
    num_negatives: int,
    allows_seen: bool,
) -> tuple[np.ndarray, dict[str, int]]:
    """Draws the negatives of one user under the rule of `data.seen`.

    Where lists may hold items of the history, the model must learn to rank these too. So every item but the target
    itself may then be its negative: without that, scores of a user's own items would only ever grow.

    Args:
        sampler: distribution of the negatives.
        generator: as for `NegativeSampler.draw`, like the other arguments.
        targets: `[T]`.
        own: I_u.
        num_negatives: n.
        allows_seen: `DataConfig.allows_seen`.

    Returns:
        As `NegativeSampler.draw`.
    """
    if not allows_seen:
        return sampler.draw(generator, targets, own, num_negatives)
    negatives, counts = sampler.draw(generator, targets, targets[:0], num_negatives)
    # A whole row is drawn again, so that it follows the distribution without the target exactly.
    for row in np.flatnonzero((negatives == targets[:, None]).any(axis=1)):
        target = targets[row : row + 1]
        negatives[row], more = sampler.draw(generator, target, target, num_negatives)
        for name, count in more.items():
            counts[name] += count
    return negatives, counts


class Pools:
    """Disjoint ranges of items to draw from, with probability ~ count ** exponent inside a range.

    Exponent 0 is the uniform distribution, items without a count included. Other exponents never draw those.

    Args:
        offsets: `[G + 1]`; pool g is the items `offsets[g]..offsets[g + 1] - 1`; together they are 1..N.
        counts: `[N + 1]` events of every item.
        exponent: of the counts.
    """

    def __init__(self, offsets: np.ndarray, counts: np.ndarray, exponent: float) -> None:
        self._offsets, self._sizes = offsets[:-1], np.diff(offsets)
        self._pool_of_item = np.concatenate([[0], np.repeat(np.arange(len(self._sizes)), self._sizes)])
        drawable = (counts > 0) | (exponent == 0)  # a negative power of zero would be infinite
        drawable[schema.PAD] = False  # padding belongs to no pool
        self._weights = np.zeros(len(counts))
        self._weights[drawable] = counts[drawable].astype(np.float64) ** exponent
        self._totals = np.bincount(self._pool_of_item, self._weights, minlength=len(self._sizes))
        self._alias = None if exponent == 0 else _alias_tables(offsets, self._weights)
        self._is_own = np.zeros(len(counts), bool)

    def of_items(self, items: np.ndarray) -> np.ndarray:
        """Returns the pool of every item."""
        return self._pool_of_item[items]

    def draw(
        self, generator: np.random.Generator, pools: np.ndarray, own: np.ndarray
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Draws one item that is not in `own` from each of the given pools.

        Args:
            generator: of random numbers.
            pools: `[S]` the pool of every draw.
            own: `[T]` items that are never drawn; repetitions do not matter.

        Returns:
            `[S]` items, `PAD` from a pool without other items; and the counts.
        """
        own = np.unique(own)
        consumed = np.bincount(self._pool_of_item[own], self._weights[own], minlength=len(self._sizes))
        crowded = (consumed > _CROWDED * self._totals) | (self._totals == 0)
        self._is_own[own] = True
        drawn = np.zeros(len(pools), np.int64)
        counts = dict.fromkeys((REDRAWN, EXACT, EMPTY), 0)
        waiting = np.flatnonzero(~crowded[pools])
        while len(waiting):
            drawn[waiting] = self._propose(generator, pools[waiting])
            waiting = waiting[self._is_own[drawn[waiting]]]
            counts[REDRAWN] += len(waiting)
        if crowded.any():
            listed = np.flatnonzero(crowded[pools])
            for pool in np.unique(pools[listed]):
                rows = listed[pools[listed] == pool]
                drawn[rows] = self._draw_from_rest(generator, pool, len(rows))
                counts[EXACT if drawn[rows[0]] != schema.PAD else EMPTY] += len(rows)
        self._is_own[own] = False
        return drawn, counts

    def _propose(self, generator: np.random.Generator, pools: np.ndarray) -> np.ndarray:
        """Draws from whole pools: the integer part of one uniform number picks a cell, the fraction cell or alias."""
        uniform = generator.random(len(pools)) * self._sizes[pools]
        column = uniform.astype(np.int64)
        cells = self._offsets[pools] + column
        if self._alias is None:
            return cells
        keep, alias = self._alias
        return np.where(uniform - column < keep[cells], cells, alias[cells])

    def _draw_from_rest(self, generator: np.random.Generator, pool: int, num_draws: int) -> np.ndarray | int:
        """Draws from the list of a pool's items outside `own`; `PAD` if there is none."""
        items = self._offsets[pool] + np.arange(self._sizes[pool])
        items = items[~self._is_own[items] & (self._weights[items] > 0)]
        if not len(items):
            return schema.PAD
        cumulative = np.cumsum(self._weights[items])
        rows = np.searchsorted(cumulative, generator.random(num_draws) * cumulative[-1], side="right")
        return items[np.minimum(rows, len(items) - 1)]  # rounding may reach the end


@NEGATIVE_SAMPLERS.register("in_cluster")
class InClusterNegatives:
    """Negatives from the target's own cluster: Eq. 3."""

    def __init__(self, offsets: np.ndarray, counts: np.ndarray, config: ExamplesConfig) -> None:
        self._clusters = Pools(offsets, counts, config.popularity_exponent)

    def draw(
        self, generator: np.random.Generator, targets: np.ndarray, own: np.ndarray, num_negatives: int
    ) -> tuple[np.ndarray, dict[str, int]]:
        """See `NegativeSampler`."""
        clusters = np.repeat(self._clusters.of_items(targets), num_negatives)
        drawn, counts = self._clusters.draw(generator, clusters, own)
        return drawn.reshape(len(targets), num_negatives), counts


@NEGATIVE_SAMPLERS.register("uniform")
class UniformNegatives:
    """Negatives from all items, as in SASRec."""

    def __init__(self, offsets: np.ndarray, counts: np.ndarray, config: ExamplesConfig) -> None:
        self._anywhere = Pools(offsets[[0, -1]], counts, config.popularity_exponent)

    def draw(
        self, generator: np.random.Generator, targets: np.ndarray, own: np.ndarray, num_negatives: int
    ) -> tuple[np.ndarray, dict[str, int]]:
        """See `NegativeSampler`."""
        everything = np.zeros(len(targets) * num_negatives, np.int64)
        drawn, counts = self._anywhere.draw(generator, everything, own)
        return drawn.reshape(len(targets), num_negatives), counts


@NEGATIVE_SAMPLERS.register("mixed")
class MixedNegatives:
    """Negatives that are in-cluster with probability `ratio`, else from all items: the paper's SASRec+."""

    def __init__(self, offsets: np.ndarray, counts: np.ndarray, config: ExamplesConfig) -> None:
        self._ratio = config.ratio
        self._clusters = Pools(offsets, counts, config.popularity_exponent)
        self._anywhere = Pools(offsets[[0, -1]], counts, config.popularity_exponent)

    def draw(
        self, generator: np.random.Generator, targets: np.ndarray, own: np.ndarray, num_negatives: int
    ) -> tuple[np.ndarray, dict[str, int]]:
        """See `NegativeSampler`."""
        clusters = np.repeat(self._clusters.of_items(targets), num_negatives)
        inside = generator.random(len(clusters)) < self._ratio
        drawn = np.empty(len(clusters), np.int64)
        drawn[inside], counts = self._clusters.draw(generator, clusters[inside], own)
        everything = np.zeros(np.count_nonzero(~inside), np.int64)
        drawn[~inside], more = self._anywhere.draw(generator, everything, own)
        negatives = drawn.reshape(len(targets), num_negatives)
        return negatives, {name: count + more[name] for name, count in counts.items()}


def _alias_tables(offsets: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Builds Walker's alias table of every pool by Vose's method.

    Returns:
        `keep [N + 1]`, the probability that a cell gives its own item, and `alias [N + 1]`, its other item.
    """
    keep, alias = np.ones(len(weights)), np.arange(len(weights))
    for start, end in itertools.pairwise(offsets.tolist()):
        total = weights[start:end].sum()
        if total == 0:
            continue  # such a pool is never proposed from
        keep[start:end], alias[start:end] = _alias_table(weights[start:end] * ((end - start) / total))
        alias[start:end] += start
    return keep, alias


def _alias_table(scaled: np.ndarray) -> tuple[list[float], list[int]]:
    """Returns (keep, alias) of one pool, from weights with mean 1."""
    keep, alias = scaled.tolist(), list(range(len(scaled)))
    small = [cell for cell, weight in enumerate(keep) if weight < 1]
    large = [cell for cell, weight in enumerate(keep) if weight >= 1]
    while small and large:
        poor, rich = small.pop(), large[-1]
        alias[poor] = rich
        keep[rich] -= 1 - keep[poor]
        if keep[rich] < 1:
            small.append(large.pop())
    for cell in small + large:  # exactly 1, apart from rounding
        keep[cell] = 1.0
    return keep, alias
