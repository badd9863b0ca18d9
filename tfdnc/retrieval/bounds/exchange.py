"""Exchanges of a batch: the rows that need them, the items that may take part, and the searches before them.

The items that may take part depend on their own row alone: those that were chosen, and of each minimum the best items
of every cluster. So a list is the same in every batch, whatever else was searched.
"""

from typing import NamedTuple

from tfdnc.backend import tf
from tfdnc.retrieval.bounds.members import ClusterBounds
from tfdnc.retrieval.bounds.parsed import Bounds
from tfdnc.retrieval.bounds.pool import EVERYWHERE
from tfdnc.retrieval.bounds.proof import Choice
from tfdnc.retrieval.bounds.repair import ranks_in, repair
from tfdnc.retrieval.merge import count_clusters

DEPTH = 64
"""Items of a minimum in each cluster that may take part; as many as the list is long if that is more."""


class Searched(NamedTuple):
    """The minima whose best items of every cluster, as many as may take part, are all found."""

    texts: tf.Tensor  # [G] bool
    clusters: tf.Tensor  # [B, K] bool


class Exchanged(NamedTuple):
    """The choice for the minima after exchanges, and the searches that are missing for them."""

    taken: tf.Tensor  # [B, C] bool
    texts: tf.Tensor  # [G] bool
    clusters: tf.Tensor  # [B, K] bool
    waits: tf.Tensor  # [B] bool, True for rows with such a search


def exchange(
    choice: Choice, bounds: Bounds, of_clusters: ClusterBounds, searched: Searched, rows: tf.Tensor
) -> Exchanged:
    """Exchanges items in the rows that leave a minimum short, where all items that may take part are found.

    Args:
        choice: the choice among the found items.
        bounds: bounds on texts.
        of_clusters: bounds on clusters.
        searched: what was searched.
        rows: `[B]` bool, True for rows whose choice for the minima is proved.
    """
    rows &= _short(choice, bounds, of_clusters)
    texts = tf.gather(rows, bounds.rows) & (bounds.least > 0) & ~searched.texts
    texts &= choice.pool.of_texts < EVERYWHERE
    clusters = rows[:, None] & (of_clusters.least > 0) & ~searched.clusters
    clusters &= choice.pool.of_clusters < EVERYWHERE
    waits = tf.math.unsorted_segment_max(tf.cast(texts, tf.int32), bounds.rows, tf.size(rows)) > 0
    waits |= tf.reduce_any(clusters, axis=1)
    ready = rows & ~waits
    taken = tf.cond(
        tf.reduce_any(ready),
        lambda: repair(choice.first, _eligible(choice, ready), choice.membership.members, choice.lengths),
        lambda: choice.first,
    )
    return Exchanged(taken, texts, clusters, waits)


def _short(choice: Choice, bounds: Bounds, of_clusters: ClusterBounds) -> tf.Tensor:
    """Returns `[B]` bool, True for rows with a short minimum of which an item is not chosen."""
    own, size = choice.membership, tf.size(bounds.rows)
    reached, found = (
        tf.math.unsorted_segment_sum(tf.cast(flags, tf.int32), own.bounds, size)
        for flags in (choice.of_members(choice.first), own.bounds >= 0)
    )
    short = (reached < bounds.least) & ((reached < found) | (choice.pool.of_texts < EVERYWHERE))
    of_texts = tf.math.unsorted_segment_max(tf.cast(short, tf.int32), bounds.rows, tf.size(choice.lengths)) > 0
    reached = choice.in_clusters(choice.first)
    found = count_clusters(choice.pool.clusters, choice.pool.of_clusters.shape[1])
    short = (reached < of_clusters.least) & ((reached < found) | (choice.pool.of_clusters < EVERYWHERE))
    return of_texts | tf.reduce_any(short, axis=1)


def _eligible(choice: Choice, rows: tf.Tensor) -> tf.Tensor:
    """Returns `[B, C]` bool, True for the items of some rows that may take part."""
    members, clusters = choice.membership.members, choice.pool.clusters
    num_clusters = choice.pool.of_clusters.shape[1]
    # A membership of a minimum is kept if its item is one of the best of its cluster.
    kinds = members.groups * num_clusters + tf.gather(tf.reshape(clusters, [-1]), members.candidates)
    ranks = ranks_in(kinds)
    depths = tf.gather(tf.maximum(choice.lengths, DEPTH), choice.membership.rows)
    kept = (members.least > 0) & (ranks < depths)
    best = tf.math.unsorted_segment_max(tf.cast(kept, tf.int32), members.candidates, tf.size(clusters))
    return (choice.first | (tf.reshape(best, tf.shape(clusters)) > 0)) & rows[:, None]
