"""The clusterer interface: a training log goes in, one cluster id per item comes out."""

from collections.abc import Callable

import numpy as np

from tfdnc.clustering.log import TrainingLog
from tfdnc.contracts.config import ClusterConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.registry import Registry

Clusterer = Callable[[TrainingLog, ClusterConfig, int], tuple[np.ndarray, dict]]
"""`(log, config, seed) -> (int [N], figures)`: the cluster of each item in order of `sequence_index` 1..N.

Ids, from 0 on, need neither be contiguous nor ordered; the station numbers the clusters that have items 0..K-1. It also
finds a cluster for the items that get `cold.NO_PLACE`, as those without training events do. The figures are what the
clusterer found out or decided on the way, for the manifest; often none.
"""

CLUSTERERS: Registry[Clusterer] = Registry("clusterer")


def check_num_clusters(available: int, config: ClusterConfig) -> None:
    """Raises a `UserError` when a clusterer is asked for more clusters than there are items to fill them."""
    if config.num_clusters > available:
        raise UserError(
            f"Expected cluster.num_clusters of at most {available}, the items that {config.method} can use, got "
            f"{config.num_clusters}; lower cluster.num_clusters."
        )
