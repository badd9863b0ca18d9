"""Work behind a bundle's signatures: raw ids -> user vectors and intent -> candidates -> one list of raw ids."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts import bundle
from tfdnc.contracts.bundle import Row, SeenRule
from tfdnc.contracts.config import ExportConfig, MergeConfig
from tfdnc.contracts.features import Feature
from tfdnc.contracts.items import ItemTable
from tfdnc.export.checks import (
    check_choices,
    check_controls,
    check_features,
    check_rows,
    check_same_rows,
)
from tfdnc.export.recent import recent_inputs
from tfdnc.export.shared import share_search, shared
from tfdnc.export.values import ValueNumbers
from tfdnc.export.vocabulary import vocabulary_of
from tfdnc.model.tower import Tower
from tfdnc.retrieval.bounds.listing import list_bounded
from tfdnc.retrieval.bounds.parsed import Bounds, BoundTable
from tfdnc.retrieval.bounds.pool import Query
from tfdnc.retrieval.index import ClusterIndex
from tfdnc.retrieval.index.listing import expected_shares, search_list
from tfdnc.retrieval.index.seen import count_unseen, distinct
from tfdnc.retrieval.merge import (
    BY_RANK,
    Candidates,
    Controls,
    Merged,
    quota_bounds,
    reads_partition,
    select_keys,
)
from tfdnc.retrieval.rules.passing import Passing
from tfdnc.retrieval.rules.planes import Planes
from tfdnc.retrieval.rules.rules import Rules

Tensors = dict[str, tf.Tensor]


class RetrievalCore(tf.Module):
    """Everything that the signatures of a bundle share.

    A row without a known item is a cold start: it is answered from the prior p(k), the clusters' shares of the
    training events, with the mean user vectors.

    Args:
        tower: of the trained model; its variables are shared, not copied.
        items: the item table the model was trained on.
        index: over the model's items.
        cold_start_vectors: `[V, D]` float32.
        merge_config: the merge of requests with alpha < 0.
        export_config: lengths of the lists.
        asset_folder: folder for the files of the vocabulary and `Rules`.
        seen: the rule for items of the history, of requests that ask for no other.
        planes: attributes of the items; None for a bundle without rules.
        past_ids: ids of the items of the tower that only histories hold, see `Tower`.
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
        seen: SeenRule = "exclude",
        planes: Planes | None = None,
        past_ids: Sequence[str] = (),
    ) -> None:
        super().__init__()
        # The model is no attribute of the module: Keras would trace and save its training state and call functions.
        self._user_vectors = tower.user_vectors
        self._log_intent = tower.log_intent
        self._wanted_vectors = tower.wanted_vectors
        self._encode_all = shared(self._encode_every)
        self._encode_per_vector = tower.encode_per_vector
        self._inputs = tower.inputs.features
        self._value_numbers = ValueNumbers(self._inputs)
        self._tower_variables = tower.serving_variables
        self._max_length = tower.max_length
        self._vectors_per_cluster = tower.vectors_per_cluster
        self._num_clusters = items.num_clusters
        self._cluster_names = tf.constant(items.cluster_names, tf.string)
        self._offsets = np.asarray(items.offsets, np.int32)
        self._vocabulary = vocabulary_of([*items.item_ids, *past_ids], asset_folder)
        self._num_listed = len(items.item_ids) if past_ids else None
        self._index = index  # saved with the module, searched by way of `_shared_search`
        self._cold_vectors = tf.constant(cold_start_vectors, tf.float32)
        self._log_prior = tf.constant(np.log(items.cluster_prior()), tf.float32)
        self._allows_seen = seen == "allow"
        self._merge_config = merge_config
        self._num_candidates = export_config.num_candidates
        self._max_candidates = export_config.max_candidates
        self._rules: Rules | None = None
        self._bound_table: BoundTable | None = None
        if planes is not None:
            self._rules = Rules(planes, items.cluster_names, asset_folder)
            self._bound_table = BoundTable(self._rules.table, planes)
            index.accept_filters()
        self._shared_search = share_search(index)

    @property
    def has_rules(self) -> bool:
        """True if requests may filter by attributes."""
        return self._rules is not None

    @property
    def _with_rules(self) -> Rules:
        if self._rules is None:
            raise ValueError("Expected a bundle with attributes, this one has none.")
        return self._rules

    @property
    def _with_bounds(self) -> BoundTable:
        if self._bound_table is None:
            raise ValueError("Expected a bundle with attributes, this one has none.")
        return self._bound_table

    @property
    def features(self) -> tuple[Row, ...]:
        """Inputs that the model reads beside the history."""
        return tuple(row for feature in self._inputs for row in feature.request_rows)

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes that the graph fixes, by the letters of `contracts.bundle`."""
        return dict(zip("KVD", (self._num_clusters, *self._cold_vectors.shape), strict=True))

    def default_inputs(self, rows: int) -> dict[str, np.ndarray]:
        """Returns values for inputs without a neutral value, as for users without a known item."""
        return {
            bundle.NUM_CANDIDATES: np.full([rows], self._num_candidates, np.int32),
            bundle.USER_EMBEDDINGS: np.repeat(self._cold_vectors.numpy()[None], rows, axis=0),
            bundle.INTENT: np.repeat(np.exp(self._log_prior.numpy())[None], rows, axis=0),
        }

    def _retrieve(
        self,
        history: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        controls: Controls,
        width: int,
        exclude: tf.Tensor | None = None,
        rule: tf.Tensor | None = None,
        passing: Passing | None = None,
        limits: Bounds | None = None,
    ) -> Tensors:
        same_rows = check_same_rows(history, exclude, rule, *features.values(), *controls)
        with tf.control_dependencies([*check_rows(history), *same_rows]):
            # These compare inputs with each other, which needs the same number of rows in all.
            checks = [*check_controls(controls, width), *check_features(history, self._inputs, features)]
            checks += [] if rule is None else check_choices(bundle.row_of(bundle.SEEN), rule)
        with tf.control_dependencies(checks):
            items = self._vocabulary.indices(history)
        left_out = self._seen(items, rule)
        if exclude is not None:
            left_out = tf.concat([left_out, self._vocabulary.indices(exclude)], axis=1)
        seen = distinct(self._listed(left_out))
        available = count_unseen(seen, self._offsets, passing)
        if passing is None or limits is None:
            vectors, log_intent, bounds = self._encode(items, features, available, controls)
            found = self._search(vectors, log_intent, seen, bounds, controls, width, passing)
        else:
            vectors, log_intent = self._encode_all(items, features)
            query = Query(vectors, seen, passing, log_intent, controls, limits)
            found = self._search_bounded(query, width)
        return found | {bundle.INTENT: tf.exp(log_intent)}

    def _seen(self, items: tf.Tensor, rule: tf.Tensor | None) -> tf.Tensor:
        """`[B, S]` items of the history that the lists leave out, 0 anywhere; `rule` is that of each row, if given."""
        if rule is None:
            return tf.zeros_like(items[:, :1]) if self._allows_seen else items
        allowed = (rule == "allow") | ((rule == "") & self._allows_seen)
        return tf.where(allowed[:, None], 0, items)

    def _listed(self, items: tf.Tensor) -> tf.Tensor:
        """Item indices of any shape -> the same, 0 for items that only histories hold: no list can repeat them."""
        return items if self._num_listed is None else tf.where(items > self._num_listed, 0, items)

    def _recent(self, items: tf.Tensor, features: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, Tensors]:
        """The last items `[B, W]`, and the other inputs of the model."""
        return recent_inputs(items, self._max_length, self._inputs, features, self._numbers_of)

    def _numbers_of(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        """Values of an input in a request, of any shape -> values as windows have them."""
        return self._vocabulary.indices(values) if feature.form.of_items else self._value_numbers(feature, values)

    def _encode(
        self, items: tf.Tensor, features: Mapping[str, tf.Tensor], available: tf.Tensor, controls: Controls
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """User vectors of searched clusters `[B, V, D]`, log-intent `[B, K]`, and `quota_bounds` `[B, K]`.

        If every vector costs a separate encode and the merge goes by rank, the intent is encoded first. It decides
        which clusters get results, and only their vectors are encoded.
        """
        if not self._encode_per_vector or (controls.alpha is None and self._merge_config.method not in BY_RANK):
            vectors, log_intent = self._encode_all(items, features)
            return vectors, log_intent, quota_bounds(available, log_intent, controls, self._merge_config)
        (history, beside), known = self._recent(items, features), has_items(items)
        log_intent = self._or_prior(known, self._log_intent(history, beside))
        bounds = quota_bounds(available, log_intent, controls, self._merge_config)
        vectors = self._wanted_vectors(history, known & (bounds > 0), beside)
        return self._or_cold(known, vectors), log_intent, bounds

    def _encode_every(self, items: tf.Tensor, features: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """User vectors `[B, V, D]`, and log-intent `[B, K]`."""
        vectors, log_intent = self._user_vectors(*self._recent(items, features))
        known = has_items(items)
        return self._or_cold(known, vectors), self._or_prior(known, log_intent)

    def _widen(self, control: tf.Tensor) -> tf.Tensor:
        """`[B, K]`, or fewer columns of zeros -> `[B, K]`, padded with zeros."""
        missing = self._num_clusters - tf.shape(control)[1]
        return tf.ensure_shape(tf.pad(control, [[0, 0], [0, missing]]), [None, self._num_clusters])

    def _or_cold(self, known: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
        return tf.where(known[:, :, None], vectors, self._cold_vectors)

    def _or_prior(self, known: tf.Tensor, log_intent: tf.Tensor) -> tf.Tensor:
        return tf.where(known, log_intent, self._log_prior)

    def _search(
        self,
        vectors: tf.Tensor,
        log_intent: tf.Tensor,
        seen: tf.Tensor,
        bounds: tf.Tensor,
        controls: Controls,
        width: int,
        passing: Passing | None = None,
    ) -> Tensors:
        def keys_of(candidates: Candidates, log_partition: tf.Tensor) -> tf.Tensor:
            return select_keys(candidates, log_partition, log_intent, controls, self._merge_config)

        merged = search_list(
            self._shared_search,
            vectors,
            seen,
            tf.maximum(tf.reduce_max(bounds, axis=0), 1),  # an approximate search needs at least one
            self._guess_shares(log_intent, controls),
            controls.num_candidates,
            width,
            keys_of,
            per_cluster=self._vectors_per_cluster,
            with_partition=reads_partition(controls, self._merge_config),
            passing=passing,
        )
        return self._answer(merged)

    def _search_bounded(self, query: Query, width: int) -> Tensors:
        index, rules, config = self._shared_search, self._with_rules, self._merge_config
        return self._answer(list_bounded(index, rules, config, query, width, per_cluster=self._vectors_per_cluster))

    def _answer(self, merged: Merged) -> Tensors:
        return {
            bundle.ITEM_IDS: self._vocabulary.ids(merged.rows),
            bundle.SCORES: tf.maximum(merged.keys, bundle.SCORE_PAD),
            bundle.CLUSTER_IDS: merged.clusters,
            bundle.NUM_RESULTS: merged.num_results,
            bundle.QUOTAS: merged.quotas,
        }

    def _guess_shares(self, log_intent: tf.Tensor, controls: Controls) -> tf.Tensor:
        """Expected share of each cluster in the list, by which the search of a cluster is sized."""
        if controls.maximum is not None:
            # A result within a minimum is in the list with any key, so keys do not show that one is missing. Each
            # cluster is therefore searched once for the most results that it can have.
            return tf.ones_like(log_intent)
        alpha = tf.fill(tf.shape(log_intent)[:1], -1.0)
        for given in (controls.alpha, controls.joint_alpha):  # at most one of them is not negative
            alpha = alpha if given is None else tf.maximum(alpha, given)
        return expected_shares(log_intent, alpha, self._merge_config)


def has_items(items: tf.Tensor) -> tf.Tensor:
    """Mask `[B, 1]` of the rows with a known item."""
    return tf.reduce_any(items > 0, axis=1, keepdims=True)
