"""Softmax over many items whose scores are never in memory all together, neither forward nor backward."""

from collections.abc import Callable

from tfdnc.backend import tf

CHUNK = 2048
"""Items whose scores are in memory at a time, for all positions."""


def chunked_cross_entropy(
    states: tf.Tensor, labels: tf.Tensor, embeddings: tf.Tensor, dtype: tf.DType, chunk: int = CHUNK
) -> tf.Tensor:
    """-log softmax(states . embeddings^T)[label], from one chunk of items after the other.

    The gradient computes the scores again, which costs one more of three products. Beside arguments and gradients,
    memory is that of the scores `[P, chunk]`, for any number of items.

    Args:
        states: `[P, D]` float32.
        labels: `[P]` int, rows of `embeddings`.
        embeddings: `[pool, D]` float32.
        dtype: dtype of the products.
        chunk: items of a chunk.

    Returns:
        `[P]`.
    """

    @tf.custom_gradient
    def loss(states: tf.Tensor, embeddings: tf.Tensor) -> tuple[tf.Tensor, Callable[..., tuple[tf.Tensor, tf.Tensor]]]:
        log_total = _log_totals(states, embeddings, dtype, chunk)
        own = tf.gather(embeddings, labels)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_states, of_items = _gradients(states, embeddings, log_total, upstream, dtype, chunk)
            hits = tf.IndexedSlices(states * upstream[:, None], labels)
            return of_states - own * upstream[:, None], of_items - _summed(hits, tf.shape(embeddings))

        return log_total - tf.reduce_sum(states * own, axis=1), gradient

    return loss(states, embeddings)


def _log_totals(states: tf.Tensor, embeddings: tf.Tensor, dtype: tf.DType, chunk: int) -> tf.Tensor:
    """ln of the sum of exp(score) over all items, `[P]`."""
    states = tf.cast(states, dtype)

    def add(start: tf.Tensor, largest: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        scores = _scores(states, embeddings[start : start + chunk], dtype)
        new_largest = tf.maximum(largest, tf.reduce_max(scores, axis=1))
        own = tf.reduce_sum(tf.exp(scores - new_largest[:, None]), axis=1)
        return start + chunk, new_largest, total * tf.exp(largest - new_largest) + own

    lowest = tf.fill(tf.shape(states)[:1], tf.float32.min)
    _, largest, total = tf.while_loop(
        lambda start, *_: start < tf.shape(embeddings)[0],
        add,
        (tf.constant(0), lowest, tf.zeros_like(lowest)),
        parallel_iterations=1,
    )
    return largest + tf.math.log(total)


def _gradients(
    states: tf.Tensor, embeddings: tf.Tensor, log_total: tf.Tensor, upstream: tf.Tensor, dtype: tf.DType, chunk: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of the sum of `upstream` times `log_total`: `[P, D]` and `[pool, D]`."""
    pool = tf.shape(embeddings)[0]
    cast = tf.cast(states, dtype)

    def add(
        start: tf.Tensor, of_states: tf.Tensor, of_items: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        items = embeddings[start : start + chunk]
        shares = tf.exp(_scores(cast, items, dtype) - log_total[:, None]) * upstream[:, None]
        shares = tf.cast(shares, dtype)
        of_states += tf.cast(tf.matmul(shares, tf.cast(items, dtype)), tf.float32)
        own = tf.cast(tf.matmul(shares, cast, transpose_a=True), tf.float32)
        return start + chunk, of_states, of_items.write(start // chunk, own)

    chunks = tf.TensorArray(
        tf.float32, (pool + chunk - 1) // chunk, element_shape=[None, embeddings.shape[1]], infer_shape=False
    )
    _, of_states, of_items = tf.while_loop(
        lambda start, *_: start < pool,
        add,
        (tf.constant(0), tf.zeros_like(states), chunks),
        parallel_iterations=1,
    )
    return of_states, of_items.concat()


def _scores(states: tf.Tensor, items: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """`[P, D]`, `[n, D]` -> `[P, n]` float32."""
    return tf.cast(tf.matmul(states, tf.cast(items, dtype), transpose_b=True), tf.float32)


def _summed(slices: tf.IndexedSlices, shape: tf.Tensor) -> tf.Tensor:
    """Dense sum of the slices, whose indices may repeat."""
    return tf.math.unsorted_segment_sum(slices.values, slices.indices, shape[0])
