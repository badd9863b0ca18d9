"""The base of encoders that read histories with position embeddings and a Transformer."""

from typing import Any

from tfdnc.backend import tf
from tfdnc.contracts.config import ModelConfig
from tfdnc.model.encoders.base import UserEncoder, at_last, position_embeddings
from tfdnc.model.transformer import Transformer


class OnTransformer(UserEncoder):
    """Base of what reads histories with position embeddings and one shared Transformer, the trunk."""

    def __init__(self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, **kwargs: Any):
        super().__init__(config, num_clusters, num_users, compute_dtype, **kwargs)
        self._positions = position_embeddings(self, config)
        self._trunk = self._transformer("trunk")

    def _transformer(self, name):
        config = self._config
        return Transformer(
            config.dim,
            config.blocks,
            config.heads,
            config.dropout,
            self._product_dtype,
            distances=config.max_length if config.distance_bias else 0,
            times=config.times,
            swiglu=config.feed_forward == "swiglu",
            gated=config.attention_gate,
            name=name,
        )

    def _placed(self, tokens):
        """Tokens `[..., L, D]` plus their position embeddings."""
        return tokens + self._positions[: tf.shape(tokens)[-2]]

    def _states(self, placed, elapsed, stream, trunk=None):
        """Causal states `[B, L, D]` of placed tokens behind input dropout, of the trunk or another Transformer."""
        trunk = trunk or self._trunk
        return trunk(trunk.drop_inputs(placed, stream), stream=stream, elapsed=elapsed).prefix

    def _last_state(self, placed, lengths, elapsed, trunk=None):
        """State `[B, D]` of the last item of placed tokens `[B, L, D]`, of the trunk or another Transformer."""
        prefix, reach = placed[:, :-1], tf.maximum(lengths - 1, 0)
        last, trunk = at_last(placed, lengths)[:, None], trunk or self._trunk
        return trunk(prefix, last, reach[:, None], need_prefix=False, elapsed=elapsed).queries[:, 0]
