"""How long Word2Vec may train: epochs and down-sampling that keep within a budget of trained words."""

import logging
from dataclasses import dataclass

import numpy as np

from tfdnc.config import ClusterConfig

logger = logging.getLogger(__name__)

ENOUGH_PER_ITEM = 400
"""Trained words per item from which clusters no longer improve much; measured in docs/results.md."""


@dataclass(frozen=True)
class Plan:
    """What gensim is told: `epochs` over the log, and `sample`, the share of the log above which items are thinned."""

    epochs: int
    sample: float


def plan_training(counts: np.ndarray, config: ClusterConfig) -> Plan:
    """Returns the configured epochs and down-sampling where they keep within `config.max_words`, else fewer words.

    Epochs are given up first, down to one. If that one is still too long, the threshold of down-sampling is lowered
    until it is not: that thins the popular items and leaves the rare ones, which have too few words already.

    Args:
        counts: int [N] events of each item.
        config: `epochs`, `sample`, `max_words`.
    """
    # Down-sampling is meant for items far above average. On a small catalogue every item is a large share of the
    # log, and a fixed threshold would drop most of it (clusters of 160 items came out worse than by chance).
    sample = max(config.sample, 1.0 / len(counts)) if config.sample else 0
    words = words_per_epoch(counts, sample)
    if words * config.epochs <= config.max_words:
        return Plan(config.epochs, sample)
    epochs = max(1, int(config.max_words / words))
    if words > config.max_words:
        sample = _sample_of(counts, config.max_words)
    budget = min(words * epochs, config.max_words)
    logger.info(
        "cluster.max_words (%d) allows %d of %d epochs at a sample of %.1e: %.0f trained words per item",
        config.max_words,
        epochs,
        config.epochs,
        sample,
        budget / len(counts),
    )
    if budget < ENOUGH_PER_ITEM * len(counts):
        logger.warning(
            "%.0f trained words per item are few, clusters may be poor: raise cluster.max_words above %d, or choose "
            "cluster.method: spectral_kmeans",
            budget / len(counts),
            ENOUGH_PER_ITEM * len(counts),
        )
    return Plan(epochs, sample)


def words_per_epoch(counts: np.ndarray, sample: float) -> float:
    """Returns how many events gensim is expected to keep of a log: those of an item with f = count / (sample * events)
    with probability f^-1/2 + f^-1, at most 1."""
    if not sample:
        return float(counts.sum())
    warm = counts[counts > 0]
    excess = warm / (sample * warm.sum())
    return float(warm @ np.minimum(1, excess**-0.5 + 1 / excess))


def _sample_of(counts: np.ndarray, words: float) -> float:
    """Returns the threshold at which an epoch has `words` words, which are fewer than there are events."""
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if words_per_epoch(counts, middle) > words else (middle, high)
    return high
