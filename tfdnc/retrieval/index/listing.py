"""One list from K clusters, without a search for the whole list in every cluster: a guess, a check, a second search."""

from collections.abc import Callable

from tfdnc.backend import tf
from tfdnc.contracts.config import MergeConfig
from tfdnc.retrieval.index.searchable import Searchable
from tfdnc.retrieval.merge import MAX_ALPHA, Candidates, Merged, finite, merge
from tfdnc.retrieval.rules.passing import Passing

KeysOf = Callable[[Candidates, tf.Tensor], tf.Tensor]
"""(candidates, log_partition [B, K]) -> keys [B, C], -inf where unavailable; see `tfdnc.retrieval.merge`."""

_SLACK = 3  # candidates of a cluster in the first search, as a multiple of its expected results
_SPARE = 32  # candidates of every cluster in addition
_FEW = 4  # largest batch with a first search; in larger ones some row needs many candidates of almost any cluster


def search_list(
    index: Searchable,
    vectors: tf.Tensor,
    seen: tf.Tensor,
    most: tf.Tensor,
    shares: tf.Tensor,
    num_candidates: tf.Tensor,
    width: int,
    keys_of: KeysOf,
    *,
    per_cluster: bool,
    with_partition: tf.Tensor | bool = True,
    passing: Passing | None = None,
) -> Merged:
    """Searches and merges; the answer is that of a search for the longest list in every cluster.

    The M-th best key of the first search is a lower bound of the last key of the list. A cluster whose last found
    candidate is worse cannot add a result. If another cluster has more items, the search runs again, with `most`
    candidates there. With p(k) as the guess, that happened to at most one row in twelve, and the first search had .3 of
    the candidates.

    Args:
        index: the index that is searched.
        vectors: argument of `ClusterIndex.search`.
        seen: argument of `ClusterIndex.search`.
        most: `[K]` int32, at least 1: upper bounds of the results of each cluster in any list.
        shares: `[B, K]` expected shares of the clusters in the list; only the speed depends on them.
        num_candidates: `[B]` int32 lengths of the lists.
        width: M of the answer, static.
        keys_of: the merge. Inside a cluster, its keys must not increase from one candidate to the next.
        per_cluster: argument of `ClusterIndex.search`.
        with_partition: argument of `ClusterIndex.search`.
        passing: argument of `ClusterIndex.search`.
    """
    wanted = _SLACK * shares * tf.cast(num_candidates, tf.float32)[:, None]
    wanted = tf.maximum(tf.reduce_max(wanted, axis=0), 0.0)  # the maximum of no rows is -inf
    guess = tf.minimum(tf.cast(wanted, tf.int32) + _SPARE, most)  # [K]
    first = tf.where(tf.shape(vectors)[0] <= _FEW, guess, most)

    under_filter = {} if passing is None else {"passing": passing}  # an index of a plug-in may know no filters

    def search(k: tf.Tensor) -> tuple[tf.Tensor, Merged]:
        candidates, log_partition = index.search(
            vectors, seen, k, per_cluster=per_cluster, with_partition=with_partition, **under_filter
        )
        keys = keys_of(candidates, log_partition)
        return keys, merge(candidates, keys, num_candidates, width, len(index.sizes))

    keys, merged = search(first)
    asked = tf.minimum(first, index.sizes)
    more = _could_give_more(asked, keys, merged, num_candidates) & (asked < most) & (asked < index.sizes)
    again = tf.cond(tf.reduce_any(more), lambda: search(tf.where(more, most, first))[1], lambda: merged)
    return Merged(*again)


def expected_shares(log_intent: tf.Tensor, alpha: tf.Tensor, config: MergeConfig) -> tf.Tensor:
    """Returns the expected shares of the clusters in a list: p(k) ** alpha, normalised.

    Args:
        log_intent: `[B, K]`, -inf is allowed.
        alpha: `[B]`, negative for that of the configured merge.
        config: the configured merge.

    Returns:
        `[B, K]`, rows sum to 1.
    """
    configured = {"quota": config.alpha, "joint": config.alpha, "equal": 0.0}.get(config.method, 1.0)
    alpha = tf.minimum(tf.where(alpha >= 0, alpha, configured), MAX_ALPHA)
    logits = alpha[:, None] * finite(log_intent)
    # Without the shape, TensorFlow's optimiser logs that it cannot estimate the cost of this op: it does not know the
    # rank of a tensor that a function call returns.
    return tf.nn.softmax(tf.ensure_shape(logits, logits.shape))


def _could_give_more(widths: tf.Tensor, keys: tf.Tensor, merged: Merged, num_candidates: tf.Tensor) -> tf.Tensor:
    """Returns `[K]` bool, True where the last candidate is in the list of some row: the next one might be too."""
    last_key = tf.gather(merged.keys, num_candidates - 1, batch_dims=1)
    complete = merged.num_results == num_candidates
    bound = tf.where(complete, last_key, tf.float32.min)[:, None]  # [B, 1]
    last = tf.gather(keys, tf.maximum(tf.cumsum(widths) - 1, 0), axis=1)  # [B, K]
    return tf.reduce_any(last >= bound, axis=0) & (widths > 0)
