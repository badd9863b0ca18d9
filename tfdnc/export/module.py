"""Signatures of a bundle, as methods that also run eagerly."""

from tfdnc.backend import tf
from tfdnc.contracts import bundle
from tfdnc.export.checks import (
    check_clusters,
    check_controls,
    check_features,
    check_query,
    check_rows,
    check_same_rows,
)
from tfdnc.export.core import RetrievalCore, Tensors
from tfdnc.retrieval.index.seen import count_unseen, distinct
from tfdnc.retrieval.merge import Controls, quota_bounds
from tfdnc.retrieval.rules.passing import Passing


class RetrievalModule(RetrievalCore):
    """Graph of a bundle's signatures; `RetrievalCore` documents the arguments."""

    def serving_default(self, history: tf.Tensor, **features: tf.Tensor) -> Tensors:
        """Retrieves with the length and the merge of the config; the answer is no wider than that length."""
        length = tf.repeat(self._num_candidates, tf.shape(history)[0])
        return self._retrieve(history, features, Controls(length), self._num_candidates)

    def retrieve(
        self, history: tf.Tensor, num_candidates: tf.Tensor, alpha: tf.Tensor, **features: tf.Tensor
    ) -> Tensors:
        """Retrieves the best items of every row, by the rule of `data.seen`: unseen ones, or any.

        `contracts.bundle` describes the tensors; `features` are those that the model reads beside the history.
        """
        return self._retrieve(history, features, Controls(num_candidates, alpha), self._max_candidates)

    def retrieve_joint(
        self, history: tf.Tensor, num_candidates: tf.Tensor, alpha: tf.Tensor, **features: tf.Tensor
    ) -> Tensors:
        """Retrieves by the joint merge, p(cluster) ** alpha p(item | cluster), where alpha is not negative."""
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
        seen: tf.Tensor,
        passing: Passing | None = None,
        limits: tuple[tf.Tensor, tf.Tensor] | None = None,
        **features: tf.Tensor,
    ) -> Tensors:
        """Retrieves without the items of `exclude`, with merge, weights, bounds and rule for seen items per row.

        `passing` and `limits` are no inputs of the signature: `retrieve_filtered` and `retrieve_bounded` give them.
        `limits` are the bounds and the conditions of the rows.
        """
        by_cluster = {
            bundle.CLUSTER_QUOTAS: cluster_quotas,
            bundle.CLUSTER_MIN: cluster_min,
            bundle.CLUSTER_MAX: cluster_max,
        }
        with tf.control_dependencies(check_clusters(self._num_clusters, **by_cluster)):
            weights, minimum, maximum = (self._widen(control) for control in by_cluster.values())
        maximum = tf.where(tf.reduce_any(maximum != 0, axis=1, keepdims=True), maximum, -1)
        controls = Controls(num_candidates, alpha, weights, minimum, maximum, joint_alpha)
        parsed = None
        if limits is not None:
            bounds, where = limits
            parsed = self._with_bounds.parse(bounds, num_candidates, maximum, where)
        return self._retrieve(history, features, controls, self._max_candidates, exclude, seen, passing, parsed)

    def retrieve_filtered(self, where: tf.Tensor, allow: tf.Tensor, **controlled: tf.Tensor) -> Tensors:
        """Retrieves as `retrieve_controlled` from the items that pass the conditions and are allowed, per row.

        `controlled` may have the argument `limits`.
        """
        history = controlled[bundle.HISTORY]
        with tf.control_dependencies([*check_rows(history), *check_same_rows(history, where, allow)]):
            allowed = distinct(self._listed(self._vocabulary.indices(allow)))
        only_allowed = tf.reduce_any(allow != "", axis=1)
        return self.retrieve_controlled(passing=self._with_rules.passing(where, allowed, only_allowed), **controlled)

    def retrieve_bounded(self, bounds: tf.Tensor, **filtered: tf.Tensor) -> Tensors:
        """Retrieves as `retrieve_filtered`, with bounds on the results that have a value of an attribute, per row."""
        others = (filtered[bundle.NUM_CANDIDATES], filtered[bundle.CLUSTER_MAX])
        with tf.control_dependencies(check_same_rows(filtered[bundle.HISTORY], bounds, *others)):
            limits = tf.identity(bounds), filtered[bundle.WHERE]
        return self.retrieve_filtered(limits=limits, **filtered)

    def encode(self, history: tf.Tensor, **features: tf.Tensor) -> Tensors:
        """Encodes user vectors and intent, without a search."""
        checks = [*check_rows(history), *check_same_rows(history, history, *features.values())]
        checks += check_features(history, self._inputs, features)
        with tf.control_dependencies(checks):
            items = self._vocabulary.indices(history)
        vectors, log_intent = self._encode_all(items, features)
        return {bundle.USER_EMBEDDINGS: vectors, bundle.INTENT: tf.exp(log_intent)}

    def search(
        self,
        user_embeddings: tf.Tensor,
        intent: tf.Tensor,
        history: tf.Tensor,
        num_candidates: tf.Tensor,
        alpha: tf.Tensor,
        joint_alpha: tf.Tensor,
    ) -> Tensors:
        """Retrieves for user vectors and an intent of the request; items of `history` are left out under any rule."""
        controls = Controls(num_candidates, alpha, joint_alpha=joint_alpha)
        with tf.control_dependencies(check_same_rows(history, user_embeddings, intent, *controls)):
            control_checks = check_controls(controls, self._max_candidates)
        checks = [*check_rows(history), *check_query(user_embeddings, intent), *control_checks]
        with tf.control_dependencies(checks):
            seen = distinct(self._listed(self._vocabulary.indices(history)))
        log_intent = tf.math.log(intent)
        bounds = quota_bounds(count_unseen(seen, self._offsets), log_intent, controls, self._merge_config)
        return self._search(user_embeddings, log_intent, seen, bounds, controls, self._max_candidates)

    def describe(self, history: tf.Tensor) -> Tensors:
        """Returns the names of the clusters in every row, because clients cannot read the manifest of a bundle."""
        with tf.control_dependencies(check_rows(history)):
            rows = tf.shape(history)[0]
        return {bundle.CLUSTER_NAMES: tf.repeat(self._cluster_names[None], rows, axis=0)}

    def describe_rules(self, history: tf.Tensor) -> Tensors:
        """Returns the known conditions in every row, because clients cannot read the manifest of a bundle."""
        with tf.control_dependencies(check_rows(history)):
            rows = tf.shape(history)[0]
        return {bundle.KNOWN_CONDITIONS: tf.repeat(self._with_rules.table.known()[None], rows, axis=0)}
