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
from tfdnc.merge import MERGES, merge
from tfdnc.model.retriever import Retriever
from tfdnc.training.batches import history_batches
from tfdnc.training.records import HeldOutRecords


class Lists(NamedTuple):
    """The lists one merge makes for all U users."""

    rows: np.ndarray  # [U, M] int item rows, -1 beyond the end
    clusters: np.ndarray  # [U, M] int, -1 beyond the end


class Retrieved(NamedTuple):
    """Everything the report is computed from."""

    lists: list[Lists]  # one per merge
    within_places: np.ndarray  # [U] place of the target among the unseen items of its own cluster
    outside_places: np.ndarray  # [U] place of the target among itself and the unseen items of all other clusters
    log_intent: np.ndarray  # [U, K], over the model's own clusters


class Evaluator:
    """Runs a retriever over held-out records; compiled once, usable after every epoch.

    Args:
        model: whose current weights are evaluated at each call.
        merges: the merges to make lists with.
        width: M, the longest list; shorter lists are its prefixes, because no merge key depends on M.
        judge: of a model with one cluster. Lists are then in the judge's item rows and clusters, and hold the same
            items as without it if the merges go by score alone.
    """

    def __init__(self, model: Retriever, merges: Sequence[MergeConfig], width: int, judge: Judge | None = None):
        self._model = model
        self._merges = merges
        self._width = width
        self._judge = judge
        self._offsets = judge.items.offsets if judge else model.offsets
        matrix = tf.TensorSpec([None, None], tf.int32)
        self._graph = tf.function(
            self._retrieve,
            input_signature=[matrix, matrix, *[tf.TensorSpec([None], tf.int32)] * 2],
            autograph=False,  # nothing here branches on tensors, and AutoGraph is most of the tracing time
        )

    def retrieve(self, records: HeldOutRecords) -> Retrieved:
        """Makes the lists of every user of `records`, which are in the model's item indices."""
        judged = self._judge.renumber(records) if self._judge else records
        users = len(records.targets)
        empty = np.full([users, self._width], -1, np.int32)
        result = Retrieved(
            lists=[Lists(empty.copy(), empty.copy()) for _ in self._merges],
            within_places=np.full(users, metrics.NOT_FOUND),
            outside_places=np.full(users, metrics.NOT_FOUND),
            log_intent=np.zeros([users, self._model.num_clusters], np.float32),
        )
        for batch, history, excluded in history_batches(records, self._model.max_length):
            seen = self._judge.indices[excluded] if self._judge else excluded
            targets, clusters = judged.targets[batch], judged.target_clusters[batch]
            lists, within, outside, log_intent = self._graph(history, seen, targets, clusters)
            for made, (rows, row_clusters) in zip(result.lists, lists, strict=True):
                made.rows[batch], made.clusters[batch] = rows.numpy(), row_clusters.numpy()
            result.within_places[batch], result.outside_places[batch] = _as_places(within), _as_places(outside)
            result.log_intent[batch] = log_intent.numpy()
        return result

    def _retrieve(self, history, seen, targets, target_clusters):
        vectors, log_intent = self._model.user_vectors(history)
        # A judged model has one cluster, so one vector for it would be one for all.
        per_cluster = self._model.vectors_per_cluster and not self._judge
        items = self._items()
        index = ExactIndex(items, self._offsets)
        candidates, log_partition = index.search(vectors, seen, self._width, per_cluster=per_cluster)
        batch = tf.shape(history)[0]
        length = tf.repeat(self._width, batch)
        lists = []
        for config in self._merges:
            alpha = tf.fill([batch], tf.constant(config.alpha, tf.float32))
            keys = MERGES.resolve(config.method)(candidates, log_partition, log_intent, alpha, config)
            merged = merge(candidates, keys, length, self._width, len(self._offsets) - 1)
            lists.append((merged.rows, merged.clusters))
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
        items = tf.convert_to_tensor(self._model.item_embeddings)
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
