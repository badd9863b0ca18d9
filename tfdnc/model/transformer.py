"""SASRec's causal Transformer, with a second stream of queries that read a prefix without being read.

The query stream makes per-position prompts cheap: one pass over the prefix serves all queries that differ from it only
in their last token. These are the K task prompts of a request, or the "no task" prompt of the intent model, which
training adds at every position of a sequence.

Source: Kang & McAuley 2018 (blocks, learned positions); pre-layer-norm, as in most later reimplementations.
"""

from typing import Any, NamedTuple

from tfdnc.backend import keras, tf
from tfdnc.model.attention_bias import BiasTable, ElapsedBias, PositionTimes
from tfdnc.model.dropout import stateless_dropout
from tfdnc.model.layers import Dense, LayerNorm
from tfdnc.model.randomness import Stream, substream

_MASKED = -1e9  # finite: a row without a readable position must not become NaN


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
        distances: number of distances with a learned attention bias per head, the same in all blocks (Raffel et al.
            2020). Larger distances share the last one; 0 is no bias.
        times: True adds a bias for the time elapsed from an item to the query that reads it (Zhai et al. 2024).
        swiglu: True for SwiGLU feed-forward layers (Shazeer 2020), W (silu(G x) * V x), else W relu(V x).
        gated: True multiplies the output of attention by a gate sigmoid(G x), head by head (Qiu et al. 2025).
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
    ) -> None:
        super().__init__(**kwargs)
        self._distances = distances
        self._distance_bias = BiasTable(distances, heads, name="distance_bias") if distances else None
        self._time_bias = ElapsedBias(heads, name="time_bias") if times else None
        self._blocks = [
            _Block(dim, heads, dropout, compute_dtype, swiglu, gated, name=f"block_{i}") for i in range(blocks)
        ]
        self._norm = LayerNorm(dim, name="final_norm")
        self._dropout = dropout

    def drop_inputs(self, tokens: tf.Tensor, stream: Stream | None) -> tf.Tensor:
        """Returns the embeddings `[B, T, D]` after dropout, before the first block."""
        return stateless_dropout(tokens, self._dropout, substream(stream, "inputs"))

    def call(
        self,
        prefix: tf.Tensor,
        queries: tf.Tensor | None = None,
        reach: tf.Tensor | None = None,
        stream: Stream | None = None,
        need_prefix: bool = True,
        elapsed: tf.Tensor | None = None,
        before: tf.Tensor | None = None,
    ) -> Streams:
        """Encodes the prefix causally, and every query after the prefix positions it reaches.

        Args:
            prefix: `[B, L, D]` right-padded tokens; position j reads positions 0..j, so padding needs no mask.
            queries: `[B, Q, D]` tokens; query q reads prefix positions below `reach[b, q]` and itself.
            reach: `[B | 1, Q | 1]` int32, how many prefix positions a query reads; None where query q of L reads q.
            stream: of the dropout masks; None switches dropout off.
            need_prefix: True if the last block computes the prefix states too; inference needs only the queries.
            elapsed: `[B, P]` int64 time from each position to the next, P >= L and above every reach, for a model that
                reads times. Below 0 it is unknown, and then all times of the row are.
            before: `[B, S, D]` tokens that every position and every query reads, after input dropout of their own. They
                read each other, and have no position and no time: no bias of attention concerns them.

        Returns:
            The final, normalised states of both streams.
        """
        positions = tf.range(tf.shape(prefix)[1])[None]
        times = None if self._time_bias is None else PositionTimes.of(elapsed)
        by_time = self._bias_by_time(positions, positions, times)
        causal = self._mask(positions, positions) + by_time  # [B | 1, H | 1, L, L]
        reachable = own = None
        if queries is not None:
            # The position of a query is the one after the last prefix position that it reads.
            query_by_time = by_time if reach is None else self._bias_by_time(reach, positions, times)
            reach = positions if reach is None else reach
            reachable = self._mask(reach, positions, strictly=True) + query_by_time  # [B | 1, H | 1, Q, L]
            own = self._bias_of_own(reach, times)  # [B | 1, H | 1, Q | 1, 1]
        if before is not None:
            count = before.shape[1]
            prefix = tf.concat([self.drop_inputs(before, substream(stream, "before")), prefix], axis=1)
            causal = tf.pad(causal, [[0, 0], [0, 0], [count, 0], [0, 0]], constant_values=_MASKED)
            causal = _read_before(causal, count)
            reachable = None if reachable is None else _read_before(reachable, count)
        last = len(self._blocks) - 1
        for i, block in enumerate(self._blocks):
            own_stream = substream(stream, "block", i)
            prefix, queries = block(prefix, queries, causal, reachable, own, own_stream, need_prefix or i < last)
        if prefix is not None and before is not None:
            prefix = prefix[:, before.shape[1] :]
        return Streams(
            None if prefix is None else self._norm(prefix),
            None if queries is None else self._norm(queries),
        )

    def _mask(self, query: tf.Tensor, key: tf.Tensor, strictly: bool = False) -> tf.Tensor:
        """Causal mask plus bias by distance `[B | 1, H | 1, Q, L]`, given positions `[B | 1, Q]` and `[1, L]`."""
        distance = query[:, :, None] - key[:, None]
        readable = distance > 0 if strictly else distance >= 0
        return tf.where(readable[:, None], self._bias_by_distance(distance), _MASKED)

    def _bias_by_distance(self, distance: tf.Tensor) -> tf.Tensor | float:
        """Bias of each head by the distance of query and key: `[B | 1, Q, L]` -> `[B | 1, H, Q, L]`, or 0."""
        if self._distance_bias is None:
            return 0.0
        return self._distance_bias(tf.clip_by_value(distance, 0, self._distances - 1))

    def _bias_by_time(self, query: tf.Tensor, key: tf.Tensor, times: PositionTimes | None) -> tf.Tensor | float:
        """Bias of each head by the time elapsed from key to query: `[B, H, Q, L]`, or 0."""
        if self._time_bias is None or times is None:
            return 0.0
        return self._time_bias(times.elapsed_of_pairs(query, key))

    def _bias_of_own(self, query: tf.Tensor, times: PositionTimes | None) -> tf.Tensor | float:
        """Bias of positions that read themselves, `[B | 1, H | 1, Q | 1, 1]`."""
        bias = self._bias_by_distance(tf.zeros([1, 1, 1], tf.int32))
        if self._time_bias is None or times is None:
            return bias
        return bias + self._time_bias(times.elapsed_of_own(query)[:, :, None])


def _read_before(mask: tf.Tensor, count: int) -> tf.Tensor:
    """Mask `[.., .., Q, L]` -> `[.., .., Q, S + L]`: every query reads the S tokens before, without a bias."""
    return tf.pad(mask, [[0, 0], [0, 0], [0, 0], [count, 0]])


class _Block(keras.layers.Layer):
    """Attention and feed-forward, each behind a layer norm and in front of a residual sum."""

    def __init__(
        self, dim: int, heads: int, dropout: float, compute_dtype: tf.DType, swiglu: bool, gated: bool, **kwargs: Any
    ) -> None:
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

    def call(
        self,
        prefix: tf.Tensor,
        queries: tf.Tensor | None,
        causal: tf.Tensor,
        reachable: tf.Tensor | None,
        own: tf.Tensor | None,
        stream: Stream | None,
        need_prefix: bool,
    ) -> list[tf.Tensor | None]:
        """Returns both streams after the block; both read the keys and values of the prefix."""
        outputs = [None, None]
        x = self._attention_norm(prefix)
        if need_prefix:
            q, k, v = self._heads_of(x)
            attended = self._attend(q, k, v, causal)
            outputs[0] = self._feed_forward(prefix, self._joined(attended, x), substream(stream, "prefix"))
        else:
            k, v = self._heads_of(x, with_queries=False)
        if queries is not None:
            x = self._attention_norm(queries)
            own_q, own_k, own_v = self._heads_of(x)
            attended = self._attend_with_self(own_q, k, v, own_k, own_v, reachable, own)
            outputs[1] = self._feed_forward(queries, self._joined(attended, x), substream(stream, "queries"))
        return outputs

    def _heads_of(self, x: tf.Tensor, with_queries: bool = True) -> list[tf.Tensor]:
        """`[B, T, D]` -> queries (unless left out), keys and values `[B, H, T, D / H]` in the product dtype."""
        shape, dim = tf.shape(x), x.shape[-1]
        width = dim // self._heads
        projected = self._qkv(x, skip=0 if with_queries else dim)
        parts = tf.split(tf.cast(projected, self._product_dtype), 3 if with_queries else 2, axis=-1)
        # Split before the transpositions: with one head they keep the layout then, and TensorFlow copies nothing.
        heads = [
            tf.transpose(tf.reshape(part, [shape[0], shape[1], self._heads, width]), [0, 2, 1, 3]) for part in parts
        ]
        if with_queries:
            heads[0] *= tf.cast(width**-0.5, self._product_dtype)
        return heads

    def _attend(self, q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        logits = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32) + mask  # [B, H, T, T]
        return tf.matmul(tf.cast(tf.nn.softmax(logits), v.dtype), v)

    def _attend_with_self(
        self,
        q: tf.Tensor,
        k: tf.Tensor,
        v: tf.Tensor,
        own_k: tf.Tensor,
        own_v: tf.Tensor,
        mask: tf.Tensor,
        own_mask: tf.Tensor,
    ) -> tf.Tensor:
        """Attention over reachable prefix positions and the query itself, without a joint `[L + 1]` axis.

        Z is the partition function of the prefix logits, s the logit of the query's own key. In the joint softmax the
        own value has the weight exp(s) / (Z + exp(s)) = sigmoid(s - log Z).
        """
        logits = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32) + mask  # [B, H, Q, L]
        own_logit = tf.cast(tf.reduce_sum(q * own_k, axis=-1, keepdims=True), tf.float32) + own_mask  # [B, H, Q, 1]
        own_weight = tf.sigmoid(own_logit - tf.reduce_logsumexp(logits, axis=-1, keepdims=True))
        from_prefix = tf.cast(tf.matmul(tf.cast(tf.nn.softmax(logits), v.dtype), v), tf.float32)
        return (1.0 - own_weight) * from_prefix + own_weight * tf.cast(own_v, tf.float32)

    def _joined(self, attended: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Output of the heads of `x` `[B, H, T, D / H]` -> `[B, T, D]`, times the gate."""
        joined = tf.reshape(tf.transpose(attended, [0, 2, 1, 3]), tf.shape(x))
        joined = tf.ensure_shape(joined, x.shape)
        return joined if self._gate is None else tf.cast(joined, tf.float32) * tf.sigmoid(self._gate(x))

    def _feed_forward(self, x: tf.Tensor, attended: tf.Tensor, stream: Stream | None) -> tf.Tensor:
        """Adds the output of attention `[B, T, D]` to `x`, then that of the two-layer feed-forward network."""
        x = x + stateless_dropout(self._out(attended), self._dropout, substream(stream, "attention"))
        hidden = self._outer(self._activation(self._inner(self._feed_forward_norm(x))))
        return x + stateless_dropout(hidden, self._dropout, substream(stream, "feed_forward"))

    def _activation(self, hidden: tf.Tensor) -> tf.Tensor:
        if not self._swiglu:
            return tf.nn.relu(hidden)
        gate, values = tf.split(hidden, 2, axis=-1)
        return tf.nn.silu(gate) * values
