"""The interface of clusterers, a training log -> one cluster id per item, and their registry."""

from collections.abc import Callable

import numpy as np

from tfdnc.clustering.log import TrainingLog
from tfdnc.contracts.config import ClusterConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.registry import Registry

Clusterer = Callable[[TrainingLog, ClusterConfig, int], tuple[np.ndarray, dict[str, float]]]
"""`(log, config, seed) -> (int [N], figures)`: the cluster of each item in order of `sequence_index` 1..N.

`config.num_clusters` is a number, because the station has replaced `auto`. Cluster ids are at least 0, and need neither
be contiguous nor ordered: the station numbers the clusters that have items 0..K-1. Items that get `cold.UNASSIGNED`,
such as those without training events, get a cluster from the station. The figures are numbers of this clusterer for the
manifest, often none.
"""

CLUSTERERS: Registry[Clusterer] = Registry("clusterer")


def check_num_clusters(available: int, config: ClusterConfig) -> int:
    """Returns the number of clusters that a clusterer is asked for.

    Raises:
        UserError: there are fewer items to fill them.
        ValueError: it is `auto`, which the station replaces before it calls a clusterer.
    """
    number = config.num_clusters
    if not isinstance(number, int):
        raise ValueError(f"num_clusters: expected a number, got {number}: call `choose_number` first")
    if number > available:
        raise UserError(
            f"Expected cluster.num_clusters of at most {available}, the items that {config.method} can use, got "
            f"{number}; lower cluster.num_clusters."
        )
    return number
