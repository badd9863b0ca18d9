"""Proof that a choice among the found items is that among all items, or the searches that are missing for it.

An item that was not found comes after a known place in the order of the keys (`Pool`). It changes nothing if the
minimum that it counts for was reached before that place, if a maximum that it counts for was, or if the list was full.
Exchanges (`exchange`) say themselves which items they need.
"""

from typing import NamedTuple

from tfdnc.backend import tf
from tfdnc.retrieval.bounds.members import ClusterBounds, Membership
from tfdnc.retrieval.bounds.parsed import Bounds
from tfdnc.retrieval.bounds.pool import EVERYWHERE, Pool
from tfdnc.retrieval.bounds.selection import Minima, count, in_groups
from tfdnc.retrieval.merge import count_clusters


class Choice:
    """A choice for the minima among found items.

    Args:
        pool: the found items.
        membership: their memberships.
        minima: the choice.
        lengths: `[B]` int32 lengths of the lists.
    """

    def __init__(self, pool: Pool, membership: Membership, minima: Minima, lengths: tf.Tensor) -> None:
        self.pool, self.membership, self.lengths = pool, membership, lengths
        self.several, self.first, self.lacking = minima.several, minima.both, minima.lacking
        self.places = tf.range(tf.shape(pool.rows)[1])

    def of_members(self, chosen: tf.Tensor) -> tf.Tensor:
        """Returns `[P]` bool of `[B, C]` chosen candidates."""
        return tf.gather(tf.reshape(chosen, [-1]), self.membership.members.candidates)

    def in_clusters(self, chosen: tf.Tensor) -> tf.Tensor:
        """Returns `[B, K]` int32, the chosen candidates of every cluster."""
        return count_clusters(tf.where(chosen, self.pool.clusters, -1), self.pool.of_clusters.shape[1])

    def up_to(self, cover: tf.Tensor) -> tf.Tensor:
        """Returns `[B, C]` bool, True up to the place `[B, K]` of the candidate's cluster."""
        return self.places <= tf.gather(cover, tf.maximum(self.pool.clusters, 0), batch_dims=1)

    def last(self, chosen: tf.Tensor) -> tf.Tensor:
        """Returns `[B]` int32, the place of the last of the chosen candidates, -1 for none."""
        return tf.reduce_max(tf.where(chosen, self.places, -1), axis=1)


class Missing(NamedTuple):
    """Searches that are missing for the minima."""

    texts: tf.Tensor  # [G] bool
    clusters: tf.Tensor  # [B, K] bool
    rows: tf.Tensor  # [B] bool, True for rows with such a search


def missing_for_minima(choice: Choice, bounds: Bounds, of_clusters: ClusterBounds) -> Missing:
    """Returns the searches that are missing before the choice for the minima is that among all items."""
    texts = _texts(choice, bounds) | _several(choice, bounds)
    clusters = _clusters(choice, of_clusters)
    rows = tf.math.unsorted_segment_max(tf.cast(texts, tf.int32), bounds.rows, tf.size(choice.lengths)) > 0
    return Missing(texts, clusters, rows | tf.reduce_any(clusters, axis=1))


def _texts(choice: Choice, bounds: Bounds) -> tf.Tensor:
    """Returns `[G]` bool, True for a minimum that an item which was not found may count for in phase 1."""
    own, cover = choice.membership, choice.pool.of_texts
    places = own.members.candidates % tf.shape(choice.places)[0]
    # A bound of -1 is none; its members are counted nowhere.
    before = places <= tf.gather(tf.concat([cover, [0]], axis=0), tf.where(own.bounds < 0, tf.size(cover), own.bounds))
    counted = choice.of_members(choice.first) & (choice.of_members(choice.several) | before)
    reached = tf.math.unsorted_segment_sum(tf.cast(counted, tf.int32), own.bounds, tf.size(cover))
    full = tf.where(count(choice.first) == choice.lengths, choice.last(choice.first), EVERYWHERE)
    return (reached < bounds.least) & (cover < EVERYWHERE) & (cover < tf.gather(full, bounds.rows))


def _several(choice: Choice, bounds: Bounds) -> tf.Tensor:
    """Returns `[G]` bool, True for a minimum that an item which was not found may count for in phase 0."""
    cover = tf.where(bounds.least > 0, choice.pool.of_texts, EVERYWHERE)
    of_rows = tf.math.unsorted_segment_min(cover, bounds.rows, tf.shape(choice.lengths)[0])
    ends = (choice.lacking <= 0) | (count(choice.several) == choice.lengths)
    unsure = tf.where(ends, choice.last(choice.several) > of_rows, True)
    return tf.gather(unsure, bounds.rows) & (cover < EVERYWHERE)


def _clusters(choice: Choice, of_clusters: ClusterBounds) -> tf.Tensor:
    """Returns `[B, K]` bool, True for a minimum that an item which was not found may count for in phase 1."""
    cover = choice.pool.of_clusters
    reached = choice.in_clusters(choice.first & (choice.several | choice.up_to(cover)))
    full = tf.where(count(choice.first) == choice.lengths, choice.last(choice.first), EVERYWHERE)
    return (reached < of_clusters.least) & (cover < EVERYWHERE) & (cover < full[:, None])


def is_filled(choice: Choice, of_clusters: ClusterBounds, taken: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Returns `[B]` bool, True if no item that was not found could be chosen beside those that were taken.

    Args:
        choice: the found items.
        of_clusters: bounds on clusters.
        taken: `[B, C]` bool, the items for the minima.
        others: `[B, C]` bool, all other chosen items.
    """
    cover = choice.pool.of_open
    reached = choice.in_clusters(taken | (others & choice.up_to(cover)))
    cover = tf.reduce_min(tf.where(reached >= of_clusters.most, EVERYWHERE, cover), axis=1)
    full = count(taken | others) == choice.lengths
    return (cover == EVERYWHERE) | (full & (choice.last(others) <= cover))


def closed_texts(choice: Choice, taken: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Returns `[X, 2]` int32 row and text: texts whose maximum is reached before any item that may be missing."""
    own = choice.membership
    chosen = taken | (others & (choice.places <= choice.pool.of_all[:, None]))
    groups = own.members.groups
    size = tf.reduce_max(tf.concat([groups, [-1]], axis=0)) + 1
    full = tf.gather(in_groups(choice.of_members(chosen), own.members, size), groups) >= own.members.most
    begins = tf.concat([[True], groups[1:] != groups[:-1]], axis=0)[: tf.shape(groups)[0]]
    at = tf.where(full & begins & (own.texts >= 0))
    return tf.stack([tf.gather_nd(own.rows, at), tf.gather_nd(own.texts, at)], axis=1)
