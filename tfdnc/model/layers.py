"""Layers that several parts of the model use: a linear map, and layer normalisation."""

from typing import Any

from tfdnc.backend import keras, tf


class LayerNorm(keras.layers.Layer):
    """Layer normalisation over the last axis, in float32."""

    def __init__(self, dim: int, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._epsilon = epsilon
        self._scale = self.add_weight(name="scale", shape=[dim], initializer="ones")
        self._shift = self.add_weight(name="shift", shape=[dim], initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the normalised states `[..., D]`."""
        mean = tf.reduce_mean(x, axis=-1, keepdims=True)
        centred = x - mean
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        return centred * (tf.math.rsqrt(variance + self._epsilon) * self._scale) + self._shift


class Dense(keras.layers.Layer):
    """A linear map whose product runs in `compute_dtype` and whose result is float32."""

    def __init__(self, inputs: int, outputs: int, compute_dtype: tf.DType, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._product_dtype = compute_dtype
        self._kernel = self.add_weight(name="kernel", shape=[inputs, outputs], initializer="glorot_uniform")
        self._bias = self.add_weight(name="bias", shape=[outputs], initializer="zeros")

    def call(self, x: tf.Tensor, skip: int = 0) -> tf.Tensor:
        """`[..., inputs]` -> `[..., outputs - skip]`, without the first `skip` outputs."""
        kernel, bias = tf.convert_to_tensor(self._kernel), tf.convert_to_tensor(self._bias)
        if skip:
            kernel, bias = kernel[:, skip:], bias[skip:]
        flat = tf.reshape(x, [-1, x.shape[-1]])  # one large product instead of B small ones
        product = tf.matmul(tf.cast(flat, self._product_dtype), tf.cast(kernel, self._product_dtype))
        result = tf.cast(product, tf.float32) + bias
        return tf.reshape(result, tf.concat([tf.shape(x)[:-1], [kernel.shape[1]]], axis=0))
