"""Ranks every held-out target with the code that serves: user vectors, exact index, merge (paper, section 3.1.2).

Which item of a user is the validation target and which the test target, the split has decided (the last but one and the
last, unless `data.split` says otherwise); a user without a target is not in the records. A list has exactly M items
among all the user has not seen.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfdnc.backend import tf
from tfdnc.config import MergeConfig
from tfdnc.evaluation import metrics
from tfdnc.evaluation.judge import Judge
from tfdnc.index.exact import ExactIndex
from tfdnc.merge import MERGES, Wishes, bound, merge
from tfdnc.model.retriever import Retriever
from tfdnc.training.batches import history_batches
from tfdnc.training.records import HeldOutRecords


class Lists(NamedTuple):
    """The lists one merge makes for all U users."""

    rows: np.ndarray  # [U, M] int item rows, -1 beyond the end
    clusters: np.ndarray  # [U, M] int, -1 beyond the end


class Retrieved(NamedTuple):
    """Everything the report is computed from."""

    lists: list[Lists]  # one per merge, then one per floor
    within_places: np.ndarray  # [U] place of the target among the unseen items of its own cluster
    outside_places: np.ndarray  # [U] place of the target among itself and the unseen items of all other clusters
    log_intent: np.ndarray  # [U, K], over the model's own clusters


class Evaluator:
    """Runs a retriever over held-out records; compiled once, usable after every epoch.

    Args:
        model: whose current weights are evaluated at each call.
        merges: the merges to make lists with.
        width: M, the longest list; shorter lists are its prefixes, because no merge key depends on M.
        floors: least results of every cluster that more lists by the first merge are made with.
        floor_length: M of these; a bound reads the length, so that their prefixes are not the shorter lists.
        judge: of a model with one cluster. Lists are then in the judge's item rows and clusters, and hold the same
            items as without it if the merges go by score alone.
    """

    def __init__(
        self,
        model: Retriever,
        merges: Sequence[MergeConfig],
        width: int,
        judge: Judge | None = None,
        floors: Sequence[int] = (),
        floor_length: int = 0,
    ):
        self._model = model
        self._merges = merges
        self._width = width
        self._floors, self._floor_length = floors, floor_length
        self._judge = judge
        self._offsets = judge.items.offsets if judge else model.offsets
        vector = tf.TensorSpec([None], tf.int32)
        self._graph = tf.function(
            self._retrieve,
            input_signature=[tf.TensorSpec([None, None], tf.int32), vector, vector, *model.input_specs],
            autograph=False,  # nothing here branches on tensors, and AutoGraph is most of the tracing time
        )

    def retrieve(self, records: HeldOutRecords) -> Retrieved:
        """Makes the lists of every user of `records`: in the model's item indices, with times if it reads them."""
        judged = self._judge.renumber(records) if self._judge else records
        count = len(records.targets)
        widths = [self._width] * len(self._merges) + [self._floor_length] * len(self._floors)
        result = Retrieved(
            lists=[Lists(*(np.full([count, width], -1, np.int32) for _ in Lists._fields)) for width in widths],
            within_places=np.full(count, metrics.NOT_FOUND),
            outside_places=np.full(count, metrics.NOT_FOUND),
            log_intent=np.zeros([count, self._model.num_clusters], np.float32),
        )
        for batch in history_batches(records, self._model.max_length):
            users = batch.users
            seen = self._judge.indices[batch.seen] if self._judge else batch.seen
            targets, clusters = judged.targets[users], judged.target_clusters[users]
            lists, within, outside, log_intent = self._graph(seen, targets, clusters, *batch.inputs)
            for made, (rows, row_clusters) in zip(result.lists, lists, strict=True):
                made.rows[users], made.clusters[users] = rows.numpy(), row_clusters.numpy()
            result.within_places[users], result.outside_places[users] = _as_places(within), _as_places(outside)
            result.log_intent[users] = log_intent.numpy()
        return result

    def _retrieve(self, seen, targets, target_clusters, *inputs):
        vectors, log_intent = self._model.user_vectors(*inputs)
        # A judged model has one cluster, so one vector for it would be one for all.
        per_cluster = self._model.vectors_per_cluster and not self._judge
        items = self._items()
        index = ExactIndex(items, self._offsets)
        candidates, log_partition = index.search(vectors, seen, self._width, per_cluster=per_cluster)
        batch = tf.shape(targets)[0]
        num_clusters = len(self._offsets) - 1

        def taken(keys, width):
            merged = merge(candidates, keys, tf.repeat(width, batch), width, num_clusters)
            return merged.rows, merged.clusters

        keys = []
        for config in self._merges:
            alpha = tf.fill([batch], tf.constant(config.alpha, tf.float32))
            keys.append(MERGES.resolve(config.method)(candidates, log_partition, log_intent, alpha, config))
        lists = [taken(of_merge, self._width) for of_merge in keys]
        for floor in self._floors:
            unbounded, wanted = tf.fill([batch, num_clusters], -1), tf.repeat(self._floor_length, batch)
            wishes = Wishes(wanted, minimum=tf.fill([batch, num_clusters], floor), maximum=unbounded)
            lists.append(taken(bound(candidates, keys[0], wishes), self._floor_length))
        shift = tf.zeros_like(log_partition)
        if self._merges[0].method != "score":  # scores of different clusters compare as joint probabilities only
            shift = log_intent - log_partition
        asking = tf.gather(vectors, target_clusters, batch_dims=1)[:, None] if per_cluster else vectors
        score = tf.reduce_max(tf.einsum("bid,bd->bi", asking, tf.gather(items, targets - 1)), axis=1)
        score = tf.where(tf.reduce_any(seen == targets[:, None], axis=1), float("-inf"), score)
        outside = _outside_places(candidates, shift, score, target_clusters, self._width)
        return lists, _within_places(candidates, targets, target_clusters), outside, log_intent

    def _items(self):
        """Item vectors `[N, D]` in the order of the index."""
        items = self._model.item_vectors()
        # The judge's order is made inside the graph, so that the lists follow the weights.
        return tf.gather(items, self._judge.model_rows) if self._judge else items


def _within_places(candidates, targets, target_clusters):
    """Rank of each target in its own cluster's column block, -1 when it is not among the candidates: `[B]`."""
    is_target = (candidates.rows == targets[:, None] - 1) & (candidates.scores > float("-inf"))
    is_target &= candidates.clusters == target_clusters[:, None]
    return tf.reduce_max(tf.where(is_target, candidates.ranks, -1), axis=1)


def _outside_places(candidates, shift, target_scores, target_clusters, width):
    """How many candidates of other clusters are not below each target, -1 for `width` or more: `[B]`.

    Every cluster brings its best `width` items, so any count below `width` is exact.
    """
    keys = candidates.scores + tf.gather(shift, candidates.clusters, axis=1)  # [B, C]
    target_keys = target_scores + tf.gather(shift, target_clusters, batch_dims=1)
    ahead = (keys >= target_keys[:, None]) & (candidates.scores > float("-inf"))
    count = tf.reduce_sum(tf.cast(ahead & (candidates.clusters != target_clusters[:, None]), tf.int32), axis=1)
    return tf.where((count < width) & (target_scores > float("-inf")), count, -1)


def _as_places(places):
    """`NOT_FOUND`, which does not fit int32, for -1."""
    places = places.numpy().astype(np.int64)
    return np.where(places < 0, metrics.NOT_FOUND, places)
