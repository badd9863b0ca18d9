"""One sort key per candidate: every way to merge K cluster lists into one is a choice of that key.

The M largest keys over all clusters win. With r = 0, 1, ... the rank of a candidate inside its cluster, after seen
items are removed, the key alpha * log p_k - log(r + 1/2) makes "take the M best" the highest-averages apportionment of
M seats by weights p_k ** alpha (Webster / Sainte-Lague): it sums to exactly M, gives what an exhausted cluster cannot
fill to the others, and never takes a seat from a cluster because M grew. Evaluation and serving run the same code.

Keys that go by rank alone say who gets how many seats before anything is encoded or searched: `seats`.
"""

from collections.abc import Callable
from typing import NamedTuple

from tfdnc.backend import tf
from tfdnc.contracts.config import MergeConfig
from tfdnc.contracts.registry import Registry

MAX_ALPHA = 1e6
"""Stands for infinity: the best cluster only, then the next best."""

_MIN_LOG_INTENT = -1e4  # finite, so that a cluster of probability 0 can still fill seats nobody else can


class Candidates(NamedTuple):
    """What an index found: the columns of one cluster are adjacent, best first, the unavailable ones last."""

    scores: tf.Tensor  # [B, C] float32, -inf where unavailable (seen, excluded, padding)
    rows: tf.Tensor  # [B, C] int32 item rows 0..N-1; meaningless where unavailable
    clusters: tf.Tensor  # [C] int32 cluster of each column, never decreasing
    ranks: tf.Tensor  # [C] int32 rank of each column inside its cluster, 0 is best


class Wishes(NamedTuple):
    """What the rows of a request ask of the merge; None where the signature lets nobody ask."""

    num_candidates: tf.Tensor  # [B] int32, at least 1
    alpha: tf.Tensor | None = None  # [B] float32, not NaN; >= 0 asks for quota(alpha), < 0 for the configured merge
    weights: tf.Tensor | None = None  # [B, K] float32 to share the list by, whatever alpha; none above 0: not given
    minimum: tf.Tensor | None = None  # [B, K] int32 results of the cluster, if it has as many; their sum must fit
    maximum: tf.Tensor | None = None  # [B, K] int32 results of the cluster, not below the minimum; negative: no bound
    joint_alpha: tf.Tensor | None = None  # [B] float32, not NaN; >= 0: joint(alpha), unless alpha or weights ask


class Merged(NamedTuple):
    """One list per row, best first."""

    rows: tf.Tensor  # [B, M] int32 item rows, -1 beyond `num_results`
    keys: tf.Tensor  # [B, M] float32, never increasing, -inf beyond `num_results`
    clusters: tf.Tensor  # [B, M] int32, -1 beyond `num_results`
    num_results: tf.Tensor  # [B] int32, at most `num_candidates`
    quotas: tf.Tensor  # [B, K] int32, how many of the results came from each cluster


Merge = Callable[[Candidates, tf.Tensor, tf.Tensor, tf.Tensor, MergeConfig], tf.Tensor]
"""(candidates, log_partition [B, K], log_intent [B, K], alpha [B], config) -> keys [B, C], -inf where unavailable."""

MERGES: Registry[Merge] = Registry("merge")

BY_RANK = ("quota", "equal", "top_clusters")
"""The merges whose keys read neither scores nor log-partition, only ranks and intent."""


@MERGES.register("quota")
def quota(candidates, log_partition, log_intent, alpha, config):
    """M_k follows M p_k ** alpha / sum p ** alpha (Zhang et al. 2.2), rounded by highest averages."""
    del log_partition, config
    log_intent = finite(log_intent)
    log_ratio = log_intent - tf.reduce_max(log_intent, axis=1, keepdims=True)
    # In logs: p ** 50 underflows to 0 for every cluster in float32, alpha * log p does not.
    return apportion(candidates, tf.minimum(alpha, MAX_ALPHA)[:, None] * log_ratio)


@MERGES.register("equal")
def equal(candidates, log_partition, log_intent, alpha, config):
    """Equal shares whatever the intent: quota(0), the paper's "absolute fairness"."""
    del alpha
    return quota(candidates, log_partition, log_intent, tf.zeros_like(log_intent[:, 0]), config)


@MERGES.register("top_clusters")
def top_clusters(candidates, log_partition, log_intent, alpha, config):
    """The `config.top_clusters` likeliest clusters share equally; the others fill what is left, likeliest first."""
    del log_partition, alpha
    order = tf.argsort(log_intent, axis=1, direction="DESCENDING", stable=True)
    place = tf.argsort(order, axis=1)  # [B, K] 0 for the likeliest cluster
    behind = tf.cast(tf.maximum(place - config.top_clusters + 1, 0), tf.float32)
    return apportion(candidates, -MAX_ALPHA * behind)


@MERGES.register("joint")
def joint(candidates, log_partition, log_intent, alpha, config):
    """alpha log p(k) + log p(i | k), the latter the softmax of the scores over the whole cluster: no quota (ours).

    With alpha = 1 that is the probability of the item; with less, lists spread over more clusters.
    """
    del config
    log_weights = tf.minimum(alpha, MAX_ALPHA)[:, None] * finite(log_intent)
    shift = tf.gather(log_weights - log_partition, candidates.clusters, axis=1)  # [B, C]
    return _where_available(candidates, candidates.scores + shift)


@MERGES.register("score")
def score(candidates, log_partition, log_intent, alpha, config):
    """The best scores over all clusters, whatever the intent; every earlier result of its cluster costs an item lambda.

    With lambda = `config.diversity` = 0 clusters do not matter: the list of one retriever over all items. Otherwise it
    is ComiRec's greedy selection, repeatedly argmax of r(i) - lambda * count(category of i), a cluster being a category
    (Cen et al. 2020): by the time an item is the best one left in its cluster, that count is its rank.
    """
    del log_partition, log_intent, alpha
    return _where_available(candidates, candidates.scores - config.diversity * tf.cast(candidates.ranks, tf.float32))


def apportion(candidates: Candidates, log_weights: tf.Tensor) -> tf.Tensor:
    """Keys that give cluster k a share of the list proportional to its weight.

    Args:
        candidates: of the index.
        log_weights: `[B, K]` finite log-weights; only their differences matter.

    Returns:
        `[B, C]` keys. Where weights are so far apart that ranks drown in float32, keys tie, and ties go to the lower
        column, which is the better rank.
    """
    weights = tf.gather(log_weights, candidates.clusters, axis=1)  # [B, C]
    # By way of float64: a float32 logarithm of the same rank may differ in its last bit from column to column (vectors
    # of 16 and their remainder go different ways), and then it, not the lower column, decides who wins a tie.
    cost = tf.cast(tf.math.log(tf.cast(candidates.ranks, tf.float64) + 0.5), tf.float32)
    return _where_available(candidates, weights - cost)


def select_keys(
    candidates: Candidates, log_partition: tf.Tensor, log_intent: tf.Tensor, wishes: Wishes, config: MergeConfig
) -> tf.Tensor:
    """Keys of a batch whose rows choose their merge: weights, else quota(alpha), joint(alpha), or the configured one.

    Args:
        candidates: of the index.
        log_partition: `[B, K]` log of the sum over the cluster of exp(score).
        log_intent: `[B, K]` log p(k); -inf is allowed.
        wishes: of the rows.
        config: the configured merge.

    Returns:
        `[B, C]` keys, -inf where unavailable, or out of the bounds that were asked for.
    """
    alpha = tf.repeat(tf.constant(config.alpha, tf.float32), tf.shape(log_intent)[0])
    keys = MERGES.resolve(config.method)(candidates, log_partition, log_intent, alpha, config)
    for method, asked in ((joint, wishes.joint_alpha), (quota, wishes.alpha)):
        if asked is not None:
            of_method = method(candidates, log_partition, log_intent, tf.maximum(asked, 0.0), config)
            keys = tf.where((asked >= 0)[:, None], of_method, keys)
    if wishes.weights is not None:
        weighted = quota(candidates, log_partition, tf.math.log(wishes.weights), tf.ones_like(alpha), config)
        keys = tf.where(_has_weights(wishes)[:, None], weighted, keys)
    return keys if wishes.maximum is None else bound(candidates, keys, wishes)


def reads_partition(wishes: Wishes, config: MergeConfig) -> tf.Tensor | bool:
    """Whether the keys of some row depend on the log-partition: a bool scalar."""
    if config.method == "joint":
        return ~tf.reduce_all(_by_rank(wishes))
    return wishes.joint_alpha is not None and tf.reduce_any(_by_joint(wishes))


def bound(candidates: Candidates, keys: tf.Tensor, wishes: Wishes) -> tf.Tensor:
    """Keeps what belongs in the list if every cluster has its minimum and none more than its maximum.

    A rank below the minimum goes before all others, a rank from the maximum on is not available. That decides who is
    in; the keys themselves stay, so the list is in the order it would have had.

    Returns:
        `[B, C]` keys, -inf for all but the `num_candidates` chosen ones.
    """
    most = tf.where(wishes.maximum < 0, tf.int32.max, wishes.maximum)
    keys = tf.where(candidates.ranks < tf.gather(most, candidates.clusters, axis=1), keys, float("-inf"))
    promised = (candidates.ranks < tf.gather(wishes.minimum, candidates.clusters, axis=1)) & (keys > float("-inf"))
    width = tf.minimum(tf.reduce_max(wishes.num_candidates), tf.shape(keys)[1])
    best = tf.math.top_k(tf.where(promised, float("inf"), keys), k=width)
    kept = (best.values > float("-inf")) & (tf.range(width) < wishes.num_candidates[:, None])
    where = tf.cast(tf.where(kept), tf.int32)  # [P, 2]
    places = tf.stack([where[:, 0], tf.gather_nd(best.indices, where)], axis=1)
    return tf.tensor_scatter_nd_update(tf.fill(tf.shape(keys), float("-inf")), places, tf.gather_nd(keys, places))


def seats(available: tf.Tensor, log_intent: tf.Tensor, wishes: Wishes, config: MergeConfig) -> tf.Tensor:
    """How many results a cluster can have: what a search must find of it, and whether it must be searched at all.

    The very keys and the very merge of the real list, for candidates that are known by their ranks only.

    Args:
        available: `[B, K]` int32 unseen items of the clusters.
        log_intent: `[B, K]` log p(k).
        wishes: of the rows.
        config: the configured merge.

    Returns:
        `[B, K]` int32, the quotas themselves where keys go by rank alone, and at least the quotas elsewhere.
    """
    most = tf.minimum(available, wishes.num_candidates[:, None])
    if wishes.maximum is not None:
        most = tf.where(wishes.maximum < 0, most, tf.minimum(most, wishes.maximum))

    num_clusters, longest = available.shape[1], tf.maximum(tf.reduce_max(wishes.num_candidates), 0)  # 0 without rows

    def plan():
        # One column of each at least: a merge needs some, if only to find them unavailable.
        within = tf.where(tf.range(longest) < tf.maximum(tf.reduce_max(most, axis=0), 1)[:, None])  # [C, 2]
        clusters, ranks = tf.cast(within[:, 0], tf.int32), tf.cast(within[:, 1], tf.int32)
        free = ranks < tf.gather(available, clusters, axis=1)
        imagined = Candidates(tf.where(free, 0.0, float("-inf")), tf.zeros_like(free, tf.int32), clusters, ranks)
        keys = select_keys(imagined, tf.zeros_like(log_intent), log_intent, wishes, config)
        return merge(imagined, keys, wishes.num_candidates, longest, num_clusters).quotas

    if config.method in BY_RANK and wishes.joint_alpha is None:
        return plan()
    by_rank = ~_by_joint(wishes) if config.method in BY_RANK else _by_rank(wishes)
    # Many requests want the configured merge in every row, and planning them is not free.
    return tf.cond(tf.reduce_any(by_rank), lambda: tf.where(by_rank[:, None], plan(), most), lambda: most)


def merge(
    candidates: Candidates, keys: tf.Tensor, num_candidates: tf.Tensor, width: int | tf.Tensor, num_clusters: int
) -> Merged:
    """Takes the best keys of every row; ties go to the lower column.

    Args:
        candidates: of the index.
        keys: `[B, C]`, -inf where unavailable.
        num_candidates: `[B]` int32 length of each list, at most `width`.
        width: M; static in an answer, whose shape must not depend on who else is in the batch.
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
    """`[B, M]` clusters, -1 for none -> `[B, K]` int32 how often each occurs."""
    batch = tf.shape(clusters)[0]
    slots = num_clusters + 1  # one for "none"
    flat = tf.reshape(clusters + 1 + slots * tf.range(batch)[:, None], [-1])
    counts = tf.math.unsorted_segment_sum(tf.ones_like(flat), flat, batch * slots)
    return tf.reshape(counts, [batch, slots])[:, 1:]


def _by_joint(wishes):
    """Which rows ask for the joint merge: `[B]`."""
    return (wishes.joint_alpha >= 0) & ~_by_rank(wishes)


def _by_rank(wishes):
    """Which rows have a merge by rank of their own: `[B]`."""
    by_rank = tf.zeros_like(wishes.num_candidates, tf.bool)
    if wishes.alpha is not None:
        by_rank |= wishes.alpha >= 0
    if wishes.weights is not None:
        by_rank |= _has_weights(wishes)
    return by_rank


def _has_weights(wishes):
    """Which rows share by weights of their own: `[B]`."""
    return tf.reduce_any(wishes.weights > 0, axis=1)


def finite(log_intent: tf.Tensor) -> tf.Tensor:
    """log p(k) that may be -inf, as numbers that can be added and compared."""
    return tf.maximum(log_intent, _MIN_LOG_INTENT)


def _where_available(candidates, keys):
    return tf.where(candidates.scores > float("-inf"), keys, float("-inf"))
