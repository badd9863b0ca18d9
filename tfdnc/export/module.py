"""The graph behind a bundle's signatures: raw ids -> user vectors and intent -> candidates -> one list of raw ids."""

from pathlib import Path

import numpy as np

from tfdnc import schema
from tfdnc.backend import tf
from tfdnc.config import ExportConfig, MergeConfig
from tfdnc.export.vocabulary import ItemVocabulary
from tfdnc.index import ClusterIndex
from tfdnc.index.listing import expected_shares, search_list
from tfdnc.items import ItemTable
from tfdnc.merge import select_keys
from tfdnc.model.retriever import Retriever

Tensors = dict[str, tf.Tensor]


class RetrievalModule(tf.Module):
    """What a bundle answers with; its methods are the signatures and run eagerly too.

    A row without a known item is a cold start: it is answered from the prior p(k), the clusters' shares of the
    training events, with the mean user vectors.

    Args:
        retriever: the trained model; its variables are shared, not copied.
        items: the item table the model was trained on.
        index: over the model's items.
        cold_start_vectors: `[V, D]` float32.
        merge_config: what a request with alpha < 0 gets.
        export_config: lengths of the lists.
        asset_folder: for `ItemVocabulary`.
    """

    def __init__(
        self,
        retriever: Retriever,
        items: ItemTable,
        index: ClusterIndex,
        cold_start_vectors: np.ndarray,
        merge_config: MergeConfig,
        export_config: ExportConfig,
        asset_folder: Path,
    ):
        super().__init__()
        # The model itself stays outside the module: Keras would trace and save its training state and call functions.
        self._user_vectors = retriever.user_vectors
        self._tower_variables = retriever.serving_variables
        self._max_length = retriever.max_length
        self._vectors_per_cluster = retriever.vectors_per_cluster
        self._num_clusters = items.num_clusters
        self._vocabulary = ItemVocabulary(items.item_ids, asset_folder)
        self._index = index
        self._cold_vectors = tf.constant(cold_start_vectors, tf.float32)
        self._log_prior = tf.constant(np.log(items.cluster_prior()), tf.float32)
        self._merge_config = merge_config
        self._num_candidates = export_config.num_candidates
        self._max_candidates = export_config.max_candidates

    def serving_default(self, history: tf.Tensor) -> Tensors:
        """`retrieve` with the length and the merge of the config; the answer is no wider than that length."""
        batch = tf.shape(history)[0]
        length, alpha = tf.repeat(self._num_candidates, batch), tf.repeat(-1.0, batch)
        return self._retrieve(history, length, alpha, self._num_candidates)

    def retrieve(self, history: tf.Tensor, num_candidates: tf.Tensor, alpha: tf.Tensor) -> Tensors:
        """The best unseen items of every row; see `schema` for the tensors."""
        return self._retrieve(history, num_candidates, alpha, self._max_candidates)

    def encode(self, history: tf.Tensor) -> Tensors:
        """User vectors and intent only."""
        with tf.control_dependencies([_assert_rows(history)]):
            vectors, log_intent = self._encode(self._vocabulary.indices(history))
        return {schema.USER_EMBEDDINGS: vectors, schema.INTENT: tf.exp(log_intent)}

    def search(
        self,
        user_embeddings: tf.Tensor,
        intent: tf.Tensor,
        history: tf.Tensor,
        num_candidates: tf.Tensor,
        alpha: tf.Tensor,
    ) -> Tensors:
        """`retrieve` for user vectors and an intent that the caller brings; the history only excludes."""
        checks = [
            _assert_same_batch(history, user_embeddings, intent),
            tf.debugging.assert_all_finite(user_embeddings, "Expected finite user_embeddings."),
            tf.debugging.assert_all_finite(intent, "Expected finite intent."),
            tf.debugging.assert_non_negative(intent, "Expected intent to be probabilities, none below 0."),
        ]
        with tf.control_dependencies(checks):
            seen = self._vocabulary.indices(history)
        return self._search(user_embeddings, tf.math.log(intent), seen, num_candidates, alpha, self._max_candidates)

    def input_signatures(self) -> dict[str, list[tf.TensorSpec]]:
        """Signature -> specs of its inputs, in the order of the method's arguments."""
        specs = {
            schema.HISTORY: tf.TensorSpec([None, None], tf.string),
            schema.NUM_CANDIDATES: tf.TensorSpec([None], tf.int32),
            schema.ALPHA: tf.TensorSpec([None], tf.float32),
            schema.USER_EMBEDDINGS: tf.TensorSpec([None, *self._cold_vectors.shape], tf.float32),
            schema.INTENT: tf.TensorSpec([None, self._num_clusters], tf.float32),
        }
        return {
            signature: [tf.TensorSpec(specs[name].shape, specs[name].dtype, name) for name in inputs]
            for signature, (inputs, _) in schema.SIGNATURES.items()
        }

    def example_inputs(self, signature: str, histories: list[list[str]]) -> dict[str, np.ndarray]:
        """A valid request of `signature` for the given histories."""
        batch = len(histories)
        width = max(len(history) for history in histories)
        inputs = {
            schema.HISTORY: np.array([row + [""] * (width - len(row)) for row in histories], dtype=object),
            schema.NUM_CANDIDATES: np.full([batch], self._num_candidates, np.int32),
            schema.ALPHA: np.full([batch], -1, np.float32),
            schema.USER_EMBEDDINGS: np.repeat(self._cold_vectors.numpy()[None], batch, axis=0),
            schema.INTENT: np.repeat(np.exp(self._log_prior.numpy())[None], batch, axis=0),
        }
        return {name: inputs[name] for name in schema.SIGNATURES[signature][0]}

    def _retrieve(self, history, num_candidates, alpha, width):
        with tf.control_dependencies([_assert_rows(history)]):
            seen = self._vocabulary.indices(history)
        vectors, log_intent = self._encode(seen)
        found = self._search(vectors, log_intent, seen, num_candidates, alpha, width)
        return found | {schema.INTENT: tf.exp(log_intent)}

    def _encode(self, items):
        """`[B, L]` item indices, 0 anywhere -> `[B, V, D]` user vectors and `[B, K]` log-intent."""
        vectors, log_intent = self._user_vectors(last_items(items, self._max_length))
        known = tf.reduce_any(items > 0, axis=1)[:, None]
        return (
            tf.where(known[:, :, None], vectors, self._cold_vectors),
            tf.where(known, log_intent, self._log_prior),
        )

    def _search(self, vectors, log_intent, seen, num_candidates, alpha, width):
        checks = [
            _assert_same_batch(seen, num_candidates, alpha),
            tf.debugging.assert_greater_equal(num_candidates, 1, _message_for_length(width)),
            tf.debugging.assert_less_equal(num_candidates, width, _message_for_length(width)),
            tf.debugging.assert_equal(
                tf.math.is_nan(alpha),
                False,
                f"Expected {schema.ALPHA} to be a number, negative for the merge the bundle was exported with.",
            ),
        ]
        with tf.control_dependencies(checks):
            most = tf.repeat(tf.reduce_max(num_candidates), self._num_clusters)

        def keys_of(candidates, log_partition):
            return select_keys(candidates, log_partition, log_intent, alpha, self._merge_config)

        shares = expected_shares(log_intent, alpha, self._merge_config)
        per_cluster = self._vectors_per_cluster
        merged = search_list(
            self._index, vectors, seen, most, shares, num_candidates, width, keys_of, per_cluster=per_cluster
        )
        return {
            schema.ITEM_IDS: self._vocabulary.ids(merged.rows),
            schema.SCORES: tf.maximum(merged.keys, schema.SCORE_PAD),
            schema.CLUSTER_IDS: merged.clusters,
            schema.NUM_RESULTS: merged.num_results,
            schema.QUOTAS: merged.quotas,
        }


def last_items(items: tf.Tensor, max_length: int) -> tf.Tensor:
    """Moves the items of every row to the left and keeps the last `max_length`, as wide as the longest row needs.

    Args:
        items: `[B, L]` int32 item indices, oldest first, 0 anywhere (padding, unknown ids).
        max_length: most items of a row that are kept.

    Returns:
        `[B, W]` int32, right-padded with 0, 1 <= W <= max_length.
    """
    known = items > 0
    count = tf.reduce_sum(tf.cast(known, tf.int32), axis=1, keepdims=True)
    place = tf.cumsum(tf.cast(known, tf.int32), axis=1) - 1 - tf.maximum(count - max_length, 0)
    where = tf.where(known & (place >= 0))  # [P, 2]
    target = tf.stack([tf.cast(where[:, 0], tf.int32), tf.gather_nd(place, where)], axis=1)
    width = tf.clip_by_value(tf.reduce_max(count), 1, max_length)
    return tf.scatter_nd(target, tf.gather_nd(items, where), tf.stack([tf.shape(items)[0], width]))


def _message_for_length(width):
    return f"Expected {schema.NUM_CANDIDATES} in 1..{width} in every row."


def _assert_rows(history):
    return tf.debugging.assert_greater_equal(tf.shape(history)[0], 1, "Expected at least one row in the request.")


def _assert_same_batch(first, *others):
    sizes = tf.stack([tf.shape(tensor)[0] for tensor in others])
    return tf.debugging.assert_equal(sizes, tf.shape(first)[0], "Expected the same number of rows in every input.")
