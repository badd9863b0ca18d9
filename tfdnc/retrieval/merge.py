"""Merge of K cluster lists into one, by one sort key per candidate: every merge is a choice of that key.

The list has the M candidates with the largest keys. Let r = 0, 1, ... be the rank of a candidate inside its cluster,
without seen items. With the key alpha * log p_k - log(r + 1/2), the M largest keys are the highest-averages
apportionment of M slots by weights p_k ** alpha (Webster / Sainte-Lague). Its quotas sum to exactly M. Slots that an
exhausted cluster cannot fill go to the others, and no quota shrinks when M grows. Evaluation and serving run this code.

Keys that depend on ranks alone determine the quotas before anything is encoded or searched: `quota_bounds`.
"""

from collections.abc import Callable
from typing import NamedTuple

from tfdnc.backend import tf
from tfdnc.contracts.config import MergeConfig
from tfdnc.contracts.registry import Registry

MAX_ALPHA = 1e6
"""Largest alpha in use, as good as infinity: all slots go to the best cluster, then to the next best."""

_MIN_LOG_INTENT = -1e4  # finite, so that a cluster of probability 0 can fill the slots that all others leave free


class Candidates(NamedTuple):
    """Candidates from an index: the columns of a cluster are adjacent, best first, unavailable ones last."""

    scores: tf.Tensor  # [B, C] float32, -inf where unavailable (seen, excluded, padding)
    rows: tf.Tensor  # [B, C] int32 item rows 0..N-1; meaningless where unavailable
    clusters: tf.Tensor  # [C] int32 cluster of each column, never decreasing
    ranks: tf.Tensor  # [C] int32 rank of each column inside its cluster, 0 is best


class Controls(NamedTuple):
    """A request's controls of the merge, row by row; None for a control that the signature lacks."""

    num_candidates: tf.Tensor  # [B] int32, at least 1
    alpha: tf.Tensor | None = None  # [B] float32, not NaN; >= 0: quota(alpha), < 0: the configured merge
    weights: tf.Tensor | None = None  # [B, K] float32 shares of the list, before any alpha; none above 0: not given
    minimum: tf.Tensor | None = None  # [B, K] int32 results of the cluster, if it has as many; their sum must fit
    maximum: tf.Tensor | None = None  # [B, K] int32 results of the cluster, at least `minimum`; negative: no bound
    joint_alpha: tf.Tensor | None = None  # [B] float32, not NaN; >= 0: joint(alpha), unless alpha or weights are given


class Merged(NamedTuple):
    """One list per row, best first."""

    rows: tf.Tensor  # [B, M] int32 item rows, -1 beyond `num_results`
    keys: tf.Tensor  # [B, M] float32, never increasing, -inf beyond `num_results`
    clusters: tf.Tensor  # [B, M] int32, -1 beyond `num_results`
    num_results: tf.Tensor  # [B] int32, at most `num_candidates`
    quotas: tf.Tensor  # [B, K] int32, number of results from each cluster


Merge = Callable[[Candidates, tf.Tensor, tf.Tensor, tf.Tensor, MergeConfig], tf.Tensor]
"""(candidates, log_partition [B, K], log_intent [B, K], alpha [B], config) -> keys [B, C], -inf where unavailable."""

MERGES: Registry[Merge] = Registry("merge")

BY_RANK = ("quota", "equal", "top_clusters")
"""Merges whose keys read neither scores nor log-partition, only ranks and intent."""


@MERGES.register("quota")
def quota(
    candidates: Candidates, log_partition: tf.Tensor, log_intent: tf.Tensor, alpha: tf.Tensor, config: MergeConfig
) -> tf.Tensor:
    """Quotas M p_k ** alpha / sum p ** alpha (Zhang et al. 2.2), rounded by highest averages."""
    del log_partition, config
    log_intent = finite(log_intent)
    log_ratio = log_intent - tf.reduce_max(log_intent, axis=1, keepdims=True)
    # In logarithms, because p ** 50 underflows to 0 for every cluster in float32.
    return apportion(candidates, tf.minimum(alpha, MAX_ALPHA)[:, None] * log_ratio)


@MERGES.register("equal")
def equal(
    candidates: Candidates, log_partition: tf.Tensor, log_intent: tf.Tensor, alpha: tf.Tensor, config: MergeConfig
) -> tf.Tensor:
    """Equal quotas for any intent: quota(0), the paper's "absolute fairness"."""
    del alpha
    return quota(candidates, log_partition, log_intent, tf.zeros_like(log_intent[:, 0]), config)


@MERGES.register("top_clusters")
def top_clusters(
    candidates: Candidates, log_partition: tf.Tensor, log_intent: tf.Tensor, alpha: tf.Tensor, config: MergeConfig
) -> tf.Tensor:
    """Equal quotas for the `config.top_clusters` likeliest clusters; the others fill free slots, likeliest first."""
    del log_partition, alpha
    order = tf.argsort(log_intent, axis=1, direction="DESCENDING", stable=True)
    rank = tf.argsort(order, axis=1)  # [B, K] 0 for the likeliest cluster
    behind = tf.cast(tf.maximum(rank - config.top_clusters + 1, 0), tf.float32)
    return apportion(candidates, -MAX_ALPHA * behind)


@MERGES.register("joint")
def joint(
    candidates: Candidates, log_partition: tf.Tensor, log_intent: tf.Tensor, alpha: tf.Tensor, config: MergeConfig
) -> tf.Tensor:
    """The key alpha log p(k) + log p(i | k), without quotas (ours).

    p(i | k) is the softmax of the scores over the whole cluster. With alpha = 1 the key is the log-probability of the
    item; smaller values spread the list over more clusters.
    """
    del config
    log_weights = tf.minimum(alpha, MAX_ALPHA)[:, None] * finite(log_intent)
    shift = tf.gather(log_weights - log_partition, candidates.clusters, axis=1)  # [B, C]
    return _where_available(candidates, candidates.scores + shift)


@MERGES.register("score")
def score(
    candidates: Candidates, log_partition: tf.Tensor, log_intent: tf.Tensor, alpha: tf.Tensor, config: MergeConfig
) -> tf.Tensor:
    """The score, less lambda for every better item of the same cluster; the intent has no effect.

    With lambda = `config.diversity` = 0 this is the list of one retriever over all items. Otherwise it is the greedy
    selection of ComiRec (Cen et al. 2020), with clusters as categories: repeatedly the argmax of
    r(i) - lambda * count(category of i). That count is the item's rank once it is the best one left in its cluster.
    """
    del log_partition, log_intent, alpha
    return _where_available(candidates, candidates.scores - config.diversity * tf.cast(candidates.ranks, tf.float32))


def apportion(candidates: Candidates, log_weights: tf.Tensor) -> tf.Tensor:
    """Returns keys that give cluster k a share of the list proportional to its weight.

    Args:
        candidates: candidates from an index.
        log_weights: `[B, K]` finite log-weights; only their differences matter.

    Returns:
        `[B, C]` keys. If weights differ so much that float32 cannot resolve the ranks, keys are equal. Ties go to the
        lower column, which has the better rank.
    """
    weights = tf.gather(log_weights, candidates.clusters, axis=1)  # [B, C]
    # In float64: in float32 the logarithm of one rank may differ in its last bit from column to column, because vectors
    # of 16 and their remainder are computed by different code. That bit, not the column, would then decide ties.
    cost = tf.cast(tf.math.log(tf.cast(candidates.ranks, tf.float64) + 0.5), tf.float32)
    return _where_available(candidates, weights - cost)


def select_keys(
    candidates: Candidates, log_partition: tf.Tensor, log_intent: tf.Tensor, controls: Controls, config: MergeConfig
) -> tf.Tensor:
    """Returns keys by the merge that each row chooses: weights, else quota(alpha), joint(alpha), or the configured one.

    Args:
        candidates: candidates from an index.
        log_partition: `[B, K]` log of the sum over the cluster of exp(score).
        log_intent: `[B, K]` log p(k); -inf is allowed.
        controls: controls of the rows.
        config: the configured merge.

    Returns:
        `[B, C]` keys, -inf where unavailable, or excluded by the bounds of the row.
    """
    alpha = tf.repeat(tf.constant(config.alpha, tf.float32), tf.shape(log_intent)[0])
    keys = MERGES.resolve(config.method)(candidates, log_partition, log_intent, alpha, config)
    for method, asked in ((joint, controls.joint_alpha), (quota, controls.alpha)):
        if asked is not None:
            of_method = method(candidates, log_partition, log_intent, tf.maximum(asked, 0.0), config)
            keys = tf.where((asked >= 0)[:, None], of_method, keys)
    if controls.weights is not None:
        weighted = quota(candidates, log_partition, tf.math.log(controls.weights), tf.ones_like(alpha), config)
        keys = tf.where(_has_weights(controls.weights)[:, None], weighted, keys)
    if controls.minimum is None or controls.maximum is None:
        return keys
    return bound(candidates, keys, controls.num_candidates, controls.minimum, controls.maximum)


def reads_partition(controls: Controls, config: MergeConfig) -> tf.Tensor | bool:
    """Returns a bool scalar, True if the keys of some row depend on the log-partition."""
    if config.method == "joint":
        return ~tf.reduce_all(_by_rank(controls))
    return controls.joint_alpha is not None and tf.reduce_any(_by_joint(controls.joint_alpha, controls))


def bound(
    candidates: Candidates, keys: tf.Tensor, num_candidates: tf.Tensor, minimum: tf.Tensor, maximum: tf.Tensor
) -> tf.Tensor:
    """Excludes candidates so that every cluster has its minimum of results, and none more than its maximum.

    Ranks below the minimum are chosen first, ranks from the maximum on never. The keys of the chosen candidates do not
    change, so their order does not either.

    Args:
        candidates: candidates from an index.
        keys: `[B, C]`, -inf where unavailable.
        num_candidates: `[B]` int32 lengths of the lists.
        minimum: `[B, K]` int32; the sum of a row is at most its length.
        maximum: `[B, K]` int32, negative for no bound.

    Returns:
        `[B, C]` keys, -inf for all but the `num_candidates` chosen ones.
    """
    most = tf.where(maximum < 0, tf.int32.max, maximum)
    keys = tf.where(candidates.ranks < tf.gather(most, candidates.clusters, axis=1), keys, float("-inf"))
    required = (candidates.ranks < tf.gather(minimum, candidates.clusters, axis=1)) & (keys > float("-inf"))
    width = tf.minimum(tf.reduce_max(num_candidates), tf.shape(keys)[1])
    best = tf.math.top_k(tf.where(required, float("inf"), keys), k=width)
    kept = (best.values > float("-inf")) & (tf.range(width) < num_candidates[:, None])
    where = tf.cast(tf.where(kept), tf.int32)  # [P, 2]
    chosen = tf.stack([where[:, 0], tf.gather_nd(best.indices, where)], axis=1)  # [P, 2] row and column
    return tf.tensor_scatter_nd_update(tf.fill(tf.shape(keys), float("-inf")), chosen, tf.gather_nd(keys, chosen))


def quota_bounds(available: tf.Tensor, log_intent: tf.Tensor, controls: Controls, config: MergeConfig) -> tf.Tensor:
    """Returns upper bounds of the quotas: a search need not find more of a cluster, and may skip it at 0.

    They come from the same keys and the same merge as the list, for candidates of which only the ranks are known.

    Args:
        available: `[B, K]` int32 unseen items of the clusters.
        log_intent: `[B, K]` log p(k).
        controls: controls of the rows.
        config: the configured merge.

    Returns:
        `[B, K]` int32, equal to the quotas where keys depend on ranks alone, and at least the quotas elsewhere.
    """
    most = tf.minimum(available, controls.num_candidates[:, None])
    if controls.maximum is not None:
        most = tf.where(controls.maximum < 0, most, tf.minimum(most, controls.maximum))

    num_clusters, longest = available.shape[1], tf.maximum(tf.reduce_max(controls.num_candidates), 0)  # 0 without rows

    def plan() -> tf.Tensor:
        # One column per cluster at least, because a merge needs columns even if all are unavailable.
        within = tf.where(tf.range(longest) < tf.maximum(tf.reduce_max(most, axis=0), 1)[:, None])  # [C, 2]
        clusters, ranks = tf.cast(within[:, 0], tf.int32), tf.cast(within[:, 1], tf.int32)
        free = ranks < tf.gather(available, clusters, axis=1)
        ranked = Candidates(tf.where(free, 0.0, float("-inf")), tf.zeros_like(free, tf.int32), clusters, ranks)
        keys = select_keys(ranked, tf.zeros_like(log_intent), log_intent, controls, config)
        return merge(ranked, keys, controls.num_candidates, longest, num_clusters).quotas

    if config.method not in BY_RANK:
        by_rank = _by_rank(controls)
    elif controls.joint_alpha is None:
        return plan()
    else:
        by_rank = ~_by_joint(controls.joint_alpha, controls)
    # Many requests use the configured merge in every row, and planning takes time.
    return tf.cond(tf.reduce_any(by_rank), lambda: tf.where(by_rank[:, None], plan(), most), lambda: most)


def merge(
    candidates: Candidates, keys: tf.Tensor, num_candidates: tf.Tensor, width: int | tf.Tensor, num_clusters: int
) -> Merged:
    """Takes the best keys of every row; ties go to the lower column.

    Args:
        candidates: candidates from an index.
        keys: `[B, C]`, -inf where unavailable.
        num_candidates: `[B]` int32 length of each list, at most `width`.
        width: M; static in an answer, whose shape must not depend on the other rows of the batch.
        num_clusters: K.

    Returns:
        Lists of `num_candidates`, or of everything available if that is less.
    """
    missing = tf.maximum(width - tf.shape(keys)[1], 0)
    best = tf.math.top_k(tf.pad(keys, [[0, 0], [0, missing]], constant_values=float("-inf")), k=width)
    column = tf.minimum(best.indices, tf.shape(keys)[1] - 1)
    kept = (best.values > float("-inf")) & (tf.range(width) < tf.expand_dims(num_candidates, 1))  # [B, M]
    clusters = tf.where(kept, tf.gather(candidates.clusters, column), -1)
    return Merged(
        rows=tf.where(kept, tf.gather(candidates.rows, column, batch_dims=1), -1),
        keys=tf.where(kept, best.values, float("-inf")),
        clusters=clusters,
        num_results=tf.reduce_sum(tf.cast(kept, tf.int32), axis=1),
        quotas=count_clusters(clusters, num_clusters),
    )


def count_clusters(clusters: tf.Tensor, num_clusters: int) -> tf.Tensor:
    """Counts `[B, M]` clusters, -1 for none: `[B, K]` int32."""
    batch = tf.shape(clusters)[0]
    bins = num_clusters + 1  # the first one counts "none"
    flat = tf.reshape(clusters + 1 + bins * tf.range(batch)[:, None], [-1])
    counts = tf.math.unsorted_segment_sum(tf.ones_like(flat), flat, batch * bins)
    return tf.reshape(counts, [batch, bins])[:, 1:]


def finite(log_intent: tf.Tensor) -> tf.Tensor:
    """Returns log p(k) with a large negative number for -inf, which could not be multiplied or subtracted."""
    return tf.maximum(log_intent, _MIN_LOG_INTENT)


def _by_joint(joint_alpha: tf.Tensor, controls: Controls) -> tf.Tensor:
    """Returns `[B]` bool, True for a row that chooses the joint merge."""
    return (joint_alpha >= 0) & ~_by_rank(controls)


def _by_rank(controls: Controls) -> tf.Tensor:
    """Returns `[B]` bool, True for a row that chooses a merge by rank: an alpha or weights."""
    by_rank = tf.zeros_like(controls.num_candidates, tf.bool)
    if controls.alpha is not None:
        by_rank |= controls.alpha >= 0
    if controls.weights is not None:
        by_rank |= _has_weights(controls.weights)
    return by_rank


def _has_weights(weights: tf.Tensor) -> tf.Tensor:
    """Returns `[B]` bool, True for a row whose `[B, K]` weights are given."""
    return tf.reduce_any(weights > 0, axis=1)


def _where_available(candidates: Candidates, keys: tf.Tensor) -> tf.Tensor:
    return tf.where(candidates.scores > float("-inf"), keys, float("-inf"))
