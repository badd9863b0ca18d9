"""One list per row under bounds: a search of every cluster, a choice, and further searches where items may be missing.

The list is the one that `selection` and `repair` make of all items of the catalogue. The first search finds only the
best items of every cluster. As long as `proof` cannot show that the choice would be the same with all items, the
missing ones are searched by their text or cluster, deeper each time.
"""

from typing import NamedTuple

from tfdnc.backend import tf
from tfdnc.contracts.config import MergeConfig
from tfdnc.retrieval.bounds.exchange import DEPTH, Searched, exchange
from tfdnc.retrieval.bounds.members import ClusterBounds, find_members
from tfdnc.retrieval.bounds.parsed import NO_BOUND
from tfdnc.retrieval.bounds.pool import Found, Pool, Query, make_pool, search
from tfdnc.retrieval.bounds.proof import Choice, closed_texts, is_filled, missing_for_minima
from tfdnc.retrieval.bounds.selection import choose_minima, fill
from tfdnc.retrieval.bounds.slots import Wanted, lay_out_slots
from tfdnc.retrieval.index.searchable import Searchable
from tfdnc.retrieval.merge import Controls, Merged, count_clusters, reads_partition
from tfdnc.retrieval.rules.rules import Rules

_DEEPER = 8  # factor between the numbers of candidates of further searches


class _State(NamedTuple):
    """State of the loop."""

    depth: tf.Tensor  # int32 candidates of a further search in every cluster
    done: tf.Tensor  # [B] bool, True for rows whose list is proved
    wanted: Wanted
    merged: Merged


def list_bounded(
    index: Searchable, rules: Rules, config: MergeConfig, query: Query, width: int, *, per_cluster: bool
) -> Merged:
    """Returns the lists; a rank inside a cluster counts at most as the length of the list.

    Args:
        index: the index that is searched.
        rules: the attributes of the items.
        config: the configured merge.
        query: users, items and bounds.
        width: M of the answer, static.
        per_cluster: argument of `ClusterIndex.search`.
    """
    lengths = query.controls.num_candidates
    of_clusters = _cluster_bounds(query.controls, tf.zeros_like(query.log_intent, tf.int32))
    promised = query.bounds.promised() + tf.reduce_sum(of_clusters.least, axis=1)
    longest = tf.maximum(tf.reduce_max(lengths), 1)
    for_exchanges = tf.maximum(longest, DEPTH)
    reads = reads_partition(query.controls, config)
    first = search(index, query, query.passing, longest, 1, per_cluster=per_cluster, with_partition=reads)

    def pool(wanted: Wanted, depth: tf.Tensor) -> Pool:
        def with_more() -> Pool:
            slots = lay_out_slots(wanted, query.bounds.rows, query.bounds.texts, query.passing, rules)
            more = search(
                index, query, slots.passing, depth, slots.width, per_cluster=per_cluster, with_partition=False
            )
            return make_pool(query, config, first, slots, more)

        asked = tf.reduce_any(wanted.texts) | tf.reduce_any(wanted.clusters) | tf.reduce_any(wanted.open)
        return Pool(*tf.cond(asked, with_more, lambda: make_pool(query, config, first, None, None)))

    def step(state: _State) -> tuple[_State]:
        found, had = pool(state.wanted, state.depth), state.wanted
        membership = find_members(rules, query.bounds, of_clusters, found.rows, found.clusters)
        available, members = found.clusters >= 0, membership.members
        choice = Choice(found, membership, choose_minima(available, members, lengths, promised), lengths)
        missing = missing_for_minima(choice, query.bounds, of_clusters)
        deep = state.depth >= for_exchanges
        searched = Searched(had.texts & deep, (had.clusters & deep) | (longest >= DEPTH))
        exchanged = exchange(choice, query.bounds, of_clusters, searched, ~missing.rows & ~state.done)
        others = fill(available, members, lengths, exchanged.taken)
        settled = ~missing.rows & ~exchanged.waits & ~state.done
        filled = is_filled(choice, of_clusters, exchanged.taken, others)
        again = tf.reduce_any(missing.texts & had.texts) | tf.reduce_any(missing.clusters & had.clusters)
        again |= tf.reduce_any(settled & ~filled & had.open)
        depth = tf.where(again, tf.minimum(state.depth, NO_BOUND // _DEEPER) * _DEEPER, state.depth)
        depth = tf.where(tf.reduce_any(exchanged.waits), tf.maximum(depth, for_exchanges), depth)
        wanted = Wanted(
            missing.texts | exchanged.texts | had.texts,
            missing.clusters | exchanged.clusters | had.clusters,
            (settled & ~filled) | had.open,
            closed_texts(choice, exchanged.taken, others),
        )
        merged = (
            tf.where(tf.reshape(state.done, [-1] + [1] * (one.shape.rank - 1)), old, one)
            for old, one in zip(state.merged, _merge(found, exchanged.taken | others, width, first), strict=True)
        )
        return (_State(depth, state.done | (settled & filled), wanted, Merged(*merged)),)

    start, shapes = _start(query, longest, width, index.sizes.shape[0])
    (ended,) = tf.while_loop(lambda state: ~tf.reduce_all(state.done), step, (start,), shape_invariants=(shapes,))
    return ended.merged


def _start(query: Query, depth: tf.Tensor, width: int, clusters: int) -> tuple[_State, _State]:
    """Returns the state before the loop, without lists, and the shapes of all states."""
    lengths, rows = query.controls.num_candidates, tf.shape(query.seen)[0]
    none = tf.fill([rows, width], -1)
    nothing = Merged(
        none, tf.fill([rows, width], float("-inf")), none, tf.zeros_like(lengths), tf.zeros([rows, clusters], tf.int32)
    )
    no = tf.zeros_like(lengths, tf.bool)
    wanted = Wanted(
        tf.zeros_like(query.bounds.rows, tf.bool), tf.zeros([rows, clusters], tf.bool), no, tf.zeros([0, 2], tf.int32)
    )
    of_rows, lists, of_clusters = (tf.TensorShape([None, *size]) for size in ((), (width,), (clusters,)))
    shapes = _State(
        tf.TensorShape([]),
        of_rows,
        Wanted(of_rows, of_clusters, of_rows, tf.TensorShape([None, 2])),
        Merged(lists, lists, lists, of_rows, of_clusters),
    )
    return _State(depth, no, wanted, nothing), shapes


def _cluster_bounds(controls: Controls, none: tf.Tensor) -> ClusterBounds:
    """Returns the bounds of the clusters; `none` is `[B, K]` zeros."""
    least = none if controls.minimum is None else tf.maximum(controls.minimum, 0)
    most = none - 1 if controls.maximum is None else controls.maximum
    return ClusterBounds(least, tf.where(most < 0, NO_BOUND, most))


def _merge(pool: Pool, chosen: tf.Tensor, width: int, first: Found) -> Merged:
    """Returns the `[B, C]` chosen candidates as lists."""
    keys = tf.where(chosen, pool.keys, float("-inf"))
    missing = tf.maximum(width - tf.shape(keys)[1], 0)
    best = tf.math.top_k(tf.pad(keys, [[0, 0], [0, missing]], constant_values=float("-inf")), k=width)
    column = tf.minimum(best.indices, tf.shape(keys)[1] - 1)
    kept = best.values > float("-inf")
    clusters = tf.where(kept, tf.gather(pool.clusters, column, batch_dims=1), -1)
    rows = tf.where(kept, tf.gather(pool.rows, column, batch_dims=1), -1)
    num_results = tf.reduce_sum(tf.cast(kept, tf.int32), axis=1)
    return Merged(rows, best.values, clusters, num_results, count_clusters(clusters, first.complete.shape[1]))
