"""Further searches of a row: for the items of one text or cluster, or for all that no reached maximum forbids."""

from typing import NamedTuple

from tfdnc.backend import tf
from tfdnc.retrieval.rules.passing import Passing
from tfdnc.retrieval.rules.rules import Rules


class Wanted(NamedTuple):
    """Further searches that the rows need."""

    texts: tf.Tensor  # [G] bool, for the items of a bound on a text
    clusters: tf.Tensor  # [B, K] bool, for those of a cluster
    open: tf.Tensor  # [B] bool, for those without a closed text
    closed: tf.Tensor  # [X, 2] int32 row and text, sorted by row: texts whose maximum is reached


class Slots(NamedTuple):
    """The same as L searches of every row; a row with fewer has empty ones."""

    passing: Passing  # of [B * L] rows
    of_texts: tf.Tensor  # [G] int32 place of the search among those of its row, -1 for none
    of_clusters: tf.Tensor  # [B, K] int32, likewise
    of_open: tf.Tensor  # [B] int32, likewise
    width: tf.Tensor  # L


def lay_out_slots(wanted: Wanted, rows: tf.Tensor, texts: tf.Tensor, passing: Passing, rules: Rules) -> Slots:
    """Returns the searches.

    Args:
        wanted: searches.
        rows: `[G]` int32, ascending: rows of the bounds on texts.
        texts: `[G]` int32, the texts.
        passing: the items that pass the rules of the B rows.
        rules: the attributes of the items.
    """
    batch = tf.shape(wanted.open)[0]
    own, of_clusters = tf.cast(wanted.texts, tf.int32), tf.cast(wanted.clusters, tf.int32)
    num_texts = tf.math.unsorted_segment_sum(own, rows, batch)
    before = tf.gather(tf.cumsum(num_texts, exclusive=True), rows)
    text_places = tf.where(wanted.texts, tf.cumsum(own, exclusive=True) - before, -1)
    cluster_places = num_texts[:, None] + tf.cumsum(of_clusters, axis=1, exclusive=True)
    cluster_places = tf.where(wanted.clusters, cluster_places, -1)
    used = num_texts + tf.reduce_sum(of_clusters, axis=1)
    open_places = tf.where(wanted.open, used, -1)
    width = tf.reduce_max(used + tf.cast(wanted.open, tf.int32))

    none = tf.fill([batch, width], -1)
    asked = tf.where(wanted.texts)
    at = tf.stack([tf.gather_nd(rows, asked), tf.gather_nd(text_places, asked)], axis=1)
    slot_texts = tf.tensor_scatter_nd_update(none, at, tf.gather_nd(texts, asked))
    asked = tf.where(wanted.clusters)
    at = tf.stack([tf.cast(asked[:, 0], tf.int32), tf.gather_nd(cluster_places, asked)], axis=1)
    slot_clusters = tf.tensor_scatter_nd_update(none, at, tf.cast(asked[:, 1], tf.int32))
    words = rules.having(tf.reshape(slot_texts, [-1]), tf.reshape(slot_clusters, [-1]))
    is_open = tf.reshape(tf.range(width) == open_places[:, None], [-1, 1])
    words = tf.cond(
        tf.reduce_any(wanted.open),
        lambda: tf.where(is_open, tf.repeat(_without(wanted.closed, batch, rules), width, axis=0), words),
        lambda: words,
    )
    words = tf.bitwise.bitwise_and(words, tf.gather(passing.words, tf.repeat(passing.rule, width)))
    return Slots(
        Passing(words, tf.range(batch * width), passing.layout), text_places, cluster_places, open_places, width
    )


def _without(closed: tf.Tensor, batch: tf.Tensor, rules: Rules) -> tf.Tensor:
    """Returns `[B, W]` words of the items without a closed text of the row; bits beside the items may be set."""
    rows, texts = closed[:, 0], closed[:, 1]
    counts = tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, batch)
    place = tf.range(tf.shape(rows)[0]) - tf.gather(tf.cumsum(counts, exclusive=True), rows)
    table = tf.fill([batch, tf.maximum(tf.reduce_max(counts), 0)], -1)
    table = tf.tensor_scatter_nd_update(table, tf.stack([rows, place], axis=1), texts)
    none = tf.fill([batch], -1)

    def step(column: tf.Tensor, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return column + 1, tf.bitwise.bitwise_or(words, rules.having(table[:, column], none))

    start = tf.constant(0), rules.having(none, none)
    _, words = tf.while_loop(lambda column, _: column < tf.shape(table)[1], step, start)
    return tf.bitwise.invert(words)
