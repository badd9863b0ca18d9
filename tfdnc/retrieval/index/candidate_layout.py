"""Layout of candidates: the answers of all clusters side by side, with cluster and rank of every column."""

from collections.abc import Sequence

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.merge import Candidates


def clusters_of(widths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns cluster and rank, `[C]` each, of all columns, from the `[K]` int32 numbers of columns per cluster."""
    ends = tf.cumsum(widths)
    columns = tf.range(ends[-1])
    clusters = tf.searchsorted(ends, columns, side="right")  # tf.repeat would be ten times the ops
    return clusters, columns - tf.gather(ends - widths, clusters)


def lay_out(scores: Sequence[tf.Tensor], rows: Sequence[tf.Tensor], first_rows: np.ndarray) -> Candidates:
    """Concatenates the answers of K clusters.

    Args:
        scores: per cluster `[B, W_k]`.
        rows: per cluster `[B, W_k]` int32, counted from its first item.
        first_rows: `[K]` row of every cluster's first item.
    """
    clusters, ranks = clusters_of(tf.stack(tf.shape_n(scores))[:, 1])
    return Candidates(
        scores=tf.concat(scores, axis=1),
        rows=tf.concat(rows, axis=1) + tf.gather(first_rows, clusters),
        clusters=clusters,
        ranks=ranks,
    )
