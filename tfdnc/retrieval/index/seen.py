"""Seen items, which must not be returned: split by cluster for searchers that mask them, or dropped from candidates."""

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.index.candidate_layout import clusters_of
from tfdnc.retrieval.merge import Candidates, count_clusters
from tfdnc.retrieval.rules.passing import Passing


def distinct(items: tf.Tensor) -> tf.Tensor:
    """`[B, S]` int32 item indices, 0 anywhere -> the same in ascending order, with 0 for every repetition."""
    ordered = tf.sort(tf.pad(items, [[0, 0], [1, 0]]), axis=1)
    return tf.where(ordered[:, 1:] == ordered[:, :-1], 0, ordered[:, 1:])


def clusters_of_items(items: tf.Tensor, offsets: np.ndarray) -> tf.Tensor:
    """Returns the clusters of items.

    Args:
        items: `[B, S]` int32 item indices 1..N, 0 pads anywhere.
        offsets: K + 1 item counts; cluster k is rows offsets[k] .. offsets[k + 1] - 1.

    Returns:
        `[B, S]` int32, -1 where padded.
    """
    clusters = tf.searchsorted(tf.constant(offsets[1:]), tf.reshape(items - 1, [-1]), side="right")
    return tf.where(items > 0, tf.reshape(clusters, tf.shape(items)), -1)


def count_unseen(items: tf.Tensor, offsets: np.ndarray, passing: Passing | None = None) -> tf.Tensor:
    """Counts the items of every cluster that pass and are not among distinct seen ones.

    Args:
        items: `[B, S]` int32 item indices 1..N, 0 pads anywhere.
        offsets: K + 1 item counts.
        passing: the items that pass, None for all.

    Returns:
        `[B, K]` int32.
    """
    clusters, num_clusters = clusters_of_items(items, offsets), len(offsets) - 1
    if passing is None:
        return tf.constant(np.diff(offsets)) - count_clusters(clusters, num_clusters)
    gone = tf.where(passing.contains(items - 1, clusters), clusters, -1)
    return passing.counts() - count_clusters(gone, num_clusters)


def split_by_cluster(seen: tf.Tensor, clusters: tf.Tensor, offsets: np.ndarray) -> list[tf.Tensor]:
    """Splits seen items by their clusters.

    Args:
        seen: `[B, S]` int32 item indices, the argument of `clusters_of_items`.
        clusters: `[B, S]` int32, its result.
        offsets: K + 1 item counts.

    Returns:
        Per cluster `[P, 2]` int32 pairs (row of the batch, row inside the cluster).
    """
    where = tf.where(clusters >= 0)  # [P, 2]
    owners = tf.gather_nd(clusters, where)
    rows = tf.gather_nd(seen, where) - 1 - tf.gather(tf.constant(offsets), owners)
    pairs = tf.stack([tf.cast(where[:, 0], tf.int32), rows], axis=1)
    return tf.dynamic_partition(pairs, owners, len(offsets) - 1)


def most_seen(clusters: tf.Tensor, num_clusters: int) -> tf.Tensor:
    """Returns `[K]` int32, the largest number of seen items of each cluster in one row.

    Args:
        clusters: `[B, S]` int32, the result of `clusters_of_items`.
        num_clusters: K.
    """
    return tf.maximum(tf.reduce_max(count_clusters(clusters, num_clusters), axis=0), 0)  # 0 without rows


def drop_seen(
    candidates: Candidates, seen: tf.Tensor, widths: tf.Tensor, num_items: int, passing: tf.Tensor | None = None
) -> Candidates:
    """Removes seen items, and those that do not pass, and moves the following candidates of the cluster up.

    Args:
        candidates: `[B, C]`, unavailable where the score is -inf or NaN.
        seen: `[B, S]` int32 item rows, -1 pads anywhere.
        widths: `[K]` int32 columns of each cluster in the result.
        num_items: N.
        passing: `[B, C]` bool, False for candidates to be removed too; None for none.

    Returns:
        Candidates in C' = sum of `widths` columns; a cluster with too few candidates ends in unavailable ones.
    """
    kept = (candidates.scores > float("-inf")) & ~_contains(seen, candidates.rows, num_items)  # NaN > -inf is False
    kept = kept if passing is None else kept & passing
    count = tf.cumsum(tf.cast(kept, tf.int32), axis=1)  # [B, C]
    bounds = tf.searchsorted(candidates.clusters, tf.range(tf.shape(widths)[0] + 1))  # [K + 1] columns of cluster k
    before = tf.gather(tf.pad(count, [[0, 0], [1, 0]]), bounds, axis=1)  # [B, K + 1]
    clusters, ranks = clusters_of(widths)
    # The source is the column where the count of kept candidates reaches the wanted rank, if the cluster has it.
    wanted = tf.gather(before, clusters, axis=1) + ranks + 1  # [B, C']
    missing = wanted > tf.gather(before, clusters + 1, axis=1)
    source = tf.where(missing, 0, tf.searchsorted(count, wanted))
    return Candidates(
        scores=tf.where(missing, float("-inf"), tf.gather(candidates.scores, source, batch_dims=1)),
        rows=tf.gather(candidates.rows, source, batch_dims=1),
        clusters=clusters,
        ranks=ranks,
    )


def _contains(seen: tf.Tensor, rows: tf.Tensor, num_items: int) -> tf.Tensor:
    """Returns `[B, C]` bool, True where `rows[b, c]` is among `seen[b]`."""
    first = tf.range(tf.shape(rows)[0], dtype=tf.int64)[:, None] * num_items
    # Numbers of different rows of the batch differ, so that one sorted list is enough for all rows.
    listed = tf.where(seen >= 0, tf.cast(seen, tf.int64) + first, -1)
    listed = tf.sort(tf.concat([tf.reshape(listed, [-1]), [tf.int64.max]], axis=0))
    wanted = tf.cast(rows, tf.int64) + first
    position = tf.searchsorted(listed, tf.reshape(wanted, [-1]))
    return tf.reshape(tf.gather(listed, position), tf.shape(rows)) == wanted
