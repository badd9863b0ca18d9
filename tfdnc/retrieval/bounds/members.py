"""Memberships of candidates in the groups that a request bounds: texts of attributes, and clusters."""

from typing import NamedTuple

from tfdnc.backend import tf
from tfdnc.retrieval.bounds.parsed import NO_BOUND, Bounds
from tfdnc.retrieval.bounds.selection import Members
from tfdnc.retrieval.rules.rules import Rules


class ClusterBounds(NamedTuple):
    """Bounds on the clusters of B rows."""

    least: tf.Tensor  # [B, K] int32, 0 for no bound
    most: tf.Tensor  # [B, K] int32, NO_BOUND for no bound


class Membership(NamedTuple):
    """Memberships, and the bounds that they are of."""

    members: Members
    rows: tf.Tensor  # [P] int32 row of the batch
    bounds: tf.Tensor  # [P] int32 place in `Bounds`, -1 for a cluster, or a text that only `Bounds.each` is of
    texts: tf.Tensor  # [P] int32 number of the text, -1 for a cluster


def find_members(
    rules: Rules, bounds: Bounds, of_clusters: ClusterBounds, rows: tf.Tensor, clusters: tf.Tensor
) -> Membership:
    """Returns the memberships of candidates.

    Args:
        rules: the attributes of the items.
        bounds: bounds on texts.
        of_clusters: bounds on clusters.
        rows: `[B, C]` int32 item rows in the order of the keys.
        clusters: `[B, C]` int32 clusters of the rows, -1 for a column without an item.
    """
    size = tf.cast(tf.size(rows), tf.int64)
    texts = _of_texts(rules, bounds, rows, clusters)
    in_clusters = _of_clusters(of_clusters, clusters, size * rules.num_texts)
    parts = [tf.concat(both, axis=0) for both in zip(texts, in_clusters, strict=True)]
    order = tf.argsort(parts[1] * size + tf.cast(parts[0], tf.int64))
    items, numbers, least, most, place, text = (tf.gather(one, order) for one in parts)
    begins = tf.cast(numbers[1:] != numbers[:-1], tf.int32)
    groups = tf.cumsum(tf.concat([tf.zeros_like(numbers[:1], tf.int32), begins], axis=0))
    return Membership(Members(items, groups, least, most), items // tf.shape(rows)[1], place, text)


def _of_texts(rules: Rules, bounds: Bounds, rows: tf.Tensor, clusters: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns candidate, number of the group, minimum, maximum, place of the bound and text of every membership."""
    flat_rows, flat_clusters = tf.reshape(rows, [-1]), tf.reshape(clusters, [-1])
    found = rules.texts_of(flat_rows, flat_clusters, flat_clusters >= 0, _wanted(rules, bounds))
    owner = found.items // tf.shape(rows)[1]
    texts = tf.constant(rules.num_texts, tf.int64)
    numbers = tf.cast(owner, tf.int64) * texts + tf.cast(found.texts, tf.int64)
    known = tf.cast(bounds.rows, tf.int64) * texts + tf.cast(bounds.texts, tf.int64)
    place = tf.searchsorted(known, numbers)
    own = tf.gather(tf.concat([known, [-1]], axis=0), place) == numbers
    of_each = tf.gather_nd(bounds.each, tf.stack([owner, rules.columns_of(found.texts)], axis=1))
    most = tf.where(own, _at(bounds.most, place), of_each)
    least = tf.where(own, _at(bounds.least, place), 0)
    parts = (found.items, numbers, least, most, tf.where(own, place, -1), found.texts)
    kept = tf.where((least > 0) | (most < NO_BOUND))[:, 0]
    return tuple(tf.gather(part, kept) for part in parts)


def _of_clusters(of_clusters: ClusterBounds, clusters: tf.Tensor, first: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns the same for clusters, whose groups have numbers from `first` up."""
    bounded = (of_clusters.least > 0) | (of_clusters.most < NO_BOUND)  # [B, K]
    at = tf.where((clusters >= 0) & tf.gather(bounded, tf.maximum(clusters, 0), batch_dims=1))
    row, cluster = tf.cast(at[:, 0], tf.int32), tf.gather_nd(clusters, at)
    pairs = tf.stack([row, cluster], axis=1)
    number = first + tf.cast(row * tf.shape(bounded)[1] + cluster, tf.int64)
    none = tf.fill(tf.shape(row), -1)
    item = row * tf.shape(clusters)[1] + tf.cast(at[:, 1], tf.int32)
    return (item, number, tf.gather_nd(of_clusters.least, pairs), tf.gather_nd(of_clusters.most, pairs), none, none)


def _wanted(rules: Rules, bounds: Bounds) -> tf.Tensor:
    """Returns `[Q]` bool, True for texts with a bound in some row."""
    columns = tf.reduce_any(bounds.each < NO_BOUND, axis=0)  # [T]
    of_columns = tf.gather(columns, rules.columns_of(tf.range(rules.num_texts)))
    own = tf.scatter_nd(bounds.texts[:, None], tf.ones_like(bounds.texts), [rules.num_texts])
    return tf.ensure_shape((own > 0) | of_columns, [rules.num_texts])


def _at(values: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Returns values at places, of which one is behind the last value."""
    return tf.gather(tf.concat([values, [0]], axis=0), place)
