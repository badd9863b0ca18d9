"""The number of clusters that `cluster.num_clusters: auto` takes, and the reason in words."""

import logging
import math
from typing import NamedTuple

import numpy as np

from tfdnc.contracts.config import ClusterConfig

logger = logging.getLogger(__name__)

ITEMS_OF_ONE = 34
"""N items get the square root of N / 34 clusters: 10 for the 3,416 items of MovieLens-1M."""

FEWEST = 4
"""Fewest clusters by cost: of two or three, one soon has more items than `cluster.max_share` allows."""

MOST = 100
"""Most clusters by cost: each makes a request dearer (docs/scaling.md)."""

LEAST_ITEMS = 20
"""Items per cluster below which a target competes with too few others, as in `cluster.min_category_items`."""


class Chosen(NamedTuple):
    """A number of clusters, and the sentence that tells the user number and reason."""

    number: int
    reason: str


def auto_clusters(items: int) -> Chosen:
    """Returns the number of clusters of `cluster.num_clusters: auto`.

    The loss of a training step costs in proportion to the N / K items of a cluster, and a request costs more with each
    cluster (docs/scaling.md). With the square root of N both grow evenly. Recall was level from 4 to 25 clusters
    (docs/results.md).

    Args:
        items: items with training events, 1 or more.
    """
    by_cost, room = round(math.sqrt(items / ITEMS_OF_ONE)), max(1, items // LEAST_ITEMS)
    number = min(max(by_cost, FEWEST), MOST, room)
    if items < 2 * LEAST_ITEMS:
        reason = f"{items:,} items with events are too few to divide"
    elif number == room:
        reason = f"so that each has {LEAST_ITEMS} or more of {items:,} items with events"
    elif number == by_cost:
        reason = f"the square root of ({items:,} items with events / {ITEMS_OF_ONE})"
    else:
        reason = f"the {'least' if number == FEWEST else 'most'} for {items:,} items with events: {by_cost} by the rule"
    return Chosen(number, f"cluster.num_clusters: auto is {number}, {reason}")


def choose_number(config: ClusterConfig, counts: np.ndarray) -> tuple[ClusterConfig, Chosen | None]:
    """Returns the config with a number of clusters in place of `auto`, and the choice if there was one to make.

    Args:
        config: the section; of a method that does not read the number it stays as it is.
        counts: `[N]` training events of each item.
    """
    if config.num_clusters != "auto" or not config.reads_num_clusters:
        return config, None
    chosen = auto_clusters(int(np.count_nonzero(counts)))
    logger.info(chosen.reason)
    return config.model_copy(update={"num_clusters": chosen.number}), chosen
