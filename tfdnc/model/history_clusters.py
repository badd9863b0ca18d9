"""Cluster of every history item, as an embedding in its token."""

from typing import Any

from tfdnc.backend import keras, tf


class HistoryClusters(keras.layers.Layer):
    """Embedding `[D]` of each of K clusters, for the tokens of its items; `model.history_clusters`.

    Attributes:
        rows: `[K, D]`.
    """

    def __init__(self, num_clusters: int, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows: tf.Variable = self.add_weight(
            name="rows", shape=[num_clusters, dim], initializer=keras.initializers.RandomNormal(0, 0.02)
        )

    def call(self, clusters: tf.Tensor) -> tf.Tensor:
        """`[B, L]` int32 clusters of the items -> `[B, L, D]`."""
        return tf.gather(tf.convert_to_tensor(self.rows), clusters)
