"""SASRec's causal Transformer, with a second stream of queries that read a prefix without being read.

The query stream is what makes per-position prompts affordable: one pass over the prefix serves every query that
differs from it only in its last token, be it the K task prompts of a request or the "no task" prompt that the intent
model asks at every position of a training sequence.

Source: Kang & McAuley 2018 (blocks, learned positions); pre-layer-norm, as in most later reimplementations.
"""

from typing import Any, NamedTuple

from tfdnc.backend import keras, tf
from tfdnc.model.dropout import stateless_dropout
from tfdnc.model.gaps import BUCKET_OF_FIELD, NUM_BUCKETS, gap_fields
from tfdnc.model.layers import Dense, LayerNorm
from tfdnc.model.randomness import Stream, substream

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
        distances: how many positions back attention has a learned bias for, by head and the same in all blocks (Raffel
            et al. 2020; those further back share the last one); 0 is without.
        times: whether it has another one for how long ago an item was when a position asks (Zhai et al. 2024).
        swiglu: whether the feed-forward layers are SwiGLU (Shazeer 2020), W (silu(G x) * V x), else W relu(V x).
        gated: whether what attention has read passes a gate sigmoid(G x) before the heads are joined (Qiu et al. 2025).
    """

    def __init__(
        self,
        dim: int,
        blocks: int,
        heads: int,
        dropout: float,
        compute_dtype: tf.DType,
        distances: int = 0,
        times: bool = False,
        swiglu: bool = False,
        gated: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._distances = distances
        self._distance_bias = BiasTable(distances, heads, name="distance_bias") if distances else None
        self._time_bias = AgeBias(heads, name="time_bias") if times else None
        self._blocks = [
            _Block(dim, heads, dropout, compute_dtype, swiglu, gated, name=f"block_{i}") for i in range(blocks)
        ]
        self._norm = LayerNorm(dim, name="final_norm")
        self._dropout = dropout

    def drop_inputs(self, tokens: tf.Tensor, stream: Stream | None) -> tf.Tensor:
        """Dropout on the embeddings `[B, T, D]`, before the first block."""
        return stateless_dropout(tokens, self._dropout, substream(stream, "inputs"))

    def call(
        self,
        prefix: tf.Tensor,
        queries: tf.Tensor | None = None,
        reach: tf.Tensor | None = None,
        stream: Stream | None = None,
        need_prefix: bool = True,
        elapsed: tf.Tensor | None = None,
    ) -> Streams:
        """Encodes the prefix causally, and every query after the prefix positions it reaches.

        Args:
            prefix: `[B, L, D]` right-padded tokens; position j reads positions 0..j, so padding needs no mask.
            queries: `[B, Q, D]` tokens; query q reads prefix positions below `reach[b, q]` and itself.
            reach: `[B | 1, Q | 1]` int32, how many prefix positions a query reads; None where query q of L reads q.
            stream: of the dropout masks; None switches dropout off.
            need_prefix: whether the last block computes the prefix states too; inference needs only the queries.
            elapsed: `[B, P]` int64 time from each position to the next, P >= L and above every reach; below 0 it is
                unknown, and then all times of the row are. Where the bias for times is.

        Returns:
            The final, normalised states of both streams.
        """
        places = tf.range(tf.shape(prefix)[1])[None]
        ages = None if self._time_bias is None else Ages.of(elapsed)
        by_age = self._bias_by_age(places, places, ages)
        causal = self._mask(places, places) + by_age  # [B | 1, H | 1, L, L]
        reachable = own = None
        if queries is not None:
            # A query stands right behind what it reads, in the place of the next prefix position.
            asked_by_age = by_age if reach is None else self._bias_by_age(reach, places, ages)
            reach = places if reach is None else reach
            reachable = self._mask(reach, places, strictly=True) + asked_by_age  # [B | 1, H | 1, Q, L]
            own = self._bias_of_own(reach, ages)  # [B | 1, H | 1, Q | 1, 1]
        last = len(self._blocks) - 1
        for i, block in enumerate(self._blocks):
            own_stream = substream(stream, "block", i)
            prefix, queries = block(prefix, queries, causal, reachable, own, own_stream, need_prefix or i < last)
        return Streams(
            None if prefix is None else self._norm(prefix),
            None if queries is None else self._norm(queries),
        )

    def _mask(self, asking, read, strictly=False):
        """What is added to logits whatever the times: `[B | 1, H | 1, Q, L]` of places `[B | 1, Q]` and `[1, L]`."""
        back = asking[:, :, None] - read[:, None]
        readable = back > 0 if strictly else back >= 0
        return tf.where(readable[:, None], self._bias_by_distance(back), _MASKED)

    def _bias_by_distance(self, back):
        """What is added for being so many positions back: `[B | 1, Q, L]` -> `[B | 1, H, Q, L]`, or 0."""
        if self._distance_bias is None:
            return 0.0
        return self._distance_bias(tf.clip_by_value(back, 0, self._distances - 1))

    def _bias_by_age(self, asking, read, ages):
        """What is added for the times: `[B, H, Q, L]`, or 0."""
        return 0.0 if ages is None else self._time_bias(ages.of_pairs(asking, read))

    def _bias_of_own(self, asking, ages):
        """What is added where places read themselves, `[B | 1, H | 1, Q | 1, 1]`."""
        bias = self._bias_by_distance(tf.zeros([1, 1, 1], tf.int32))
        return bias if ages is None else bias + self._time_bias(ages.of_own(asking)[:, :, None])


class Ages(NamedTuple):
    """When each position was, and when it asks: just before the next one, or when the request comes."""

    been: tf.Tensor  # [B, P] int64, after everything where the times of the row are unknown
    asks: tf.Tensor  # [B, P] int64

    @classmethod
    def of(cls, elapsed: tf.Tensor) -> "Ages":
        """Adds up the time `[B, P]` from each position to the next."""
        asks, known = tf.cumsum(elapsed, axis=1), tf.reduce_all(elapsed >= 0, axis=1, keepdims=True)
        return cls(tf.where(known, asks - elapsed, 2**62), asks)

    def of_pairs(self, asking: tf.Tensor, read: tf.Tensor) -> tf.Tensor:
        """How old the places `read` `[1, L]` are when `asking` `[B | 1, Q]` ask: `[B, Q, L]`, below 0: unknown."""
        return self._at(self.asks, asking)[:, :, None] - self._at(self.been, read)[:, None]

    def of_own(self, asking: tf.Tensor) -> tf.Tensor:
        """How old the places `[B | 1, Q]` are themselves when they ask: `[B, Q]`, below 0: unknown."""
        return self._at(self.asks, asking) - self._at(self.been, asking)

    def _at(self, times, places):
        batch = tf.shape(times)[0]
        return tf.gather(times, tf.broadcast_to(places, [batch, tf.shape(places)[1]]), batch_dims=1)


class BiasTable(keras.layers.Layer):
    """What attention adds to a logit for a number alone: `[B, Q, L]` int -> `[B, H, Q, L]`."""

    def __init__(self, rows: int, heads: int, **kwargs: Any):
        super().__init__(**kwargs)
        self._rows = self.add_weight(name="rows", shape=[rows, heads], initializer="zeros")

    def call(self, numbers: tf.Tensor) -> tf.Tensor:
        """The bias of every head, of numbers 0 .. rows - 1."""
        return _look_up(tf.convert_to_tensor(self._rows), numbers)


class AgeBias(BiasTable):
    """What attention adds for an age: `[B, Q, L]` int64, below 0 unknown -> `[B, H, Q, L]`."""

    def __init__(self, heads: int, **kwargs: Any):
        super().__init__(NUM_BUCKETS, heads, **kwargs)

    def call(self, ages: tf.Tensor) -> tf.Tensor:
        """The bias of every head, of the buckets of the ages."""
        # A row per field instead of a bucket per pair: there are more pairs than anything else in a Transformer.
        return _look_up(tf.gather(tf.convert_to_tensor(self._rows), BUCKET_OF_FIELD), gap_fields(ages))


@tf.custom_gradient
def _look_up(rows, numbers):
    """Rows `[R, H]` of numbers `[B, Q, L]` as `[B, H, Q, L]`."""

    def gradient(upstream):
        # Adds up by number; as one row, so always in the same order. What tf.gather does takes six times as long.
        places, size = tf.reshape(numbers, [1, -1]), tf.cast(tf.shape(rows)[0], numbers.dtype)
        sums = [
            tf.raw_ops.DenseBincount(input=places, size=size, weights=tf.reshape(of_head, [1, -1]))[0]
            for of_head in tf.unstack(upstream, axis=1)
        ]
        return tf.stack(sums, axis=1), None

    return tf.transpose(tf.gather(rows, numbers), [0, 3, 1, 2]), gradient


class _Block(keras.layers.Layer):
    """Attention and feed-forward, each behind a layer norm and in front of a residual sum."""

    def __init__(
        self, dim: int, heads: int, dropout: float, compute_dtype: tf.DType, swiglu: bool, gated: bool, **kwargs
    ):
        super().__init__(**kwargs)
        self._heads = heads
        self._swiglu = swiglu
        self._dropout = dropout
        self._product_dtype = compute_dtype
        self._attention_norm = LayerNorm(dim, name="attention_norm")
        self._qkv = Dense(dim, 3 * dim, compute_dtype, name="qkv")
        self._gate = Dense(dim, dim, compute_dtype, name="gate") if gated else None
        self._out = Dense(dim, dim, compute_dtype, name="out")
        self._feed_forward_norm = LayerNorm(dim, name="feed_forward_norm")
        self._inner = Dense(dim, 2 * dim if swiglu else dim, compute_dtype, name="inner")
        self._outer = Dense(dim, dim, compute_dtype, name="outer")

    def call(self, prefix, queries, causal, reachable, own, stream, need_prefix):
        """One block over both streams; both read the keys and values of the prefix."""
        outputs = [None, None]
        x = self._attention_norm(prefix)
        if need_prefix:
            q, k, v = self._heads_of(x)
            attended = self._attend(q, k, v, causal)
            outputs[0] = self._feed_forward(prefix, self._joined(attended, x), substream(stream, "prefix"))
        else:
            k, v = self._heads_of(x, asks=False)
        if queries is not None:
            x = self._attention_norm(queries)
            own_q, own_k, own_v = self._heads_of(x)
            attended = self._attend_with_self(own_q, k, v, own_k, own_v, reachable, own)
            outputs[1] = self._feed_forward(queries, self._joined(attended, x), substream(stream, "queries"))
        return outputs

    def _heads_of(self, x, asks=True):
        """`[B, T, D]` -> queries (if it `asks`), keys and values `[B, H, T, D / H]` in the product dtype."""
        shape, dim = tf.shape(x), x.shape[-1]
        width = dim // self._heads
        projected = self._qkv(x, skip=0 if asks else dim)
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

    def _attend_with_self(self, q, k, v, own_k, own_v, mask, own_mask):
        """Attention over reachable prefix positions and the query itself, without a joint `[L + 1]` axis.

        With Z the partition of the prefix part and s the logit of the query's own key, the weight of the own value
        in the joint softmax is exp(s) / (Z + exp(s)) = sigmoid(s - log Z).
        """
        logits = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32) + mask  # [B, H, Q, L]
        own_logit = tf.cast(tf.reduce_sum(q * own_k, axis=-1, keepdims=True), tf.float32) + own_mask  # [B, H, Q, 1]
        own_weight = tf.sigmoid(own_logit - tf.reduce_logsumexp(logits, axis=-1, keepdims=True))
        from_prefix = tf.cast(tf.matmul(tf.cast(tf.nn.softmax(logits), v.dtype), v), tf.float32)
        return (1.0 - own_weight) * from_prefix + own_weight * tf.cast(own_v, tf.float32)

    def _joined(self, attended, x):
        """What the heads of `x` have read `[B, H, T, D / H]` -> `[B, T, D]`, behind the gate."""
        joined = tf.reshape(tf.transpose(attended, [0, 2, 1, 3]), tf.shape(x))
        joined = tf.ensure_shape(joined, x.shape)
        return joined if self._gate is None else tf.cast(joined, tf.float32) * tf.sigmoid(self._gate(x))

    def _feed_forward(self, x, attended, stream):
        """Adds what was read `[B, T, D]` to the residual, then the two-layer feed-forward network with its own."""
        x = x + stateless_dropout(self._out(attended), self._dropout, substream(stream, "attention"))
        hidden = self._outer(self._activation(self._inner(self._feed_forward_norm(x))))
        return x + stateless_dropout(hidden, self._dropout, substream(stream, "feed_forward"))

    def _activation(self, hidden):
        if not self._swiglu:
            return tf.nn.relu(hidden)
        gate, values = tf.split(hidden, 2, axis=-1)
        return tf.nn.silu(gate) * values
