"""The clusterer that keeps the clusters of an earlier run, so that a newer log does not change them."""

import logging

import numpy as np

from tfdnc.clustering.cold import UNASSIGNED
from tfdnc.clustering.log import TrainingLog
from tfdnc.clustering.registry import CLUSTERERS
from tfdnc.contracts.config import ClusterConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import read_columns

_LEAST_SHARE, _USUAL_SHARE = 0.5, 0.9
"""Share of the training events whose items are in the earlier table: the least allowed, and the least expected."""

logger = logging.getLogger(__name__)


@CLUSTERERS.register("previous")
def previous(log: TrainingLog, config: ClusterConfig, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """Returns int [N]: the cluster that every item id has in the item table `config.previous`, else `UNASSIGNED`.

    The table may hold items that the log no longer has. Cluster numbers and K are those of the table, unless one of its
    clusters has no item left.

    Raises:
        UserError: there is no such table, or its items have less than `_LEAST_SHARE` of the training events: then the
            clusters would be those of another log.
    """
    del seed
    assert config.previous is not None  # the config demands it of this method
    table = read_columns(config.previous, ["item_id", "cluster"])
    clusters = dict(zip(table["item_id"].to_pylist(), table["cluster"].to_pylist(), strict=True))
    labels = np.array([clusters.get(item_id, UNASSIGNED) for item_id in log.item_ids()])
    known = labels != UNASSIGNED
    if not known.any():
        raise UserError(
            f"Expected items of the log in cluster.previous, found none of its {log.num_items} in {config.previous}; "
            "name the item table of an earlier run on the same items."
        )
    share = float(log.counts[known].sum() / log.counts.sum())
    if share < _LEAST_SHARE:
        raise UserError(
            f"Expected cluster.previous to hold the items of at least {_LEAST_SHARE:.0%} of the training events, found "
            f"{share:.1%}: {config.previous} knows {known.sum()} of the {log.num_items} items. Name the item table of "
            "an earlier run on the same items, or cluster anew with another cluster.method."
        )
    logger.info("%d of %d items keep the cluster of %s", known.sum(), log.num_items, config.previous)
    if share < _USUAL_SHARE:
        logger.warning(
            "%.1f %% of the training events are of items that are not in %s", 100 - 100 * share, config.previous
        )
    gone = sorted(set(clusters.values()) - set(labels[known].tolist()))
    if gone:
        logger.warning("Clusters %s have no item left: those after them are renumbered", ", ".join(map(str, gone)))
    return labels, {"known_items": int(known.sum()), "known_event_share": share}
