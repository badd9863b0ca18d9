"""Plan of a Word2Vec training: epochs and users that keep within a budget of trained words."""

import logging
import math
from dataclasses import dataclass

import numpy as np

from tfdnc.contracts.config import ClusterConfig

logger = logging.getLogger(__name__)

ENOUGH_PER_ITEM = 500
"""Trained words per item below which clusters became poor, as measured in docs/results.md."""


@dataclass(frozen=True)
class Plan:
    """Part of the log to train on: `epochs` over the share `user_share` of the users, with gensim's `sample`."""

    epochs: int
    user_share: float
    sample: float


def plan_training(counts: np.ndarray, config: ClusterConfig) -> Plan:
    """Returns the configured epochs over all users where they keep within `config.max_words`, else fewer words.

    Epochs are reduced first, down to one. If one epoch is still too long, a sample of the users is read. A lower
    `sample`, which drops events of all users, would separate neighbours: clusters became worse on MovieLens-1M.

    Args:
        counts: int [N] events of each item.
        config: `epochs`, `sample`, `max_words`.
    """
    # Down-sampling is meant for items far above average. On a small catalogue every item is a large share of the
    # log, and a fixed threshold would drop most of it: clusters of 160 items were worse than random ones.
    sample = max(config.sample, 1.0 / len(counts)) if config.sample else 0
    words = words_per_epoch(counts, sample)
    if words * config.epochs <= config.max_words:
        return Plan(config.epochs, 1.0, sample)
    plan = Plan(max(1, int(config.max_words / words)), min(1.0, config.max_words / words), sample)
    per_item = words * plan.epochs * plan.user_share / len(counts)
    logger.info(
        "cluster.max_words: %d of %d epochs over %.3g %% of the users, %.0f trained words per item",
        plan.epochs,
        config.epochs,
        100 * plan.user_share,
        per_item,
    )
    enough = ENOUGH_PER_ITEM * len(counts)
    if per_item * len(counts) < enough:
        logger.warning(
            "%.0f trained words per item are few, clusters may be poor: raise cluster.max_words to %d, or choose "
            "cluster.method: spectral_kmeans",
            per_item,
            enough if enough < words else words * math.ceil(enough / words),  # epochs are whole
        )
    return plan


def words_per_epoch(counts: np.ndarray, sample: float) -> float:
    """Returns the expected number of events that gensim keeps of a log.

    An event of an item with f = count / (sample * events) stays with probability f^-1/2 + f^-1, at most 1.
    """
    if not sample:
        return float(counts.sum())
    warm = counts[counts > 0]
    excess = warm / (sample * warm.sum())
    return float(warm @ np.minimum(1, excess**-0.5 + 1 / excess))
