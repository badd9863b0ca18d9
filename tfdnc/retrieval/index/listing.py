"""One list from K clusters without asking every cluster for the whole list: guess, look, and ask again if need be."""

from collections.abc import Callable

from tfdnc.backend import tf
from tfdnc.contracts.config import MergeConfig
from tfdnc.retrieval.index.base import ClusterIndex
from tfdnc.retrieval.merge import MAX_ALPHA, Candidates, Merged, finite, merge

KeysOf = Callable[[Candidates, tf.Tensor], tf.Tensor]
"""(candidates, log_partition [B, K]) -> keys [B, C], -inf where unavailable; see `tfdnc.retrieval.merge`."""

_SLACK = 3  # times the expected share of the list
_SPARE = 32  # candidates of every cluster in any case
_FEW = 4  # rows; in a larger batch some row wants most of almost any cluster


def search_list(
    index: ClusterIndex,
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
) -> Merged:
    """Searches and merges; the answer is that of a search for the longest list in every cluster.

    The M-th best key of what was found is a lower bound of the last key of the list. A cluster whose own last candidate
    is worse can add nothing; if another one has more items, everything is searched again with M candidates there. With
    p(k) as the guess that happened to one row in twelve at most, and the first search had .3 of the candidates.

    Args:
        index: what is searched.
        vectors: as `ClusterIndex.search` takes them.
        seen: as `ClusterIndex.search` takes it.
        most: `[K]` int32, at least 1: more results than these a cluster cannot have in any list.
        shares: `[B, K]` guesses, how much of the list each cluster will have; only speed depends on them.
        num_candidates: `[B]` int32 lengths of the lists.
        width: M of the answer, static.
        keys_of: the merge. In a cluster, its keys must not increase from one candidate to the next.
        per_cluster: as `ClusterIndex.search` takes it.
        with_partition: as `ClusterIndex.search` takes it.
    """
    wanted = _SLACK * shares * tf.cast(num_candidates, tf.float32)[:, None]
    wanted = tf.maximum(tf.reduce_max(wanted, axis=0), 0.0)  # the maximum of no rows is -inf
    guess = tf.minimum(tf.cast(wanted, tf.int32) + _SPARE, most)  # [K]
    first = tf.where(tf.shape(vectors)[0] <= _FEW, guess, most)

    def search(k):
        options = {"per_cluster": per_cluster, "with_partition": with_partition}
        candidates, log_partition = index.search(vectors, seen, k, **options)
        keys = keys_of(candidates, log_partition)
        return keys, merge(candidates, keys, num_candidates, width, len(index.sizes))

    keys, merged = search(first)
    asked = tf.minimum(first, index.sizes)
    more = _could_give_more(asked, keys, merged, num_candidates) & (asked < most) & (asked < index.sizes)
    again = tf.cond(tf.reduce_any(more), lambda: search(tf.where(more, most, first))[1], lambda: merged)
    return Merged(*again)


def expected_shares(log_intent: tf.Tensor, alpha: tf.Tensor, config: MergeConfig) -> tf.Tensor:
    """Guesses how a list will be made up: p(k) ** alpha where a row asks for one, else by the configured merge.

    Args:
        log_intent: `[B, K]`, -inf is allowed.
        alpha: `[B]`, negative for the configured merge.
        config: of the merge.

    Returns:
        `[B, K]`, rows sum to 1.
    """
    configured = {"quota": config.alpha, "joint": config.alpha, "equal": 0.0}.get(config.method, 1.0)
    alpha = tf.minimum(tf.where(alpha >= 0, alpha, configured), MAX_ALPHA)
    logits = alpha[:, None] * finite(log_intent)
    # TensorFlow's optimiser forgets the rank of an intent that comes out of a call, and logs that it cannot cost this.
    return tf.nn.softmax(tf.ensure_shape(logits, logits.shape))


def _could_give_more(widths, keys, merged, num_candidates):
    """`[K]` whether the last candidate of a cluster made the list of some row, so that the next might as well."""
    last_key = tf.gather(merged.keys, num_candidates - 1, batch_dims=1)
    complete = merged.num_results == num_candidates
    bound = tf.where(complete, last_key, tf.float32.min)[:, None]  # [B, 1]
    last = tf.gather(keys, tf.maximum(tf.cumsum(widths) - 1, 0), axis=1)  # [B, K]
    return tf.reduce_any(last >= bound, axis=0) & (widths > 0)
