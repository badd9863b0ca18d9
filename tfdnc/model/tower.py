"""The tower: encodes histories, says the log-intent, and owns the variables that a request reads."""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.config import ModelConfig, TrainConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import TIME, Feature
from tfdnc.model.catalogue import Catalogue
from tfdnc.model.encoders import USER_ENCODERS, Encoder, Histories
from tfdnc.model.inputs import TokenInputs
from tfdnc.model.intent import make_intent
from tfdnc.model.item_tower import FeaturedItems, FeatureMatrix, ItemEmbeddings
from tfdnc.model.precision import resolve_precision
from tfdnc.model.randomness import Stream


class Tower(keras.layers.Layer):
    """User encoder, item vectors and intent model: all that evaluation, export and a request need of a model.

    `Tower.make` builds one from a config. It knows neither losses nor optimisers: `Retriever` trains it.

    Args:
        offsets: K + 1 item counts; cluster k is item rows offsets[k] .. offsets[k + 1] - 1.
        counts: `[N]` training events of each item.
        max_length: L, the longest history.
        items: the item vectors.
        encoder: the user encoder.
        intent: one of `tfdnc.model.intent`.
        inputs: what tokens say beside the items.
    """

    def __init__(
        self,
        offsets: tuple[int, ...],
        counts: np.ndarray,
        max_length: int,
        items: ItemEmbeddings,
        encoder: Encoder,
        intent: keras.layers.Layer,
        inputs: TokenInputs,
    ):
        super().__init__(name="tower")
        self.offsets = offsets
        self.counts = counts
        self.max_length = max_length
        self.items = items
        self.encoder = encoder
        self.intent = intent
        self.inputs = inputs

    @classmethod
    def make(
        cls,
        config: ModelConfig,
        train: TrainConfig,
        offsets: tuple[int, ...],
        seed: int,
        counts: np.ndarray | None = None,
        num_users: int = 0,
        features: FeatureMatrix | None = None,
        inputs: Sequence[Feature] | None = None,
    ) -> Self:
        """Builds a tower with random weights; the order of its parts decides which seed gives which weights.

        Args:
            config: of the model.
            train: precision of the matrix products, and what the intent and the item features need of it.
            offsets: as of the class.
            seed: fixes initial weights.
            counts: as of the class: what some encoders start from; None is uniform.
            num_users: users in the training records; 0 outside training.
            features: what `config.item_features` reads; None elsewhere.
            inputs: declared inputs that the model reads, see `features.model_features`; None is times alone, if
                `config.times`.

        Raises:
            UserError: inputs with an encoder that reads no order, or features with one that gives the vectors.
        """
        keras.utils.set_random_seed(seed)
        offsets = tuple(int(offset) for offset in offsets)
        num_clusters, num_items = len(offsets) - 1, offsets[-1]
        counts = np.ones(num_items, np.int64) if counts is None else counts
        encoder = USER_ENCODERS.resolve(config.encoder)
        if inputs is None:
            inputs = (TIME,) if config.times else ()
        if inputs and not encoder.reads_order:
            key = "model.times" if config.times else "model.inputs"
            raise UserError(f"Expected {key} only with an encoder that reads order, {config.encoder} does not.")
        initial = encoder.initial_items(counts, config.dim)
        if initial is not None and features is not None:
            raise UserError(f"Expected no model.item_features with {config.encoder}, whose item vectors are given.")
        if features is None:
            items = ItemEmbeddings(num_items, config.dim, initial, name="items")
        else:
            items = FeaturedItems(config.dim, features, counts, train.hidden_items, name="items")
        dtype = resolve_precision(train.precision)
        made_encoder = encoder(config, num_clusters, num_users, dtype, name="encoder")
        token_inputs = TokenInputs(inputs, config.dim, name="inputs")
        intent = make_intent(config, train, offsets, dtype)
        # One cluster leaves no intent to learn, a weight of 0 asks for none.
        intent.trainable = num_clusters > 1 and train.intent_weight > 0
        return cls(offsets, counts, config.max_length, items, made_encoder, intent, token_inputs)

    @property
    def num_clusters(self) -> int:
        """K."""
        return len(self.offsets) - 1

    @property
    def num_items(self) -> int:
        """N."""
        return self.offsets[-1]

    @property
    def vectors_per_cluster(self) -> bool:
        """Whether user vector k searches cluster k only; otherwise every vector searches every cluster."""
        return self.encoder.vectors_per_cluster

    @property
    def encode_per_vector(self) -> bool:
        """Whether every user vector costs an encode of its own, so that it pays to say which are wanted."""
        return self.encoder.encode_per_vector

    @property
    def reads_times(self) -> bool:
        """Whether times say something to this model."""
        return TIME in self.inputs.features

    @property
    def input_specs(self) -> tuple[tf.TensorSpec, dict[str, tf.TensorSpec]]:
        """Specs of the arguments of `user_vectors`."""
        return tf.TensorSpec([None, None], tf.int32), self.inputs.specs

    @property
    def item_embeddings(self) -> tf.Variable:
        """Embeddings `[N, D]` of the items; the item vectors themselves, unless features are still apart."""
        return self.items.embeddings

    @property
    def serving_variables(self) -> list[tf.Variable]:
        """Everything `user_vectors` and a search read, what training leaves alone included.

        Raises:
            ValueError: the item vectors are not plain embeddings; see `served`.
        """
        if isinstance(self.items, FeaturedItems):
            raise ValueError("Expected a tower with plain item vectors, got one with features: take `served()` of it.")
        return [self.item_embeddings, *self.inputs.variables, *self.encoder.variables, *self.intent.variables]

    def served(self) -> Self:
        """The tower as evaluation and export read it: with item vectors that are plain embeddings.

        A tower with features gives another one, which has the sums as they are now and shares everything else.
        """
        if not isinstance(self.items, FeaturedItems):
            return self
        items = ItemEmbeddings(*self.item_embeddings.shape, self.item_vectors(), name="items")
        return type(self)(self.offsets, self.counts, self.max_length, items, self.encoder, self.intent, self.inputs)

    def item_vectors(self, stream: Stream | None = None) -> tf.Tensor:
        """Item vectors `[N, D]`: what tokens are made of, and what user vectors are compared with.

        Args:
            stream: of a training step; None leaves no embedding out.
        """
        return self.items.vectors(stream)

    def catalogue(self, items: tf.Tensor) -> Catalogue:
        """The catalogue of all items with these vectors `[N, D]`."""
        return Catalogue(items, self.offsets, self.counts)

    def tokens(self, items: tf.Tensor, history: tf.Tensor, inputs: Mapping[str, tf.Tensor] | None = None) -> tf.Tensor:
        """Input of the encoder `[B, L, D]`: item vectors times sqrt(D), plus what the declared inputs add.

        Args:
            items: `[N, D]` item vectors.
            history: `[B, L]` int32 item indices, padded with 0.
            inputs: `[B, L]` of each that the model reads, by `Feature.key`; None for none.
        """
        return self.inputs(rows_of(items, history) * items.shape[1] ** 0.5, inputs or {})

    def user_vectors(
        self, history: tf.Tensor, inputs: Mapping[str, tf.Tensor] | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Encodes histories for retrieval.

        Args:
            history: `[B, L]` int32 item indices, oldest first, right-padded with 0, L <= max_length.
            inputs: `[B, L]` beside each item by `Feature.key`, such as `elapsed`, the time to the next item, from the
                last to the request; what is not in it is unknown, and what the model does not read is left aside.

        Returns:
            `[B, V, D]` user vectors (V is K with `vectors_per_cluster`, else any number) and `[B, K]` log p(cluster of
            the next item). A row without items gives finite, meaningless values: callers answer it from a prior.
        """
        histories = self._histories(history, inputs)
        vectors = self.encoder.user_vectors(histories)
        return vectors.retrieval, self._log_intent(vectors.intent, histories.items)

    def log_intent(self, history: tf.Tensor, inputs: Mapping[str, tf.Tensor] | None = None) -> tf.Tensor:
        """The `[B, K]` of `user_vectors` alone; of encoders with `encode_per_vector`."""
        histories = self._histories(history, inputs)
        return self._log_intent(self.encoder.intent_state(histories), histories.items)

    def wanted_vectors(
        self, history: tf.Tensor, wanted: tf.Tensor, inputs: Mapping[str, tf.Tensor] | None = None
    ) -> tf.Tensor:
        """The `[B, K, D]` of `user_vectors` where `wanted` `[B, K]` bool, zeros elsewhere; encoders as `log_intent`."""
        return self.encoder.wanted_vectors(self._histories(history, inputs), wanted)

    def _histories(self, history, inputs):
        inputs = self.inputs.complete(inputs, history)
        lengths = tf.reduce_sum(tf.cast(history > 0, tf.int32), axis=1)
        rows = tf.reshape(tf.maximum(history - 1, 0), [-1])
        clusters = tf.reshape(tf.searchsorted(tf.constant(self.offsets[1:]), rows, side="right"), tf.shape(history))
        items = self.item_vectors()
        return Histories(self.tokens(items, history, inputs), clusters, lengths, items, inputs)

    def _log_intent(self, states, items):
        return tf.nn.log_softmax(self.intent(states, self.catalogue(items)))


def rows_of(vectors: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Item vectors `[N, D]`, `[B, L]` item indices -> `[B, L, D]`; padding gets those of some item, which is not read.

    Of a tensor: a gather on the variable itself (ResourceGather) switches it to copy-on-read for good, and the exact
    index would then copy the whole item matrix once per cluster and request.
    """
    return tf.gather(vectors, tf.maximum(items - 1, 0))
