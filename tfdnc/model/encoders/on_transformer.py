"""Base of encoders that read histories with position embeddings and a Transformer."""

from typing import Any, ClassVar

from tfdnc.backend import tf
from tfdnc.contracts.model_config import ModelConfig
from tfdnc.model.encoders.base import UserEncoder, at_last, position_embeddings
from tfdnc.model.randomness import Stream
from tfdnc.model.transformer import Transformer


class OnTransformer(UserEncoder):
    """Base of encoders with position embeddings and one shared Transformer, the trunk."""

    reads_user_token: ClassVar[bool] = True

    def __init__(
        self, config: ModelConfig, num_clusters: int, num_users: int, compute_dtype: tf.DType, **kwargs: Any
    ) -> None:
        super().__init__(config, num_clusters, num_users, compute_dtype, **kwargs)
        self._positions = position_embeddings(self, config)
        self._trunk = self._transformer("trunk")

    def _transformer(self, name: str) -> Transformer:
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

    def _positioned(self, tokens: tf.Tensor) -> tf.Tensor:
        """Tokens `[..., L, D]` plus their position embeddings."""
        return tokens + self._positions[: tf.shape(tokens)[-2]]

    def _states(
        self,
        tokens: tf.Tensor,
        elapsed: tf.Tensor | None,
        user_token: tf.Tensor | None,
        stream: Stream | None,
        trunk: Transformer | None = None,
    ) -> tf.Tensor:
        """Causal states `[B, L, D]` of tokens with positions, after input dropout, by the trunk or another model."""
        trunk = trunk or self._trunk
        return trunk(trunk.drop_inputs(tokens, stream), stream=stream, elapsed=elapsed, before=user_token).prefix

    def _last_state(
        self,
        tokens: tf.Tensor,
        lengths: tf.Tensor,
        elapsed: tf.Tensor | None,
        user_token: tf.Tensor | None,
        trunk: Transformer | None = None,
    ) -> tf.Tensor:
        """State `[B, D]` of the last item of tokens with positions `[B, L, D]`, by the trunk or another model."""
        prefix, reach = tokens[:, :-1], tf.maximum(lengths - 1, 0)
        last, trunk = at_last(tokens, lengths)[:, None], trunk or self._trunk
        queries = trunk(prefix, last, reach[:, None], need_prefix=False, elapsed=elapsed, before=user_token).queries
        return queries[:, 0]
