"""Candidates of several searches in the order of their keys, and the places up to which that order is complete."""

from typing import NamedTuple

from tfdnc.backend import tf
from tfdnc.contracts.config import MergeConfig
from tfdnc.retrieval.bounds.parsed import Bounds
from tfdnc.retrieval.bounds.slots import Slots
from tfdnc.retrieval.index.searchable import Searchable
from tfdnc.retrieval.index.seen import count_unseen
from tfdnc.retrieval.merge import Candidates, Controls, select_keys
from tfdnc.retrieval.rules.passing import Passing

EVERYWHERE = 2**31 - 1
"""Place behind every candidate: no item was left out."""


class Query(NamedTuple):
    """Everything that the lists of B rows depend on."""

    vectors: tf.Tensor  # [B, V, D], see `ClusterIndex.search`
    seen: tf.Tensor  # [B, S] int32, likewise; distinct but for 0
    passing: Passing  # of the B rows
    log_intent: tf.Tensor  # [B, K]
    controls: Controls
    bounds: Bounds


class Found(NamedTuple):
    """Answer of a search."""

    candidates: Candidates
    log_partition: tf.Tensor  # [B, K]
    complete: tf.Tensor  # [B, K] bool, True if all items of the cluster are among the candidates


class Pool(NamedTuple):
    """C candidates of every row, best key first, and places up to which no item is missing, EVERYWHERE if none is.

    Items of equal keys are in the order of their clusters, and in a cluster of their scores.
    """

    rows: tf.Tensor  # [B, C] int32 item rows
    keys: tf.Tensor  # [B, C] float32, -inf where no item is
    clusters: tf.Tensor  # [B, C] int32, -1 where no item is
    near: tf.Tensor  # [B, C] bool, True for the best items of each cluster, as many as the list is long
    of_texts: tf.Tensor  # [G] int32: of items with the text of a bound
    of_clusters: tf.Tensor  # [B, K] int32: of items of a cluster
    of_open: tf.Tensor  # [B, K] int32: of items of a cluster without a text that is closed
    of_all: tf.Tensor  # [B] int32: of any items, by the first search alone


class _Columns(NamedTuple):
    """Candidates side by side, before they are in order."""

    scores: tf.Tensor  # [B, C]
    rows: tf.Tensor  # [B, C]
    clusters: tf.Tensor  # [C]
    ranks: tf.Tensor  # [B, C]
    ends: tf.Tensor  # [C] number of the search * K + cluster for the last column of a cluster in a search, else -1


def search(
    index: Searchable,
    query: Query,
    passing: Passing,
    k: tf.Tensor,
    copies: tf.Tensor | int,
    *,
    per_cluster: bool,
    with_partition: tf.Tensor | bool,
) -> Found:
    """Returns the best k items of every cluster that pass, for `copies` searches of each row of the query."""
    vectors, seen = (tf.repeat(part, copies, axis=0) for part in (query.vectors, query.seen))
    vectors = tf.ensure_shape(vectors, [None, *query.vectors.shape[1:]])
    available = count_unseen(seen, index.offsets, passing)
    widths = tf.maximum(tf.minimum(k, tf.reduce_max(available, axis=0)), 1)  # an approximate search needs at least one
    found, log_partition = index.search(
        vectors, seen, widths, per_cluster=per_cluster, with_partition=with_partition, passing=passing
    )
    return Found(found, log_partition, widths >= available)


def make_pool(query: Query, config: MergeConfig, first: Found, slots: Slots | None, more: Found | None) -> Pool:
    """Returns the candidates of the first search, and of further ones if there are any.

    A rank inside a cluster counts at most as the length of the list: a search for other items does not know it.
    """
    lengths = query.controls.num_candidates[:, None]
    num_clusters, batch = first.complete.shape[1], tf.shape(lengths)[0]
    candidates = first.candidates
    columns = _Columns(
        candidates.scores,
        candidates.rows,
        candidates.clusters,
        tf.minimum(candidates.ranks, lengths),
        _ends(candidates.clusters),
    )
    if slots is not None and more is not None:
        columns = _beside(columns, more.candidates, slots.width, lengths, num_clusters)
    controls = query.controls._replace(minimum=None, maximum=None)
    keys = select_keys(Candidates(*columns[:4]), first.log_partition, query.log_intent, controls, config)
    parts = [columns.rows, keys, *(tf.repeat(one[None], batch, axis=0) for one in (columns.clusters, columns.ends))]
    parts.append(tf.broadcast_to(columns.ranks, tf.shape(columns.rows)))
    if more is not None:
        parts = _in_clusters(parts, columns.scores)
    order = tf.argsort(parts[1], axis=1, direction="DESCENDING", stable=True)
    rows, keys, clusters, ends, ranks = (tf.gather(part, order, batch_dims=1) for part in parts)
    there = keys > float("-inf")
    searches = 1 if slots is None else slots.width + 1
    last = _last_places(tf.where(there, ends, -1), searches, num_clusters)  # [B, searches, K]
    covers = _covers(query, last, first.complete, slots, more)
    return Pool(rows, keys, tf.where(there, clusters, -1), there & (ranks < lengths), *covers)


def _ends(clusters: tf.Tensor) -> tf.Tensor:
    """Returns the cluster for the last column of each of `[C]` clusters, else -1."""
    return tf.where(tf.concat([clusters[1:] != clusters[:-1], [True]], axis=0), clusters, -1)


def _beside(first: _Columns, more: Candidates, width: tf.Tensor, lengths: tf.Tensor, num_clusters: int) -> _Columns:
    """Returns the columns of the first search, then those of `width` searches of each row."""
    batch, size = tf.shape(lengths)[0], tf.shape(more.clusters)[0]
    own = _ends(more.clusters)
    of_searches = num_clusters * tf.range(1, width + 1)[:, None]
    ends = tf.reshape(tf.where(own >= 0, own + of_searches, -1), [-1])
    scores, rows = (tf.reshape(part, [batch, width * size]) for part in (more.scores, more.rows))
    ranks = tf.broadcast_to(lengths, tf.shape(rows))
    added = (scores, rows, tf.tile(more.clusters, [width]), ranks, ends)
    return _Columns(*(tf.concat(both, axis=-1) for both in zip(first, added, strict=True)))


def _in_clusters(parts: list[tf.Tensor], scores: tf.Tensor) -> list[tf.Tensor]:
    """Removes repetitions of items, of which the first search knows the rank, and sorts by cluster, then by score."""
    rows, keys, clusters, ends, ranks = parts
    columns = tf.range(tf.shape(rows)[1])
    items = tf.where(keys > float("-inf"), rows, -1 - columns)
    order = tf.argsort(items, axis=1, stable=True)
    items, rows, keys, clusters, ends, ranks, scores = (
        tf.gather(one, order, batch_dims=1) for one in (items, rows, keys, clusters, ends, ranks, scores)
    )
    repeated = tf.pad(items[:, 1:] == items[:, :-1], [[0, 0], [1, 0]])
    parts = [rows, tf.where(repeated, float("-inf"), keys), clusters, ends, ranks]
    order = tf.argsort(scores, axis=1, direction="DESCENDING", stable=True)
    by_cluster = tf.argsort(tf.gather(clusters, order, batch_dims=1), axis=1, stable=True)
    order = tf.gather(order, by_cluster, batch_dims=1)
    return [tf.gather(part, order, batch_dims=1) for part in parts]


def _last_places(ends: tf.Tensor, searches: tf.Tensor | int, num_clusters: int) -> tf.Tensor:
    """Returns `[B, searches, K]` places of the last candidates of every cluster, -1 where a repetition was removed."""
    batch, size = tf.shape(ends)[0], searches * num_clusters
    bins = tf.where(ends >= 0, ends + size * tf.range(batch)[:, None], -1)
    places = tf.broadcast_to(tf.range(tf.shape(ends)[1]), tf.shape(ends))
    last = tf.math.unsorted_segment_max(tf.reshape(places, [-1]), tf.reshape(bins, [-1]), batch * size)
    return tf.maximum(tf.reshape(last, [batch, searches, num_clusters]), -1)


def _covers(
    query: Query, last: tf.Tensor, complete: tf.Tensor, slots: Slots | None, more: Found | None
) -> tuple[tf.Tensor, ...]:
    """Returns the places of `Pool`: an item that no search found is behind the last found one of its cluster."""
    first = tf.where(complete, EVERYWHERE, last[:, 0])  # [B, K]
    of_all = tf.reduce_min(first, axis=1)
    of_texts = tf.gather(of_all, query.bounds.rows)
    if slots is None or more is None:
        return of_texts, first, first, of_all
    all_found = tf.reshape(more.complete, [-1, slots.width, complete.shape[1]])
    each = tf.where(all_found, EVERYWHERE, last[:, 1:])
    each = tf.maximum(each, first[:, None])  # [B, L, K]
    least = tf.reduce_min(each, axis=2)  # [B, L]
    own = tf.gather_nd(least, tf.stack([query.bounds.rows, tf.maximum(slots.of_texts, 0)], axis=1))
    of_texts = tf.where(slots.of_texts < 0, of_texts, own)
    own = tf.gather(least, tf.maximum(slots.of_clusters, 0), batch_dims=1)
    of_clusters = tf.where(slots.of_clusters < 0, first, own)
    own = tf.gather(each, tf.maximum(slots.of_open, 0), batch_dims=1)
    return of_texts, of_clusters, tf.where(slots.of_open[:, None] < 0, first, own), of_all
