"""Tower: encodes histories, computes the log-intent, and owns the variables that a request reads."""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import TIME, Feature
from tfdnc.contracts.model_config import ModelConfig, TrainConfig
from tfdnc.model.catalogue import Catalogue
from tfdnc.model.encoders import USER_ENCODERS, Encoder, Histories
from tfdnc.model.history_clusters import HistoryClusters
from tfdnc.model.inputs import TokenInputs
from tfdnc.model.intent import IntentModel, UntrainedKind, intent_kind, make_intent, untrained_intent
from tfdnc.model.item_rows import gather_rows
from tfdnc.model.item_tower import FeaturedItems, FeatureMatrix, ItemEmbeddings
from tfdnc.model.precision import resolve_precision
from tfdnc.model.randomness import Stream


class Tower(keras.layers.Layer):
    """User encoder, item vectors and intent model: the part of a model that evaluation, export and requests use.

    `Tower.make` builds one from a config. It has no losses and no optimiser: `Retriever` trains it.

    Args:
        offsets: K + 1 item counts; cluster k is item rows offsets[k] .. offsets[k + 1] - 1.
        counts: `[N]` training events of each item.
        max_length: L, the longest history.
        items: the item vectors.
        encoder: the user encoder.
        intent: one of `tfdnc.model.intent`.
        inputs: declared inputs in the tokens, beside the items.
        past_clusters: `[R]` clusters, never decreasing, of items that only histories hold: they have no cluster range
            and compete with no item. Their vectors are the last R rows of `items`, so item i + 1 is row i for all.
        history_clusters: adds the cluster of every item to its token; None for a model without.
    """

    def __init__(
        self,
        offsets: tuple[int, ...],
        counts: np.ndarray,
        max_length: int,
        items: ItemEmbeddings,
        encoder: Encoder,
        intent: IntentModel,
        inputs: TokenInputs,
        past_clusters: np.ndarray | None = None,
        history_clusters: HistoryClusters | None = None,
    ) -> None:
        super().__init__(name="tower")
        self.offsets: tuple[int, ...] = offsets
        self.counts: np.ndarray = counts
        self.max_length: int = max_length
        self.items: ItemEmbeddings = items
        self.encoder: Encoder = encoder
        self.intent: IntentModel = intent
        self.inputs: TokenInputs = inputs
        self.past_clusters: np.ndarray = np.zeros(0, np.int32) if past_clusters is None else past_clusters
        self.history_clusters: HistoryClusters | None = history_clusters

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
        popularity: np.ndarray | None = None,
    ) -> Self:
        """Builds a tower with random weights; the order in which its parts are made fixes the weights of a seed.

        Args:
            config: of the model.
            train: precision of the matrix products, and settings of the intent and the item features.
            offsets: as of the class.
            seed: fixes initial weights.
            counts: as of the class, initial values for some encoders, and that by which `model.intent: auto` decides;
                None is one event of every item.
            num_users: users in the training records; 0 outside training.
            features: item features with `config.item_features`; None without.
            inputs: declared inputs that the model reads, see `features.model_features`; None is times with
                `config.times`, and nothing without.
            popularity: `[N]` counts from which encoders that only count make the item vectors; None is `counts`.

        Raises:
            UserError: inputs or clusters in the tokens of an encoder that reads no order, auxiliary objectives with
                one, a user token with one that reads none, or features with one that fixes item vectors.
        """
        keras.utils.set_random_seed(seed)
        offsets = tuple(int(offset) for offset in offsets)
        num_clusters, num_items = len(offsets) - 1, offsets[-1]
        counts = np.ones(num_items, np.int64) if counts is None else counts
        encoder = USER_ENCODERS.resolve(config.encoder)
        if inputs is None:
            inputs = (TIME,) if config.times else ()
        of_tokens = {
            **{"model.times": config.times, "model.inputs": inputs, "model.history_clusters": config.history_clusters},
            "train.auxiliary": train.auxiliary,  # they compare tokens with and without their items
        }
        given = [key for key, value in of_tokens.items() if value]
        if given and not encoder.reads_order:
            raise UserError(f"Expected {given[0]} only with an encoder that reads order, {config.encoder} does not.")
        if config.user_token and not encoder.reads_user_token:
            raise UserError(
                f"Expected model.user_token only with an encoder on a Transformer, {config.encoder} is none: take it "
                "out, and every token has the inputs of the user."
            )
        initial = encoder.initial_items(counts if popularity is None else popularity, config.dim)
        if initial is not None and features is not None:
            raise UserError(f"Expected no model.item_features with {config.encoder}, whose item vectors are given.")
        items: ItemEmbeddings
        if features is None:
            items = ItemEmbeddings(num_items, config.dim, initial, name="items")
        else:
            items = FeaturedItems(config.dim, features, counts, train.hidden_items, name="items")
        dtype = resolve_precision(train.precision)
        made_encoder = encoder(config, num_clusters, num_users, dtype, name="encoder")
        token_inputs = TokenInputs(inputs, config.dim, config.user_token, name="inputs")
        kind = intent_kind(config, train, offsets, counts)
        intent = make_intent(kind, config, train, offsets, dtype)
        # With one cluster there is no intent to learn, and a prior or a history is not learned.
        intent.trainable = num_clusters > 1 and kind in ("head", "partition")
        # The last one, so that the other weights of a seed are those of a model without.
        history_clusters = HistoryClusters(num_clusters, config.dim) if config.history_clusters else None
        parts = items, made_encoder, intent, token_inputs
        return cls(offsets, counts, config.max_length, *parts, history_clusters=history_clusters)

    @property
    def num_clusters(self) -> int:
        """K."""
        return len(self.offsets) - 1

    @property
    def num_items(self) -> int:
        """N, without the items that only histories hold."""
        return self.offsets[-1]

    @property
    def vectors_per_cluster(self) -> bool:
        """True if user vector k searches cluster k only; otherwise every vector searches every cluster."""
        return self.encoder.vectors_per_cluster

    @property
    def encode_per_vector(self) -> bool:
        """True if every user vector costs a separate encode, so that encoding only the wanted ones saves time."""
        return self.encoder.encode_per_vector

    @property
    def reads_times(self) -> bool:
        """True for a model that reads times."""
        return TIME in self.inputs.features

    @property
    def input_specs(self) -> tuple[tf.TensorSpec, dict[str, tf.TensorSpec]]:
        """Specs of the arguments of `user_vectors`."""
        return tf.TensorSpec([None, None], tf.int32), self.inputs.specs

    @property
    def item_embeddings(self) -> tf.Variable:
        """Embeddings `[N + R, D]` of the items; they are the item vectors, unless the model has features."""
        return self.items.embeddings

    @property
    def serving_variables(self) -> list[tf.Variable]:
        """Variables that `user_vectors` and a search read, those that are not trained included.

        Raises:
            ValueError: the item vectors are not plain embeddings; see `served`.
        """
        if isinstance(self.items, FeaturedItems):
            raise ValueError("Expected a tower with plain item vectors, got one with features: take `served()` of it.")
        of_clusters = [] if self.history_clusters is None else self.history_clusters.variables
        return [
            *(self.item_embeddings, *self.inputs.variables, *of_clusters),
            *(*self.encoder.variables, *self.intent.variables),
        ]

    def served(self) -> Self:
        """Returns the tower for evaluation and export, whose item vectors are plain embeddings.

        A tower with features returns another one, with the present sums as embeddings; all other parts are shared.
        """
        if not isinstance(self.items, FeaturedItems):
            return self
        return self.with_items(self.offsets, self.counts, self.item_vectors())

    def with_items(
        self,
        offsets: tuple[int, ...],
        counts: np.ndarray,
        vectors: np.ndarray | tf.Tensor,
        past_clusters: np.ndarray | None = None,
    ) -> Self:
        """Returns a tower with other items, whose vectors are plain embeddings; all other parts are shared.

        Args:
            offsets: as of the class, with the same K.
            counts: as of the class.
            vectors: `[N + R, D]` of the items, and then of those that only histories hold.
            past_clusters: as of the class.
        """
        num_items, dim = vectors.shape
        parts = ItemEmbeddings(num_items, dim, vectors, name="items"), self.encoder, self.intent, self.inputs
        return type(self)(offsets, counts, self.max_length, *parts, past_clusters, self.history_clusters)

    def with_intent(self, kind: UntrainedKind) -> Self:
        """Returns a tower with an untrained intent model; all other parts, and so the user vectors, are shared."""
        intent = untrained_intent(kind, self.num_clusters)
        parts = self.items, self.encoder, intent, self.inputs, self.past_clusters, self.history_clusters
        return type(self)(self.offsets, self.counts, self.max_length, *parts)

    def item_vectors(self, stream: Stream | None = None) -> tf.Tensor:
        """Returns the item vectors `[N, D]`, of which tokens are made, and with which user vectors are compared.

        Args:
            stream: of a training step; None leaves no embedding out.
        """
        return self.items.vectors(stream)

    def catalogue(self, items: tf.Tensor) -> Catalogue:
        """Returns the catalogue of all items with these vectors `[N, D]`."""
        return Catalogue(items, self.offsets, self.counts)

    def tokens(
        self,
        items: tf.Tensor,
        history: tf.Tensor,
        inputs: Mapping[str, tf.Tensor] | None = None,
        masked: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the input of the encoder `[B, L, D]`: item vectors times sqrt(D), plus the declared inputs.

        Args:
            items: `[N + R, D]` item vectors.
            history: `[B, L]` int32 item indices, padded with 0.
            inputs: `[B, L]` of each input that the model reads, by `Feature.key`; None for none.
            masked: `[B, L]` bool, true for items that are left out of their tokens; None for none.
        """
        tokens = rows_of(items, history) * items.shape[1] ** 0.5
        if self.history_clusters is not None:
            tokens += self.history_clusters(self._clusters_of(history))
        if masked is not None:
            tokens = tf.where(masked[:, :, None], 0.0, tokens)
        return self.inputs(tokens, inputs or {}, items)

    def user_vectors(
        self, history: tf.Tensor, inputs: Mapping[str, tf.Tensor] | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Encodes histories for retrieval.

        Args:
            history: `[B, L]` int32 item indices, oldest first, right-padded with 0, L <= max_length.
            inputs: `[B, L]` beside each item by `Feature.key`, such as `elapsed`, the time to the next item, from the
                last to the request. Missing inputs are unknown, and those that the model does not read are ignored.

        Returns:
            `[B, V, D]` user vectors (V is K with `vectors_per_cluster`, else any number) and `[B, K]` log p(cluster of
            the next item). A row without items gives finite, meaningless values: callers answer it from a prior.
        """
        histories = self._histories(history, inputs)
        vectors = self.encoder.user_vectors(histories)
        return vectors.retrieval, self._log_intent(vectors.intent, histories)

    def log_intent(self, history: tf.Tensor, inputs: Mapping[str, tf.Tensor] | None = None) -> tf.Tensor:
        """Returns the `[B, K]` of `user_vectors` alone; for encoders with `encode_per_vector`."""
        histories = self._histories(history, inputs)
        return self._log_intent(self.encoder.intent_state(histories), histories)

    def wanted_vectors(
        self, history: tf.Tensor, wanted: tf.Tensor, inputs: Mapping[str, tf.Tensor] | None = None
    ) -> tf.Tensor:
        """Returns user vectors `[B, K, D]` where `wanted` `[B, K]` is True, else zeros; encoders as `log_intent`."""
        return self.encoder.wanted_vectors(self._histories(history, inputs), wanted)

    def _histories(self, history: tf.Tensor, inputs: Mapping[str, tf.Tensor] | None) -> Histories:
        inputs = self.inputs.complete(inputs, history)
        lengths = tf.reduce_sum(tf.cast(history > 0, tf.int32), axis=1)
        items = self.item_vectors()
        tokens = self.tokens(items, history, inputs)
        listed = items[: self.num_items] if len(self.past_clusters) else items
        return Histories(tokens, self._clusters_of(history), lengths, listed, inputs, self.inputs.user_token(inputs))

    def _clusters_of(self, history: tf.Tensor) -> tf.Tensor:
        """Clusters `[B, L]` of items `[B, L]`, padded with 0, whose cluster is that of item 1 and never read."""
        rows = tf.reshape(tf.maximum(history - 1, 0), [-1])
        clusters = tf.searchsorted(tf.constant(self.offsets[1:]), rows, side="right")
        if len(self.past_clusters):
            past = tf.gather(tf.constant(self.past_clusters, tf.int32), tf.maximum(rows - self.num_items, 0))
            clusters = tf.where(rows < self.num_items, clusters, past)
        return tf.reshape(clusters, tf.shape(history))

    def _log_intent(self, states: tf.Tensor, histories: Histories) -> tf.Tensor:
        return self.intent.of_requests(states, histories, self.catalogue(histories.items))


def rows_of(vectors: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Item vectors `[N, D]`, `[B, L]` item indices -> `[B, L, D]`; padding gets the vector of item 1, never read.

    Requests pass a tensor, not a variable: a gather on the variable (ResourceGather) switches it to copy-on-read
    permanently. The exact index would then copy the whole item matrix once per cluster and request.
    """
    return gather_rows(vectors, tf.maximum(items - 1, 0))
