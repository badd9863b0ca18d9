"""Ranks every held-out target with the code that serves: user vectors, exact index, merge (paper, section 3.1.2).

The split decides the validation target and the test target of a user: the last item but one and the last, unless
`data.split` differs. A user without a target is not in the records. A list has exactly M of the user's unseen items, or
with `data.seen: allow` of all items.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.config import MergeConfig
from tfdnc.evaluation import metrics
from tfdnc.evaluation.judge import Judge
from tfdnc.evaluation.list_bounds import ListBounds
from tfdnc.model.tower import Tower
from tfdnc.retrieval.bounds.listing import list_bounded
from tfdnc.retrieval.bounds.pool import Query
from tfdnc.retrieval.index.exact import ExactIndex
from tfdnc.retrieval.index.seen import distinct
from tfdnc.retrieval.merge import MERGES, Candidates, bound, merge
from tfdnc.retrieval.rules.masks import as_passing
from tfdnc.training.batches import history_batches
from tfdnc.training.records import HeldOutRecords

_MOST_SCORES = 2**26
"""Most scores of a batch, users x items: 256 MiB. Without it the memory of a batch grows with the items."""


class Lists(NamedTuple):
    """The lists of one merge for U users."""

    rows: np.ndarray  # [U, M] int item rows, -1 beyond the end
    clusters: np.ndarray  # [U, M] int, -1 beyond the end


class Ranked(NamedTuple):
    """Ranks and intents of all U users, which depend on no merge."""

    within_ranks: np.ndarray  # [U] rank of the target among the items of its own cluster that a list may hold
    outside_ranks: np.ndarray  # [U] rank of the target among itself and such items of all other clusters
    log_intent: np.ndarray  # [U, K], over the model's own clusters


Sink = Callable[[np.ndarray, Lists], None]
"""Takes the rows `[B]` of users in the records, and the lists of these users by one merge."""


class _Found(NamedTuple):
    """Candidates and intents of a batch, from which all lists are made, and the ranks that depend on no merge."""

    candidates: Candidates
    log_partition: tf.Tensor  # [B, K]
    log_intent: tf.Tensor  # [B, K]
    vectors: tf.Tensor  # [B, V, D]
    seen: tf.Tensor  # [B, S] int32
    within: tf.Tensor  # [B] int32, -1 for not found
    outside: tf.Tensor  # [B] int32, -1 for not found


_MakeLists = Callable[[_Found], tuple[tf.Tensor, tf.Tensor]]
"""Candidates of a batch -> rows and clusters of its lists."""


class Evaluator:
    """Runs a tower over held-out records; compiled once, usable after every epoch.

    Args:
        model: the retriever, evaluated at each call with its current weights.
        merge: the configured merge.
        width: M, the longest list; shorter lists are its prefixes, because no merge key depends on M.
        judge: other clusters for a model with one cluster. Lists are then in the judge's item rows and clusters. Merges
            by score alone put the same items into them as without a judge.
        allows_seen: whether lists may hold items of the history.
        mask: `[N]` bool, True for the items that lists may hold, in the order of their rows; None for all.
        bounds: bounds on the lists, of the same items; then the lists are those of its lengths.
    """

    def __init__(
        self,
        model: Tower,
        merge: MergeConfig,
        width: int,
        judge: Judge | None = None,
        allows_seen: bool = False,
        mask: np.ndarray | None = None,
        bounds: ListBounds | None = None,
    ) -> None:
        self._model = model
        self._merge = merge
        self._width = width
        self._judge = judge
        self._allows_seen = allows_seen
        self._mask = mask
        self._bounds = bounds
        self._offsets = judge.items.offsets if judge else model.offsets
        vector = tf.TensorSpec([None], tf.int32)
        self._search = _graph(self._find, tf.TensorSpec([None, None], tf.int32), vector, vector, *model.input_specs)
        self._graphs: dict[tuple[MergeConfig, int, bool], Callable[..., Any]] = {}
        lengths = () if bounds is None else bounds.lengths
        self._bounded = [_graph(functools.partial(self._list_bounded, length=m)) for m in lengths]

    def run(
        self,
        records: HeldOutRecords,
        sinks: Sequence[Sink],
        merges: Sequence[MergeConfig] = (),
        floors: Sequence[int] = (),
        floor_length: int = 0,
        intents: Sequence[np.ndarray] = (),
    ) -> Ranked:
        """Makes the lists of every user, batch by batch, and keeps none.

        Args:
            records: records of the users, in the model's item indices, with times if it reads them.
            sinks: takers of the lists: by the configured merge, then by each further merge, by each floor, and by each
                intent. Under bounds: by the configured merge in each length, and no others.
            merges: further merges beside the configured one.
            floors: least numbers of results per cluster; each makes further lists by the configured merge.
            floor_length: M of the lists with floors. A floor depends on M, so their prefixes are not shorter lists.
            intents: `[U, K]` logarithms of p(cluster), by which the configured merge makes further lists.
        """
        judged = self._judge.renumber(records) if self._judge else records
        count = len(records.targets)
        makers = [self._maker(config) for config in (self._merge, *merges)]
        makers += [self._maker(self._merge, floor, floor_length) for floor in floors]
        if self._bounds is not None:
            makers = [functools.partial(_of_query, make) for make in self._bounded]
        result = Ranked(
            within_ranks=np.full(count, metrics.NOT_FOUND),
            outside_ranks=np.full(count, metrics.NOT_FOUND),
            log_intent=np.zeros([count, self._model.num_clusters], np.float32),
        )
        most_users = max(1, _MOST_SCORES // int(self._offsets[-1]))
        for batch in history_batches(
            records, self._model.max_length, allows_seen=self._allows_seen, most_users=most_users
        ):
            users = batch.users
            seen = self._judge.indices[batch.seen] if self._judge else batch.seen
            found = self._search(seen, judged.targets[users], judged.target_clusters[users], *batch.inputs)
            others = [found._replace(log_intent=tf.constant(intent[users], tf.float32)) for intent in intents]
            lists = [(make, found) for make in makers] + [(makers[0], other) for other in others]
            for sink, (make, given) in zip(sinks, lists, strict=True):
                rows, clusters = make(given)
                sink(users, Lists(rows.numpy(), clusters.numpy()))
            result.within_ranks[users] = _as_ranks(found.within)
            result.outside_ranks[users] = _as_ranks(found.outside)
            result.log_intent[users] = found.log_intent.numpy()
        return result

    def _maker(self, config: MergeConfig, floor: int | None = None, length: int | None = None) -> _MakeLists:
        """Returns a function `_Found` -> rows and clusters of the lists of a merge."""
        # One graph for all alphas, and one for all floors: compilation takes longer than running it.
        alike, width = config.model_copy(update={"alpha": 1.0}), length or self._width
        key = alike, width, floor is not None
        if key not in self._graphs:
            specs = _specs(len(self._offsets) - 1, self._model.num_clusters)
            scalars = tf.TensorSpec([], tf.float32), tf.TensorSpec([], tf.int32)
            make = functools.partial(_make_lists, config=alike, width=width, floored=floor is not None)
            self._graphs[key] = _graph(make, *specs, *scalars)
        alpha, least = tf.constant(config.alpha, tf.float32), tf.constant(floor or 0)
        return lambda found: self._graphs[key](*found[:3], alpha, least)

    def _find(
        self, seen: tf.Tensor, targets: tf.Tensor, target_clusters: tf.Tensor, *inputs: Any
    ) -> "_Found":  # inputs: those of `Tower.user_vectors`
        vectors, log_intent = self._model.user_vectors(*inputs)
        per_cluster = self._per_cluster()
        items = self._items()
        index = ExactIndex(items, self._offsets)
        passing = None if self._mask is None else as_passing(self._mask, self._offsets, tf.shape(seen)[0])
        candidates, log_partition = index.search(vectors, seen, self._width, per_cluster=per_cluster, passing=passing)
        shift = tf.zeros_like(log_partition)
        if self._merge.method != "score":  # scores of different clusters compare as joint probabilities only
            shift = log_intent - log_partition
        own = tf.gather(vectors, target_clusters, batch_dims=1)[:, None] if per_cluster else vectors
        score = tf.reduce_max(tf.einsum("bid,bd->bi", own, tf.gather(items, targets - 1)), axis=1)
        score = tf.where(tf.reduce_any(seen == targets[:, None], axis=1), float("-inf"), score)
        outside = _outside_ranks(candidates, shift, score, target_clusters, self._width)
        within = _within_ranks(candidates, targets, target_clusters)
        return _Found(candidates, log_partition, log_intent, vectors, seen, within, outside)

    def _list_bounded(
        self, log_intent: tf.Tensor, vectors: tf.Tensor, seen: tf.Tensor, length: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns rows and clusters `[B, length]` of the lists under bounds, by the configured merge."""
        assert self._bounds is not None  # this is no graph without bounds
        batch, clusters = tf.shape(seen)[0], len(self._offsets) - 1
        mask = np.ones(int(self._offsets[-1]), bool) if self._mask is None else self._mask
        controls = self._bounds.controls(length, batch)
        if self._judge:  # no merge by score reads the intent
            log_intent = tf.zeros([batch, clusters])
        passing = as_passing(mask, self._offsets, batch)
        parsed = self._bounds.bounds(length, controls)
        query = Query(vectors, distinct(seen), passing, log_intent, controls, parsed)
        index = ExactIndex(self._items(), self._offsets)
        merged = list_bounded(index, self._bounds.rules, self._merge, query, length, per_cluster=self._per_cluster())
        return merged.rows, merged.clusters

    def _per_cluster(self) -> bool:
        """Returns True if every cluster has a vector of its own."""
        # A judged model has one cluster, so its vector per cluster is the vector for all.
        return self._model.vectors_per_cluster and not self._judge

    def _items(self) -> tf.Tensor:
        """Returns the item vectors `[N, D]` in the order of the index."""
        items = self._model.item_vectors()
        # The items are reordered inside the graph, so that the lists use the current weights.
        return tf.gather(items, self._judge.model_rows) if self._judge else items


def _of_query(make: Callable[..., Any], found: _Found) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the lists of a graph that searches by itself."""
    rows, clusters = make(found.log_intent, found.vectors, found.seen)
    return rows, clusters


def _graph(function: Callable[..., Any], *specs: Any) -> Callable[..., Any]:
    # No function here branches on tensors, and AutoGraph would take most of the tracing time.
    return tf.function(function, input_signature=specs or None, autograph=False, reduce_retracing=not specs)


def _specs(num_clusters: int, intent_clusters: int) -> tuple[Candidates, tf.TensorSpec, tf.TensorSpec]:
    """Returns the specs of the first three fields of `_Found`, from which lists are made."""
    found, column = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.int32)
    candidates = Candidates(found, tf.TensorSpec([None, None], tf.int32), column, column)
    return candidates, tf.TensorSpec([None, num_clusters]), tf.TensorSpec([None, intent_clusters])


def _make_lists(
    candidates: Candidates,
    log_partition: tf.Tensor,
    log_intent: tf.Tensor,
    alpha: tf.Tensor,
    floor: tf.Tensor,
    config: MergeConfig,
    width: int,
    floored: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns rows and clusters `[B, width]` of the lists of a merge, with a floor per cluster if `floored`."""
    batch, num_clusters = tf.shape(log_intent)[0], log_partition.shape[1]
    keys = MERGES.resolve(config.method)(candidates, log_partition, log_intent, tf.repeat(alpha, batch), config)
    wanted = tf.repeat(width, batch)
    if floored:
        unbounded = tf.fill([batch, num_clusters], -1)
        floors = tf.fill([batch, num_clusters], floor)
        keys = bound(candidates, keys, wanted, minimum=floors, maximum=unbounded)
    merged = merge(candidates, keys, wanted, width, num_clusters)
    return merged.rows, merged.clusters


def _within_ranks(candidates: Candidates, targets: tf.Tensor, target_clusters: tf.Tensor) -> tf.Tensor:
    """Returns `[B]`, the rank of each target in its own cluster, -1 when it is not among the candidates."""
    is_target = (candidates.rows == targets[:, None] - 1) & (candidates.scores > float("-inf"))
    is_target &= candidates.clusters == target_clusters[:, None]
    return tf.reduce_max(tf.where(is_target, candidates.ranks, -1), axis=1)


def _outside_ranks(
    candidates: Candidates, shift: tf.Tensor, target_scores: tf.Tensor, target_clusters: tf.Tensor, width: int
) -> tf.Tensor:
    """Returns `[B]`, the number of candidates of other clusters that are not below each target; -1 from `width` on.

    Candidates have the best `width` items of every cluster, so any count below `width` is exact.
    """
    keys = candidates.scores + tf.gather(shift, candidates.clusters, axis=1)  # [B, C]
    target_keys = target_scores + tf.gather(shift, target_clusters, batch_dims=1)
    ahead = (keys >= target_keys[:, None]) & (candidates.scores > float("-inf"))
    count = tf.reduce_sum(tf.cast(ahead & (candidates.clusters != target_clusters[:, None]), tf.int32), axis=1)
    return tf.where((count < width) & (target_scores > float("-inf")), count, -1)


def _as_ranks(found: tf.Tensor) -> np.ndarray:
    """Replaces -1 by `NOT_FOUND`, which does not fit int32."""
    ranks = found.numpy().astype(np.int64)
    return np.where(ranks < 0, metrics.NOT_FOUND, ranks)
