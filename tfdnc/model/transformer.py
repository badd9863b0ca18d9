"""SASRec's causal Transformer, with a second stream of queries that read a prefix without being read.

The query stream is what makes per-position prompts affordable: one pass over the prefix serves every query that
differs from it only in its last token, be it the K task prompts of a request or the "no task" prompt that the intent
model asks at every position of a training sequence.

Source: Kang & McAuley 2018 (blocks, learned positions); pre-layer-norm, as in most later reimplementations.
"""

from typing import NamedTuple

from tfdnc.backend import keras, tf
from tfdnc.model.dropout import stateless_dropout

_MASKED = -1e9  # finite: a row that may read nothing must not become NaN


class Streams(NamedTuple):
    """Hidden states of both streams; either may be absent."""

    prefix: tf.Tensor | None  # [B, L, D]
    queries: tf.Tensor | None  # [B, Q, D]


class Transformer(keras.layers.Layer):
    """A stack of pre-norm causal blocks over two streams.

    Args:
        dim: D, width of every state.
        blocks: number of blocks.
        heads: attention heads; must divide `dim`.
        dropout: rate after attention and after the feed-forward layer (not on attention weights: measured 26-44 %
            slower for no gain).
        compute_dtype: dtype of the matrix products; softmax, layer norm and parameters stay float32.
    """

    def __init__(self, dim: int, blocks: int, heads: int, dropout: float, compute_dtype: tf.DType, **kwargs):
        super().__init__(**kwargs)
        self._blocks = [_Block(dim, heads, dropout, compute_dtype, name=f"block_{i}") for i in range(blocks)]
        self._norm = LayerNorm(dim, name="final_norm")
        self._dropout = dropout

    def drop_inputs(self, tokens: tf.Tensor, seed: tf.Tensor | None, salt: int) -> tf.Tensor:
        """Dropout on the embeddings `[B, T, D]`, before the first block."""
        return stateless_dropout(tokens, self._dropout, seed, salt)

    def call(
        self,
        prefix: tf.Tensor,
        queries: tf.Tensor | None = None,
        reach: tf.Tensor | None = None,
        seed: tf.Tensor | None = None,
        need_prefix: bool = True,
    ) -> Streams:
        """Encodes the prefix causally, and every query after the prefix positions it reaches.

        Args:
            prefix: `[B, L, D]` right-padded tokens; position j reads positions 0..j, so padding needs no mask.
            queries: `[B, Q, D]` tokens; query q reads prefix positions below `reach[b, q]` and itself.
            reach: `[B, Q]` or `[1, Q]` int32, how many prefix positions a query reads.
            seed: `[2]` int32 that fixes the dropout masks; None switches dropout off.
            need_prefix: whether the last block computes the prefix states too; inference needs only the queries.

        Returns:
            The final, normalised states of both streams.
        """
        length = tf.shape(prefix)[1]
        causal = tf.where(tf.range(length)[:, None] >= tf.range(length), 0.0, _MASKED)  # [L, L]
        reachable = None
        if queries is not None:
            reachable = tf.where(tf.range(length) < reach[:, :, None], 0.0, _MASKED)[:, None]  # [B | 1, 1, Q, L]
        last = len(self._blocks) - 1
        for i, block in enumerate(self._blocks):
            block_seed = None if seed is None else seed + tf.constant([0, 16 * (i + 1)])
            prefix, queries = block(prefix, queries, causal, reachable, block_seed, need_prefix or i < last)
        return Streams(
            None if prefix is None else self._norm(prefix),
            None if queries is None else self._norm(queries),
        )


class LayerNorm(keras.layers.Layer):
    """Layer normalisation over the last axis, in float32."""

    def __init__(self, dim: int, epsilon: float = 1e-6, **kwargs):
        super().__init__(**kwargs)
        self._epsilon = epsilon
        self._scale = self.add_weight(name="scale", shape=[dim], initializer="ones")
        self._shift = self.add_weight(name="shift", shape=[dim], initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `[..., D]` normalised states."""
        mean = tf.reduce_mean(x, axis=-1, keepdims=True)
        centred = x - mean
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        return centred * (tf.math.rsqrt(variance + self._epsilon) * self._scale) + self._shift


class Dense(keras.layers.Layer):
    """A linear map whose product runs in `compute_dtype` and whose result is float32."""

    def __init__(self, inputs: int, outputs: int, compute_dtype: tf.DType, **kwargs):
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


class _Block(keras.layers.Layer):
    """Attention and feed-forward, each behind a layer norm and in front of a residual sum."""

    def __init__(self, dim: int, heads: int, dropout: float, compute_dtype: tf.DType, **kwargs):
        super().__init__(**kwargs)
        self._heads = heads
        self._dropout = dropout
        self._product_dtype = compute_dtype
        self._attention_norm = LayerNorm(dim, name="attention_norm")
        self._qkv = Dense(dim, 3 * dim, compute_dtype, name="qkv")
        self._out = Dense(dim, dim, compute_dtype, name="out")
        self._feed_forward_norm = LayerNorm(dim, name="feed_forward_norm")
        self._inner = Dense(dim, dim, compute_dtype, name="inner")
        self._outer = Dense(dim, dim, compute_dtype, name="outer")

    def call(self, prefix, queries, causal, reachable, seed, need_prefix):
        """One block over both streams; both read the keys and values of the prefix."""
        outputs = [None, None]
        if need_prefix:
            q, k, v = self._heads_of(prefix)
            outputs[0] = self._feed_forward(prefix, self._attend(q, k, v, causal), seed, salt=0)
        else:
            k, v = self._heads_of(prefix, asks=False)
        if queries is not None:
            own_q, own_k, own_v = self._heads_of(queries)
            attended = self._attend_with_self(own_q, k, v, own_k, own_v, reachable)
            outputs[1] = self._feed_forward(queries, attended, seed, salt=8)
        return outputs

    def _heads_of(self, x, asks=True):
        """`[B, T, D]` -> queries (if it `asks`), keys and values `[B, H, T, D / H]` in the product dtype."""
        shape, dim = tf.shape(x), x.shape[-1]
        width = dim // self._heads
        projected = self._qkv(self._attention_norm(x), skip=0 if asks else dim)
        parts = tf.split(tf.cast(projected, self._product_dtype), 3 if asks else 2, axis=-1)
        # Split before the transpositions: with one head they then move nothing, and TensorFlow copies nothing.
        heads = [
            tf.transpose(tf.reshape(part, [shape[0], shape[1], self._heads, width]), [0, 2, 1, 3]) for part in parts
        ]
        if asks:
            heads[0] *= tf.cast(width**-0.5, self._product_dtype)
        return heads

    def _attend(self, q, k, v, mask):
        logits = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32) + mask  # [B, H, T, T]
        return tf.matmul(tf.cast(tf.nn.softmax(logits), v.dtype), v)

    def _attend_with_self(self, q, k, v, own_k, own_v, mask):
        """Attention over reachable prefix positions and the query itself, without a joint `[L + 1]` axis.

        With Z the partition of the prefix part and s the logit of the query's own key, the weight of the own value
        in the joint softmax is exp(s) / (Z + exp(s)) = sigmoid(s - log Z).
        """
        logits = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32) + mask  # [B, H, Q, L]
        own_logit = tf.cast(tf.reduce_sum(q * own_k, axis=-1, keepdims=True), tf.float32)  # [B, H, Q, 1]
        own_weight = tf.sigmoid(own_logit - tf.reduce_logsumexp(logits, axis=-1, keepdims=True))
        from_prefix = tf.cast(tf.matmul(tf.cast(tf.nn.softmax(logits), v.dtype), v), tf.float32)
        return (1.0 - own_weight) * from_prefix + own_weight * tf.cast(own_v, tf.float32)

    def _feed_forward(self, x, attended, seed, salt):
        """Joins the heads, adds the residual, then the two-layer feed-forward network with its residual."""
        merged = tf.reshape(tf.transpose(attended, [0, 2, 1, 3]), tf.shape(x))
        merged = tf.ensure_shape(merged, x.shape)
        x = x + stateless_dropout(self._out(merged), self._dropout, seed, salt)
        hidden = self._outer(tf.nn.relu(self._inner(self._feed_forward_norm(x))))
        return x + stateless_dropout(hidden, self._dropout, seed, salt + 1)
