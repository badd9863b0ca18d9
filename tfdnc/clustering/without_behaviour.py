"""Clusterers that read no behaviour: by category, random, and one cluster for all items."""

import logging

import numpy as np

from tfdnc.clustering.cold import UNASSIGNED
from tfdnc.clustering.log import TrainingLog
from tfdnc.clustering.registry import CLUSTERERS, check_num_clusters
from tfdnc.contracts.config import ClusterConfig
from tfdnc.contracts.errors import UserError

logger = logging.getLogger(__name__)


@CLUSTERERS.register("category")
def category(log: TrainingLog, config: ClusterConfig, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """Returns int [N]: items with training events clustered by first category, `UNASSIGNED` for the others.

    Categories with fewer than `config.min_category_items` of these items, and the items without a category, share one
    cluster: a cluster of a few items has too few negatives to learn from. `config.num_clusters` is not used; the
    categories determine K.

    Raises:
        UserError: no item has a category, or all items end in one cluster.
    """
    del seed
    warm = np.flatnonzero(log.counts)
    first = log.first_categories()[warm]
    names, label, sizes = np.unique([name or "" for name in first], return_inverse=True, return_counts=True)
    if not any(names):
        raise UserError(
            "Expected categories of the items for cluster.method: category, found none; name their column in "
            "data.items.categories, or choose another cluster.method."
        )
    small = (sizes < config.min_category_items) | (names == "")
    if small.any():
        merged = [name or "no category" for name in names[small]]
        logger.info("%d items of %s form the cluster of the rest", sizes[small].sum(), ", ".join(merged))
    other = len(names)
    labels = np.full(log.num_items, UNASSIGNED)
    labels[warm] = np.where(small[label], other, label)
    without, named = int(sizes[names == ""].sum()), sizes[names != ""]
    if len(np.unique(labels[warm])) == 1:
        raise UserError(
            f"Expected categories that make several clusters, found one of all {len(warm)} items: of "
            f"{len(named)} categories the largest has {named.max()} items (cluster.min_category_items = "
            f"{config.min_category_items}), and {without} items have none. Name another column in "
            "data.items.categories, lower cluster.min_category_items, or choose cluster.method: single."
        )
    if without:
        logger.warning("%d of %d items have no category: they are in the cluster of the rest", without, len(warm))
    rest = int(sizes[small].sum())
    return labels, {"categories": len(named), "items_without_category": without, "items_in_rest": rest}


@CLUSTERERS.register("random")
def random(log: TrainingLog, config: ClusterConfig, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """Returns int [N]: random clusters whose sizes differ by at most one item, for control experiments.

    Items without training events are `UNASSIGNED`.
    """
    warm = np.flatnonzero(log.counts)
    number = check_num_clusters(len(warm), config)
    labels = np.full(log.num_items, UNASSIGNED)
    labels[warm] = np.random.default_rng(seed).permutation(len(warm)) % number
    return labels, {}


@CLUSTERERS.register("single")
def single(log: TrainingLog, config: ClusterConfig, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """Returns int [N], all 0: one cluster, as a retriever without clusters has. `config.num_clusters` is not used."""
    del config, seed
    return np.zeros(log.num_items, dtype=np.int64), {}
