"""Items that must not come back: per cluster for searchers that mask them, and out of a list for those that cannot."""

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.index.candidate_layout import clusters_of
from tfdnc.retrieval.merge import Candidates, count_clusters


def clusters_of_items(items: tf.Tensor, offsets: np.ndarray) -> tf.Tensor:
    """Clusters of items.

    Args:
        items: `[B, S]` int32 item indices 1..N, 0 pads anywhere.
        offsets: K + 1 item counts; cluster k is rows offsets[k] .. offsets[k + 1] - 1.

    Returns:
        `[B, S]` int32, -1 where padded.
    """
    clusters = tf.searchsorted(tf.constant(offsets[1:]), tf.reshape(items - 1, [-1]), side="right")
    return tf.where(items > 0, tf.reshape(clusters, tf.shape(items)), -1)


def split_by_cluster(seen: tf.Tensor, clusters: tf.Tensor, offsets: np.ndarray) -> list[tf.Tensor]:
    """Splits seen items by their clusters.

    Args:
        seen: `[B, S]`, as `clusters_of_items` takes them.
        clusters: `[B, S]`, as it returns them.
        offsets: as there.

    Returns:
        Per cluster `[P, 2]` int32 pairs (row of the batch, row inside the cluster).
    """
    where = tf.where(clusters >= 0)  # [P, 2]
    of_each = tf.gather_nd(clusters, where)
    rows = tf.gather_nd(seen, where) - 1 - tf.gather(tf.constant(offsets), of_each)
    pairs = tf.stack([tf.cast(where[:, 0], tf.int32), rows], axis=1)
    return tf.dynamic_partition(pairs, of_each, len(offsets) - 1)


def most_seen(clusters: tf.Tensor, num_clusters: int) -> tf.Tensor:
    """`[K]` int32: how many seen items of a cluster one row has at most; `clusters` as `clusters_of_items` returns."""
    return tf.maximum(tf.reduce_max(count_clusters(clusters, num_clusters), axis=0), 0)  # without a row, none


def drop_seen(candidates: Candidates, seen: tf.Tensor, widths: tf.Tensor, num_items: int) -> Candidates:
    """Leaves out what was seen, and moves what follows up.

    Args:
        candidates: `[B, C]`, unavailable where the score is -inf or NaN.
        seen: `[B, S]` int32 item rows, -1 pads anywhere.
        widths: `[K]` int32 columns that each cluster shall have.
        num_items: N.

    Returns:
        Candidates in C' = sum of `widths` columns; a cluster that comes up short ends in unavailable ones.
    """
    kept = (candidates.scores > float("-inf")) & ~_contains(seen, candidates.rows, num_items)  # NaN > -inf is False
    count = tf.cumsum(tf.cast(kept, tf.int32), axis=1)  # [B, C]
    bounds = tf.searchsorted(candidates.clusters, tf.range(tf.shape(widths)[0] + 1))  # [K + 1] columns of cluster k
    before = tf.gather(tf.pad(count, [[0, 0], [1, 0]]), bounds, axis=1)  # [B, K + 1]
    clusters, ranks = clusters_of(widths)
    # The column where the count of kept ones reaches the wanted rank; behind the cluster's last one there is none.
    wanted = tf.gather(before, clusters, axis=1) + ranks + 1  # [B, C']
    missing = wanted > tf.gather(before, clusters + 1, axis=1)
    source = tf.where(missing, 0, tf.searchsorted(count, wanted))
    return Candidates(
        scores=tf.where(missing, float("-inf"), tf.gather(candidates.scores, source, batch_dims=1)),
        rows=tf.gather(candidates.rows, source, batch_dims=1),
        clusters=clusters,
        ranks=ranks,
    )


def _contains(seen, rows, num_items):
    """Whether `rows[b, c]` is among `seen[b]`: `[B, C]` bool."""
    first = tf.range(tf.shape(rows)[0], dtype=tf.int64)[:, None] * num_items
    # Numbers that tell the rows of the batch apart, so that one sorted list serves all.
    listed = tf.where(seen >= 0, tf.cast(seen, tf.int64) + first, -1)
    listed = tf.sort(tf.concat([tf.reshape(listed, [-1]), [tf.int64.max]], axis=0))
    wanted = tf.cast(rows, tf.int64) + first
    place = tf.searchsorted(listed, tf.reshape(wanted, [-1]))
    return tf.reshape(tf.gather(listed, place), tf.shape(rows)) == wanted
