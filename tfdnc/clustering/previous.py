"""Clusters of an earlier run: items keep the cluster they had, so that a newer log does not move them."""

import logging

import numpy as np

from tfdnc.clustering.cold import NO_PLACE
from tfdnc.clustering.log import TrainingLog
from tfdnc.clustering.registry import CLUSTERERS
from tfdnc.config import ClusterConfig
from tfdnc.errors import UserError
from tfdnc.items import read_columns

logger = logging.getLogger(__name__)


@CLUSTERERS.register("previous")
def previous(log: TrainingLog, config: ClusterConfig, seed: int) -> tuple[np.ndarray, dict]:
    """Returns int [N]: the cluster that every item id has in the item table `config.previous`, else `NO_PLACE`.

    The table may hold items that the log no longer has. Cluster numbers and K are those of the table, unless one of its
    clusters has no item left.

    Raises:
        UserError: there is no such table, or none of its items is in the log.
    """
    del seed
    table = read_columns(config.previous, ["item_id", "cluster"])
    clusters = dict(zip(table["item_id"].to_pylist(), table["cluster"].to_pylist(), strict=True))
    labels = np.array([clusters.get(item_id, NO_PLACE) for item_id in log.item_ids()])
    known = labels != NO_PLACE
    if not known.any():
        raise UserError(
            f"Expected items of the log in cluster.previous, found none of its {log.num_items} in {config.previous}; "
            "name the item table of an earlier run on the same items."
        )
    logger.info("%d of %d items keep the cluster of %s", known.sum(), log.num_items, config.previous)
    gone = sorted(set(clusters.values()) - set(labels[known].tolist()))
    if gone:
        logger.warning("Clusters %s have no item left: those after them are renumbered", ", ".join(map(str, gone)))
    return labels, {}
