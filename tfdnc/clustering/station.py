"""The cluster station: runs a clusterer, refuses an unbalanced result, numbers the items, writes the item table."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfdnc.clustering.cold import UNASSIGNED, assign_cold_items
from tfdnc.clustering.content import CONTENT_KMEANS, Directions, nearest_centroids
from tfdnc.clustering.log import TrainingLog, read_training_log
from tfdnc.clustering.naming import name_clusters, top_items
from tfdnc.clustering.number import choose_number
from tfdnc.clustering.registry import CLUSTERERS
from tfdnc.contracts import schema
from tfdnc.contracts.config import ClusterConfig
from tfdnc.contracts.errors import UserError

logger = logging.getLogger(__name__)

NUM_TOP_ITEMS = 5
SCRATCH = ".scratch"


def build_clusters(
    prepared: Path, config: ClusterConfig, seed: int, output: Path, runner_args: Sequence[str] = ()
) -> dict[str, Any]:
    """Clusters the items of a prepared log and writes `items.parquet` and `clusters.json`.

    Clusters are numbered by descending training events, or as in `config.previous`. Inside a cluster, items are
    ordered by descending training events, then by item id. Every cluster has at least one item.

    `assign_cold_items` assigns the items that the clusterer did not. Items without training events, or new to
    `config.previous`, are marked as cold. No file is written when the result is refused. The sequence files are read
    one at a time: memory depends on the number of items and on the clusterer, not on the length of the log.

    Args:
        prepared: folder that `tfdnc prepare` wrote.
        config: the method and its settings.
        seed: of all random choices.
        output: folder for the two files, made if missing.
        runner_args: flags for Beam, of a clusterer that runs a job.

    Returns:
        Figures for the manifest and the terminal: `clusters`, `items`, `cold_items`, `smallest` and `largest` (items),
        `largest_item_share`, `largest_event_share`, `next_in_cluster` (share of consecutive training events in the
        same cluster), `next_by_chance` (that share for a random order), `seconds`; the clusterer's own figures. With
        `num_clusters: auto` also `num_clusters`, the number that the clusterer was asked for, and the sentence
        `num_clusters_reason`.

    Raises:
        UserError: unknown method, more clusters than items, or a cluster above `config.max_share`.
    """
    started = time.perf_counter()
    clusterer = CLUSTERERS.resolve(config.method)
    log = read_training_log(prepared, output / SCRATCH, runner_args)
    config, chosen = choose_number(config, log.counts)
    try:
        found, figures = clusterer(log, config, seed)
    finally:
        shutil.rmtree(log.scratch, ignore_errors=True)
    cold = log.counts == 0
    if config.previous:
        cold |= found == UNASSIGNED
    near = _near(found, log)
    if config.method == CONTENT_KMEANS:
        found = np.where(found == UNASSIGNED, near, found)
    assigned = assign_cold_items(found, log.traits(), near)
    labels = compact_clusters(assigned) if config.previous else order_clusters(assigned, log.counts)
    item_shares = np.bincount(labels) / log.num_items
    event_shares = np.bincount(labels, weights=log.counts) / log.counts.sum()
    _refuse_unbalanced(item_shares, event_shares, config)
    output.mkdir(parents=True, exist_ok=True)
    table = _item_table(log, labels, cold)
    descriptions = _describe(table, item_shares, event_shares)
    _write(output / schema.CLUSTERS, lambda path: path.write_text(json.dumps(descriptions, indent=2) + "\n"))
    _write(output / schema.ITEMS, lambda path: pq.write_table(table, path))
    sizes = np.bincount(labels)
    observed, chance = next_in_cluster(log, labels)
    return {
        "clusters": len(sizes),
        "items": log.num_items,
        "cold_items": int(cold.sum()),
        "smallest": int(sizes.min()),
        "largest": int(sizes.max()),
        "largest_item_share": float(item_shares.max()),
        "largest_event_share": float(event_shares.max()),
        "next_in_cluster": observed,
        "next_by_chance": chance,
        **figures,
        **({"num_clusters": chosen.number, "num_clusters_reason": chosen.reason} if chosen else {}),
        "seconds": time.perf_counter() - started,
    }


def _near(labels: np.ndarray, log: TrainingLog) -> np.ndarray:
    """Returns int [N]: for unassigned items with vectors the cluster with the nearest centroid, else `UNASSIGNED`."""
    unassigned = np.flatnonzero(labels == UNASSIGNED)
    if not log.vectors or not len(unassigned):
        return np.full(log.num_items, UNASSIGNED)
    return nearest_centroids(labels, Directions(log.vectors), unassigned)


def order_clusters(labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Renumbers cluster ids as 0..K-1 by descending events; ties by size, then by the first item.

    Args:
        labels: int [N], any ids.
        counts: int [N] events of each item.

    Returns:
        int64 [N] in 0..K-1; every cluster has an item.
    """
    _, first, compact, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    events = np.bincount(compact, weights=counts)
    order = np.lexsort((first, -sizes, -events))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[compact]


def compact_clusters(labels: np.ndarray) -> np.ndarray:
    """Renumbers cluster ids as 0..K-1 in their order: int [N] -> int64 [N]."""
    return np.unique(labels, return_inverse=True)[1]


def order_items(labels: np.ndarray, counts: np.ndarray, item_ids: pa.ChunkedArray) -> np.ndarray:
    """Returns the order of items in a table, int64 [N]: by cluster, then descending count, then item id."""
    # Ids are sorted by rank, because a numpy array of ids would give each the memory of the longest one.
    by_id = pc.rank(item_ids, tiebreaker="first").to_numpy()
    return np.lexsort((by_id, -counts, labels))


def next_in_cluster(log: TrainingLog, labels: np.ndarray) -> tuple[float, float]:
    """Returns the share of pairs of consecutive events of a user in the same cluster, and the share by chance.

    The share by chance is the sum over clusters of the share of pairs that start there times the share that end there.
    Both are 0 when no user has two training events.
    """
    size = int(labels.max()) + 1
    starts, ends, same = np.zeros(size), np.zeros(size), 0  # float64: products of counts may not fit an int64
    for items, lengths in log.parts():
        clusters = labels[items - 1]
        follows = np.ones(len(clusters), dtype=bool)
        follows[(np.cumsum(lengths) - lengths)[lengths > 0]] = False
        after = np.flatnonzero(follows)
        starts += np.bincount(clusters[after - 1], minlength=size)
        ends += np.bincount(clusters[after], minlength=size)
        same += int(np.count_nonzero(clusters[after - 1] == clusters[after]))
    pairs = starts.sum()
    if not pairs:
        return 0.0, 0.0
    return float(same / pairs), float(starts @ ends / pairs**2)


_REMEDIES = {
    "word2vec_kmeans": "Raise cluster.epochs (are the vectors under-trained?) or cluster.num_clusters",
    "spectral_kmeans": "Raise cluster.num_clusters",
    CONTENT_KMEANS: "Raise cluster.num_clusters",
}


def _refuse_unbalanced(item_shares: np.ndarray, event_shares: np.ndarray, config: ClusterConfig) -> None:
    """Raises a `UserError` when one of several clusters has too many items or events to be worth the division."""
    if len(item_shares) == 1:
        return
    limit = max(config.max_share, 1.5 / len(item_shares))  # 1 / K at least, and few clusters are never even
    for kind, shares in (("items", item_shares), ("events", event_shares)):
        if shares.max() > limit:
            raise UserError(
                f"Expected at most {limit:.0%} of the {kind} in one cluster (cluster.max_share), found "
                f"{shares.max():.1%} in the largest of {len(shares)} ({config.method}). "
                f"{_REMEDIES.get(config.method, 'Choose another cluster.method')}, or raise cluster.max_share to "
                "accept it."
            )


def _describe(table: pa.Table, item_shares: np.ndarray, event_shares: np.ndarray) -> list[dict[str, object]]:
    """Returns the content of `clusters.json` for an item table; items without a title are named by their id."""
    ids, titles = table["item_id"].to_pylist(), table["title"].to_pylist()
    categories = [values or [] for values in table["categories"].to_pylist()]
    labels, counts = table["cluster"].to_numpy(), table["count"].to_numpy()
    cold_items = np.bincount(labels, weights=table["cold"].to_numpy())
    descriptions: list[dict[str, object]] = []
    for cluster, name in enumerate(name_clusters(labels, counts, ids, titles, categories)):
        members = top_items(np.flatnonzero(labels == cluster), counts)
        descriptions.append(
            {
                "cluster": cluster,
                "name": name,
                "items": len(members),
                "item_share": float(item_shares[cluster]),
                "event_share": float(event_shares[cluster]),
                "cold_items": int(cold_items[cluster]),
                "top_items": [titles[item] or ids[item] for item in members[:NUM_TOP_ITEMS]],
            }
        )
        share = 100 * event_shares[cluster]
        logger.info("cluster %d: %d items, %.1f %% of the events, %s", cluster, len(members), share, name)
    return descriptions


def _item_table(log: TrainingLog, labels: np.ndarray, cold: np.ndarray) -> pa.Table:
    """Returns the table of `schema.ITEM_SCHEMA`: by cluster, then descending count, then item id."""
    order = order_items(labels, log.counts, log.vocabulary["item_id"])
    known = log.vocabulary.take(pa.array(order))
    columns = {
        "item_index": np.arange(1, log.num_items + 1),
        "sequence_index": known["sequence_index"],
        "item_id": known["item_id"],
        "cluster": labels[order],
        "cold": cold[order],
        "count": log.counts[order],
        "title": known["title"],
        "categories": known["categories"],
        "features": known["features"],
    }
    return pa.table({name: columns[name] for name in schema.ITEM_SCHEMA.names}).cast(schema.ITEM_SCHEMA)


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Writes to a temporary name and renames, so that a killed run leaves no half-written file."""
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    temporary.replace(path)
