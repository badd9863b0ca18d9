"""Exposures in a token: the items that were shown after an event, before the next one, and passed over."""

from tfdnc.backend import keras, tf
from tfdnc.contracts.features import Feature
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.model.item_rows import ItemRows, gather_rows


class PassedOver(keras.layers.Layer):
    """Mean of the vectors of the items that were passed over, through a projection; another vector where none were.

    So a request that does not know them is one after which nothing was passed over. The mean has the scale of a token.
    """

    reads_items: bool = True

    def __init__(self, feature: Feature, dim: int) -> None:
        super().__init__(name=feature.key)
        self.stream_path: tuple[str, ...] = ("inputs", feature.name)
        self._dim = dim
        # Two initializers, because one would return the same numbers twice.
        starts = [keras.initializers.RandomNormal(0, 0.02) for _ in range(2)]
        self._projection = self.add_weight(name="projection", shape=[dim, dim], initializer=starts[0])
        self._nothing = self.add_weight(name="nothing", shape=[dim], initializer=starts[1])

    def hidden_share(self, train: TrainConfig) -> float:
        """See `inputs.TokenInput`."""
        return train.hidden_inputs

    def call(self, values: tf.Tensor, items: tf.Tensor | ItemRows) -> tf.Tensor:
        """See `inputs.OfItems`; only the vectors of items that are there are read."""
        batch, length = tf.shape(values)[0], tf.shape(values)[1]
        where = tf.cast(tf.where(values > 0), tf.int32)  # [V, 3]
        vectors = gather_rows(items, tf.gather_nd(values, where) - 1)
        sums = tf.math.unsorted_segment_sum(vectors, where[:, 0] * length + where[:, 1], batch * length)
        count = tf.reduce_sum(tf.cast(values > 0, tf.float32), axis=2, keepdims=True)
        mean = tf.math.divide_no_nan(tf.reshape(sums, [batch, length, self._dim]), count) * self._dim**0.5
        return tf.where(count > 0, tf.tensordot(mean, self._projection, 1), tf.convert_to_tensor(self._nothing))
