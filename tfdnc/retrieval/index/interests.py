"""Several interests of one user: the score of an item is the best of its scores.

With one interest, the usual case, this is one matrix product and nothing else.
"""

import functools

from tfdnc.backend import tf


def best_scores(queries: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Products of every item with the interest that likes it most.

    Args:
        queries: `[B, I, D]`, I static.
        items: `[n, D]`.

    Returns:
        `[B, n]`.
    """
    # One product per interest: as fast as one product of [B * I, D], without its [B, I, n] of memory.
    products = [tf.matmul(interest, items, transpose_b=True) for interest in tf.unstack(queries, axis=1)]
    return functools.reduce(tf.maximum, products)


def unite(rows: tf.Tensor, scores: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Makes one list of what several interests found; an item that several found appears once, with its best score.

    If each interest's list holds its own best `width` items, the result holds the best `width` of all: an item whose
    best interest did not list it is beaten by all `width` items of that list.

    Args:
        rows: `[B, C]` int32 found items, those of all interests side by side.
        scores: `[B, C]`, NaN where nothing was found.
        width: int32 scalar, at most C.

    Returns:
        `[B, width]` rows and scores, best first; short rows end in NaN.
    """
    scores = tf.where(tf.math.is_nan(scores), float("-inf"), scores)
    # Stable: by score, then by item, so that the copies of an item stand together, the best of them first.
    by_score = tf.argsort(scores, axis=1, direction="DESCENDING", stable=True)
    by_item = tf.argsort(tf.gather(rows, by_score, batch_dims=1), axis=1, stable=True)
    order = tf.gather(by_score, by_item, batch_dims=1)
    rows, scores = tf.gather(rows, order, batch_dims=1), tf.gather(scores, order, batch_dims=1)
    repeated = tf.pad(rows[:, 1:] == rows[:, :-1], [[0, 0], [1, 0]])
    best = tf.math.top_k(tf.where(repeated, float("-inf"), scores), k=width)
    missing = best.values == float("-inf")
    return tf.gather(rows, best.indices, batch_dims=1), tf.where(missing, float("nan"), best.values)
