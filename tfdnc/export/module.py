"""The graph behind a bundle's signatures: raw ids -> user vectors and intent -> candidates -> one list of raw ids."""

from pathlib import Path

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts import bundle
from tfdnc.contracts.bundle import Row
from tfdnc.contracts.config import ExportConfig, MergeConfig
from tfdnc.contracts.items import ItemTable
from tfdnc.export.checks import check_clusters, check_query, check_rows, check_same_rows, check_times, check_wishes
from tfdnc.export.recent import elapsed_times, last_items, widen_times
from tfdnc.export.vocabulary import ItemVocabulary
from tfdnc.model.tower import Tower
from tfdnc.retrieval.index import ClusterIndex
from tfdnc.retrieval.index.listing import expected_shares, search_list
from tfdnc.retrieval.index.seen import clusters_of_items
from tfdnc.retrieval.merge import BY_RANK, Controls, count_clusters, quota_bounds, reads_partition, select_keys

Tensors = dict[str, tf.Tensor]


class RetrievalModule(tf.Module):
    """What a bundle answers with; its methods are the signatures and run eagerly too.

    A row without a known item is a cold start: it is answered from the prior p(k), the clusters' shares of the
    training events, with the mean user vectors.

    Args:
        tower: of the trained model; its variables are shared, not copied.
        items: the item table the model was trained on.
        index: over the model's items.
        cold_start_vectors: `[V, D]` float32.
        merge_config: what a request with alpha < 0 gets.
        export_config: lengths of the lists.
        asset_folder: for `ItemVocabulary`.
    """

    def __init__(
        self,
        tower: Tower,
        items: ItemTable,
        index: ClusterIndex,
        cold_start_vectors: np.ndarray,
        merge_config: MergeConfig,
        export_config: ExportConfig,
        asset_folder: Path,
    ):
        super().__init__()
        # The model itself stays outside the module: Keras would trace and save its training state and call functions.
        self._user_vectors = tower.user_vectors
        self._log_intent = tower.log_intent
        self._wanted_vectors = tower.wanted_vectors
        self._encode_per_vector = tower.encode_per_vector
        self._reads_times = tower.reads_times
        self._tower_variables = tower.serving_variables
        self._max_length = tower.max_length
        self._vectors_per_cluster = tower.vectors_per_cluster
        self._num_clusters = items.num_clusters
        self._cluster_names = tf.constant(items.cluster_names, tf.string)
        self._offsets = np.asarray(items.offsets, np.int32)
        self._vocabulary = ItemVocabulary(items.item_ids, asset_folder)
        self._index = index
        self._cold_vectors = tf.constant(cold_start_vectors, tf.float32)
        self._log_prior = tf.constant(np.log(items.cluster_prior()), tf.float32)
        self._merge_config = merge_config
        self._num_candidates = export_config.num_candidates
        self._max_candidates = export_config.max_candidates

    def serving_default(self, history: tf.Tensor, **features: tf.Tensor) -> Tensors:
        """`retrieve` with the length and the merge of the config; the answer is no wider than that length."""
        length = tf.repeat(self._num_candidates, tf.shape(history)[0])
        return self._retrieve(history, features, Controls(length), self._num_candidates)

    def retrieve(
        self, history: tf.Tensor, num_candidates: tf.Tensor, alpha: tf.Tensor, **features: tf.Tensor
    ) -> Tensors:
        """The best unseen items of every row.

        `contracts.bundle` describes the tensors; `features` are those that the model reads beside the history.
        """
        return self._retrieve(history, features, Controls(num_candidates, alpha), self._max_candidates)

    def retrieve_joint(
        self, history: tf.Tensor, num_candidates: tf.Tensor, alpha: tf.Tensor, **features: tf.Tensor
    ) -> Tensors:
        """`retrieve` by the joint merge, p(cluster) ** alpha p(item | cluster), where alpha is not negative."""
        return self._retrieve(history, features, Controls(num_candidates, joint_alpha=alpha), self._max_candidates)

    def retrieve_controlled(
        self,
        history: tf.Tensor,
        num_candidates: tf.Tensor,
        alpha: tf.Tensor,
        exclude: tf.Tensor,
        cluster_quotas: tf.Tensor,
        cluster_min: tf.Tensor,
        cluster_max: tf.Tensor,
        joint_alpha: tf.Tensor,
        **features: tf.Tensor,
    ) -> Tensors:
        """`retrieve` without the items of `exclude`, with a merge, weights and bounds of each row's own."""
        controls = {
            bundle.CLUSTER_QUOTAS: cluster_quotas,
            bundle.CLUSTER_MIN: cluster_min,
            bundle.CLUSTER_MAX: cluster_max,
        }
        with tf.control_dependencies(check_clusters(self._num_clusters, **controls)):
            weights, minimum, maximum = (self._widen(control) for control in controls.values())
        maximum = tf.where(tf.reduce_any(maximum != 0, axis=1, keepdims=True), maximum, -1)
        wishes = Controls(num_candidates, alpha, weights, minimum, maximum, joint_alpha)
        return self._retrieve(history, features, wishes, self._max_candidates, exclude)

    def encode(self, history: tf.Tensor, **features: tf.Tensor) -> Tensors:
        """User vectors and intent only."""
        checks = [*check_rows(history), *check_same_rows(history, history, *features.values())]
        checks += check_times(*(features[row.name] for row in self.features))
        with tf.control_dependencies(checks):
            items = self._vocabulary.indices(history)
        vectors, log_intent = self._user_vectors(*self._recent(items, features))
        known = _has_items(items)
        return {
            bundle.USER_EMBEDDINGS: self._or_cold(known, vectors),
            bundle.INTENT: tf.exp(self._or_prior(known, log_intent)),
        }

    def search(
        self,
        user_embeddings: tf.Tensor,
        intent: tf.Tensor,
        history: tf.Tensor,
        num_candidates: tf.Tensor,
        alpha: tf.Tensor,
        joint_alpha: tf.Tensor,
    ) -> Tensors:
        """`retrieve` for user vectors and an intent that the caller brings; the history only excludes."""
        wishes = Controls(num_candidates, alpha, joint_alpha=joint_alpha)
        with tf.control_dependencies(check_same_rows(history, user_embeddings, intent, *wishes)):
            wishes_checks = check_wishes(wishes, self._max_candidates)
        checks = [
            *check_rows(history),
            *check_query(user_embeddings, intent),
            *wishes_checks,
        ]
        with tf.control_dependencies(checks):
            seen = distinct(self._vocabulary.indices(history))
        log_intent = tf.math.log(intent)
        places = quota_bounds(self._available(seen), log_intent, wishes, self._merge_config)
        return self._search(user_embeddings, log_intent, seen, places, wishes, self._max_candidates)

    def describe(self, history: tf.Tensor) -> Tensors:
        """The names of the clusters, once for every row: a client has no other way to a bundle's manifest."""
        with tf.control_dependencies(check_rows(history)):
            rows = tf.shape(history)[0]
        return {bundle.CLUSTER_NAMES: tf.repeat(self._cluster_names[None], rows, axis=0)}

    @property
    def features(self) -> tuple[Row, ...]:
        """Inputs that the model reads beside the history."""
        return bundle.TIMES if self._reads_times else ()

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes that the graph fixes, by the letters of `contracts.bundle`."""
        return dict(zip("KVD", (self._num_clusters, *self._cold_vectors.shape), strict=True))

    def default_inputs(self, rows: int) -> dict[str, np.ndarray]:
        """Inputs that have no neutral value, as for users without a known item."""
        return {
            bundle.NUM_CANDIDATES: np.full([rows], self._num_candidates, np.int32),
            bundle.USER_EMBEDDINGS: np.repeat(self._cold_vectors.numpy()[None], rows, axis=0),
            bundle.INTENT: np.repeat(np.exp(self._log_prior.numpy())[None], rows, axis=0),
        }

    def _retrieve(self, history, features, wishes, width, exclude=None):
        same_rows = check_same_rows(history, exclude, *features.values(), *wishes)
        with tf.control_dependencies([*check_rows(history), *same_rows]):
            # These compare inputs with each other, which takes as many rows in all.
            checks = [*check_wishes(wishes, width), *check_times(*(features[row.name] for row in self.features))]
        with tf.control_dependencies(checks):
            items = self._vocabulary.indices(history)
        left_out = items if exclude is None else tf.concat([items, self._vocabulary.indices(exclude)], axis=1)
        seen = distinct(left_out)
        vectors, log_intent, places = self._encode(items, features, self._available(seen), wishes)
        found = self._search(vectors, log_intent, seen, places, wishes, width)
        return found | {bundle.INTENT: tf.exp(log_intent)}

    def _recent(self, items, features):
        """The last items `[B, W]`, and the time that went by after each of them; None for a model without times."""
        if not self.features:
            return last_items(items, self._max_length), None
        history_times = widen_times(features[bundle.HISTORY_TIMES], tf.shape(items)[1])
        recent, recent_times = last_items(items, self._max_length, history_times)
        return recent, elapsed_times(recent, recent_times, features[bundle.REQUEST_TIME])

    def _encode(self, items, features, available, wishes):
        """`[B, V, D]` user vectors, those that will be searched with, `[B, K]` log-intent and `[B, K]` `quota_bounds`.

        Where a vector costs an encode of its own and the merge goes by rank, the intent is encoded first: it says
        which clusters get results, and only their vectors are encoded.
        """
        (history, elapsed), known = self._recent(items, features), _has_items(items)
        if not self._encode_per_vector or (wishes.alpha is None and self._merge_config.method not in BY_RANK):
            vectors, log_intent = self._user_vectors(history, elapsed)
            log_intent = self._or_prior(known, log_intent)
            places = quota_bounds(available, log_intent, wishes, self._merge_config)
        else:
            log_intent = self._or_prior(known, self._log_intent(history, elapsed))
            places = quota_bounds(available, log_intent, wishes, self._merge_config)
            vectors = self._wanted_vectors(history, known & (places > 0), elapsed)
        return self._or_cold(known, vectors), log_intent, places

    def _widen(self, control):
        """`[B, K]`, or fewer columns of zeros -> `[B, K]`, zeros where there was nothing."""
        missing = self._num_clusters - tf.shape(control)[1]
        return tf.ensure_shape(tf.pad(control, [[0, 0], [0, missing]]), [None, self._num_clusters])

    def _or_cold(self, known, vectors):
        return tf.where(known[:, :, None], vectors, self._cold_vectors)

    def _or_prior(self, known, log_intent):
        return tf.where(known, log_intent, self._log_prior)

    def _available(self, seen):
        """Items of every cluster that are not among the distinct `seen` ones `[B, S]`: `[B, K]`."""
        counts = count_clusters(clusters_of_items(seen, self._offsets), self._num_clusters)
        return tf.constant(self._index.sizes) - counts

    def _search(self, vectors, log_intent, seen, places, wishes, width):
        def keys_of(candidates, log_partition):
            return select_keys(candidates, log_partition, log_intent, wishes, self._merge_config)

        merged = search_list(
            self._index,
            vectors,
            seen,
            tf.maximum(tf.reduce_max(places, axis=0), 1),  # an approximate searcher cannot look for none
            self._guess_shares(log_intent, wishes),
            wishes.num_candidates,
            width,
            keys_of,
            per_cluster=self._vectors_per_cluster,
            with_partition=reads_partition(wishes, self._merge_config),
        )
        return {
            bundle.ITEM_IDS: self._vocabulary.ids(merged.rows),
            bundle.SCORES: tf.maximum(merged.keys, bundle.SCORE_PAD),
            bundle.CLUSTER_IDS: merged.clusters,
            bundle.NUM_RESULTS: merged.num_results,
            bundle.QUOTAS: merged.quotas,
        }

    def _guess_shares(self, log_intent, wishes):
        if wishes.maximum is not None:
            # A promised result is in the list whatever its key, so keys do not tell whether one is still missing:
            # everything that a cluster can have in the list is asked for at once.
            return tf.ones_like(log_intent)
        alpha = tf.fill(tf.shape(log_intent)[:1], -1.0)
        for asked in (wishes.alpha, wishes.joint_alpha):  # of which at most one is not negative
            alpha = alpha if asked is None else tf.maximum(alpha, asked)
        return expected_shares(log_intent, alpha, self._merge_config)


def distinct(items: tf.Tensor) -> tf.Tensor:
    """`[B, S]` int32 item indices, 0 anywhere -> the same in rising order, with 0 for every repetition."""
    ordered = tf.sort(tf.pad(items, [[0, 0], [1, 0]]), axis=1)
    return tf.where(ordered[:, 1:] == ordered[:, :-1], 0, ordered[:, 1:])


def _has_items(items):
    """Which rows have a known item: `[B, 1]`."""
    return tf.reduce_any(items > 0, axis=1, keepdims=True)
