"""Plan of a Word2Vec training: epochs and users that keep within a budget of trained words."""

import logging
import math
from dataclasses import dataclass

import numpy as np

from tfdnc.contracts.config import ClusterConfig

logger = logging.getLogger(__name__)

ENOUGH_PER_ITEM = 500
"""Trained words per item below which clusters became poor, as measured in docs/results.md."""

LEAST_EPOCHS = 10
"""Epochs where the config gives none and fewer would train enough words."""


@dataclass(frozen=True)
class Plan:
    """Part of the log to train on: `epochs` over the share `user_share` of the users, with gensim's `sample`."""

    epochs: int
    user_share: float
    sample: float


def plan_training(counts: np.ndarray, config: ClusterConfig) -> Plan:
    """Returns the configured epochs over all users where they keep within `config.max_words`, else fewer words.

    Without configured epochs there are as many as train `ENOUGH_PER_ITEM` words per item with events, but not fewer
    than `LEAST_EPOCHS`: on MovieLens-1M cut to five events per user, ten epochs gave one cluster 62 % of the items.

    Epochs are reduced first, down to one. If one epoch is still too long, a sample of the users is read. A lower
    `sample`, which drops events of all users, would separate neighbours: clusters became worse on MovieLens-1M.

    Args:
        counts: int [N] events of each item.
        config: `epochs`, `sample`, `max_words`.
    """
    # Down-sampling is meant for items far above average. On a small catalogue every item is a large share of the
    # log, and a fixed threshold would drop most of it: clusters of 160 items were worse than random ones.
    sample = max(config.sample, 1.0 / len(counts)) if config.sample else 0
    words, enough = words_per_epoch(counts, sample), ENOUGH_PER_ITEM * int(np.count_nonzero(counts))
    epochs = config.epochs or max(LEAST_EPOCHS, math.ceil(enough / words))
    plan = Plan(epochs, 1.0, sample)
    if words * epochs > config.max_words:
        plan = Plan(max(1, int(config.max_words / words)), min(1.0, config.max_words / words), sample)
    _report(plan, epochs, words, enough, config)
    return plan


def _report(plan: Plan, epochs: int, words: float, enough: int, config: ClusterConfig) -> None:
    """Logs what the budget took away, and a warning if that, or the configured epochs, leave too few words."""
    trained = words * plan.epochs * plan.user_share
    per_item = ENOUGH_PER_ITEM * trained / enough
    is_cut = words * epochs > config.max_words
    if is_cut:
        logger.info(
            "cluster.max_words: %d of %d epochs over %.3g %% of the users, %.0f trained words per item",
            plan.epochs,
            epochs,
            100 * plan.user_share,
            per_item,
        )
    if trained < enough:
        whole = math.ceil(enough / words)
        logger.warning(
            "%.0f trained words per item are few, clusters may be poor: raise %s, or choose cluster.method: "
            "spectral_kmeans",
            per_item,
            f"cluster.max_words to {enough if enough < words else math.ceil(words * whole)}"  # epochs are whole
            if is_cut
            else f"cluster.epochs to {whole}",
        )


def words_per_epoch(counts: np.ndarray, sample: float) -> float:
    """Returns the expected number of events that gensim keeps of a log.

    An event of an item with f = count / (sample * events) stays with probability f^-1/2 + f^-1, at most 1.
    """
    if not sample:
        return float(counts.sum())
    warm = counts[counts > 0]
    excess = warm / (sample * warm.sum())
    return float(warm @ np.minimum(1, excess**-0.5 + 1 / excess))
