"""Several interests of one user: the score of an item is its best score over the interests.

With one interest, the usual case, this is a single matrix product.
"""

import functools

from tfdnc.backend import tf


def best_scores(queries: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Returns the largest product of every item with any interest.

    Args:
        queries: `[B, I, D]`, I static.
        items: `[n, D]`.

    Returns:
        `[B, n]`.
    """
    # One product per interest is as fast as one product of [B * I, D], and does not need its [B, I, n] of memory.
    products = [tf.matmul(interest, items, transpose_b=True) for interest in tf.unstack(queries, axis=1)]
    return functools.reduce(tf.maximum, products)


def unite(rows: tf.Tensor, scores: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Unites the lists of several interests; an item of several lists appears once, with its best score.

    If each list has the best `width` items of its interest, the result has the best `width` of all. For an item that
    its best interest did not list, all `width` items of that list are better.

    Args:
        rows: `[B, C]` int32 found items, those of all interests side by side.
        scores: `[B, C]`, NaN where nothing was found.
        width: int32 scalar, at most C.

    Returns:
        `[B, width]` rows and scores, best first; short rows end in NaN.
    """
    scores = tf.where(tf.math.is_nan(scores), float("-inf"), scores)
    # Stable sorts, by score and then by item: copies of an item become adjacent, the best of them first.
    by_score = tf.argsort(scores, axis=1, direction="DESCENDING", stable=True)
    by_item = tf.argsort(tf.gather(rows, by_score, batch_dims=1), axis=1, stable=True)
    order = tf.gather(by_score, by_item, batch_dims=1)
    rows, scores = tf.gather(rows, order, batch_dims=1), tf.gather(scores, order, batch_dims=1)
    repeated = tf.pad(rows[:, 1:] == rows[:, :-1], [[0, 0], [1, 0]])
    best = tf.math.top_k(tf.where(repeated, float("-inf"), scores), k=width)
    missing = best.values == float("-inf")
    return tf.gather(rows, best.indices, batch_dims=1), tf.where(missing, float("nan"), best.values)
