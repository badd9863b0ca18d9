"""Items that must not come back: per cluster for searchers that mask them, and out of a list for those that cannot."""

import numpy as np

from tfdnc.backend import tf
from tfdnc.index.columns import clusters_of
from tfdnc.merge import Candidates


def split_by_cluster(seen: tf.Tensor, offsets: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """Says in which clusters seen items are.

    Args:
        seen: `[B, S]` int32 item indices 1..N, 0 pads anywhere.
        offsets: K + 1 item counts; cluster k is rows offsets[k] .. offsets[k + 1] - 1.

    Returns:
        `[P, 2]` int32 pairs (row of the batch, row inside the cluster) of the P entries, and their `[P]` clusters.
    """
    where = tf.cast(tf.where(seen > 0), tf.int32)  # [P, 2]
    rows = tf.gather_nd(seen, where) - 1
    clusters = tf.searchsorted(tf.constant(offsets[1:]), rows, side="right")
    return tf.stack([where[:, 0], rows - tf.gather(tf.constant(offsets), clusters)], axis=1), clusters


def most_seen(pairs: tf.Tensor, clusters: tf.Tensor, batch: tf.Tensor, num_clusters: int) -> tf.Tensor:
    """`[K]` int32: how many entries of a cluster one row of the batch has at most; of `split_by_cluster`."""
    slots = pairs[:, 0] * num_clusters + clusters
    counts = tf.math.unsorted_segment_sum(tf.ones_like(slots), slots, batch * num_clusters)
    return tf.maximum(tf.reduce_max(tf.reshape(counts, [batch, num_clusters]), axis=0), 0)  # without a row, none


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
