"""Columns of candidates: the answers of clusters side by side, in columns that say whose they are."""

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.merge import Candidates


def clusters_of(widths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`[K]` int32 numbers of columns -> of all C columns the `[C]` cluster and the `[C]` rank inside it."""
    ends = tf.cumsum(widths)
    columns = tf.range(ends[-1])
    clusters = tf.searchsorted(ends, columns, side="right")  # tf.repeat would be ten times the ops
    return clusters, columns - tf.gather(ends - widths, clusters)


def lay_out(scores: list[tf.Tensor], rows: list[tf.Tensor], first_rows: np.ndarray) -> Candidates:
    """Lays K answers side by side.

    Args:
        scores: of every cluster: `[B, W_k]`.
        rows: of every cluster: `[B, W_k]` int32, counted from its first item.
        first_rows: `[K]` row of every cluster's first item.
    """
    clusters, ranks = clusters_of(tf.stack(tf.shape_n(scores))[:, 1])
    return Candidates(
        scores=tf.concat(scores, axis=1),
        rows=tf.concat(rows, axis=1) + tf.gather(first_rows, clusters),
        clusters=clusters,
        ranks=ranks,
    )
