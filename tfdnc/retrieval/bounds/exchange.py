"""Exchanges of a batch: the rows that need them, the items that may take part, and the searches before them.

The items that may take part depend on their own row alone: those that were chosen; the best items of every cluster, as
many as the list is long, if they count for a minimum; and of a scarce minimum also the best items of every cluster that
count for it. So a list is the same in every batch, whatever else was searched.
"""

from typing import NamedTuple

from tfdnc.backend import tf
from tfdnc.retrieval.bounds.members import ClusterBounds
from tfdnc.retrieval.bounds.parsed import Bounds
from tfdnc.retrieval.bounds.pool import EVERYWHERE
from tfdnc.retrieval.bounds.proof import Choice
from tfdnc.retrieval.bounds.repair import ranks_in, repair

DEPTH = 64
"""Items of a scarce minimum in each cluster that may take part; as many as the list is long if that is more."""

_PLENTY = 2  # times its results, a minimum is scarce that has fewer items among the best of the clusters


class Searched(NamedTuple):
    """Minima, such as those whose best items of every cluster, as many as may take part, are all found."""

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
    short_texts, short_clusters = _short(choice, bounds, of_clusters)
    rows &= _any_text(short_texts, bounds, tf.size(rows)) | tf.reduce_any(short_clusters, axis=1)
    near_texts, near_clusters = _counts(choice, choice.pool.near, bounds)
    scarce = Searched(
        (bounds.least > 0) & (short_texts | (near_texts < _PLENTY * bounds.least)),
        (of_clusters.least > 0) & (short_clusters | (near_clusters < _PLENTY * of_clusters.least)),
    )
    texts = tf.gather(rows, bounds.rows) & scarce.texts & ~searched.texts & (choice.pool.of_texts < EVERYWHERE)
    clusters = rows[:, None] & scarce.clusters & ~searched.clusters & (choice.pool.of_clusters < EVERYWHERE)
    waits = _any_text(texts, bounds, tf.size(rows)) | tf.reduce_any(clusters, axis=1)
    ready = rows & ~waits
    taken = tf.cond(
        tf.reduce_any(ready),
        lambda: repair(choice.first, _eligible(choice, scarce, ready), choice.membership.members, choice.lengths),
        lambda: choice.first,
    )
    return Exchanged(taken, texts, clusters, waits)


def _short(choice: Choice, bounds: Bounds, of_clusters: ClusterBounds) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the short minima of which an item is not chosen: `[G]` bool of texts, `[B, K]` bool of clusters."""
    everything = choice.pool.clusters >= 0
    both = zip(_counts(choice, choice.first, bounds), _counts(choice, everything, bounds), strict=True)
    covers, least = (choice.pool.of_texts, choice.pool.of_clusters), (bounds.least, of_clusters.least)
    short = (
        (reached < wanted) & ((reached < found) | (cover < EVERYWHERE))
        for (reached, found), cover, wanted in zip(both, covers, least, strict=True)
    )
    of_texts, in_clusters = short
    return of_texts, in_clusters


def _counts(choice: Choice, flags: tf.Tensor, bounds: Bounds) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the flagged `[B, C]` items of every text `[G]` and of every cluster `[B, K]`, int32."""
    own = tf.cast(choice.of_members(flags), tf.int32)
    of_texts = tf.math.unsorted_segment_sum(own, choice.membership.bounds, tf.size(bounds.rows))
    return of_texts, choice.in_clusters(flags)


def _any_text(texts: tf.Tensor, bounds: Bounds, rows: tf.Tensor) -> tf.Tensor:
    """Returns `[B]` bool, True for rows with one of the `[G]` flagged texts."""
    return tf.math.unsorted_segment_max(tf.cast(texts, tf.int32), bounds.rows, rows) > 0


def _eligible(choice: Choice, scarce: Searched, rows: tf.Tensor) -> tf.Tensor:
    """Returns `[B, C]` bool, True for the items of some rows that may take part."""
    own, clusters = choice.membership, choice.pool.clusters
    members, num_clusters = own.members, choice.pool.of_clusters.shape[1]
    of_members = tf.gather(tf.reshape(clusters, [-1]), members.candidates)
    ranks = ranks_in(members.groups * num_clusters + of_members)  # in its cluster, among the items of the bound
    # A bound of -1 is that of a cluster, or one without a minimum.
    place = tf.where(own.bounds < 0, tf.size(scarce.texts), own.bounds)
    of_text = tf.gather(tf.concat([scarce.texts, [False]], axis=0), place)
    of_cluster = (own.texts < 0) & tf.gather_nd(scarce.clusters, tf.stack([own.rows, of_members], axis=1))
    best = (ranks < tf.gather(tf.maximum(choice.lengths, DEPTH), own.rows)) & (of_text | of_cluster)
    kept = (members.least > 0) & (choice.of_members(choice.pool.near) | best)
    flags = tf.math.unsorted_segment_max(tf.cast(kept, tf.int32), members.candidates, tf.size(clusters))
    return (choice.first | (tf.reshape(flags, tf.shape(clusters)) > 0)) & rows[:, None]
