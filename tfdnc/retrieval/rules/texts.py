"""Texts of given items: the reverse of the planes and lists, which have the items of a text."""

from typing import NamedTuple

from tfdnc.backend import tf
from tfdnc.retrieval.rules.layout import WORD, Layout
from tfdnc.retrieval.rules.passing import has_bit


class Pairs(NamedTuple):
    """P pairs of an item and one of its texts, in any order."""

    items: tf.Tensor  # [P] int32 place in the given items
    texts: tf.Tensor  # [P] int32 number of the text


def texts_in_planes(planes: tf.Tensor, texts: tf.Tensor, positions: tf.Tensor, valid: tf.Tensor) -> Pairs:
    """Returns the pairs of items at `[n]` positions, where `[n]` valid, and of F `texts`, whose planes are `[F, W]`."""
    words = tf.gather(planes, positions // WORD, axis=1)  # [F, n]
    found = has_bit(words, tf.broadcast_to(positions, tf.shape(words))) & valid
    at = tf.cast(tf.where(found), tf.int32)
    return Pairs(at[:, 1], tf.gather(texts, at[:, 0]))


def texts_in_lists(
    listed: tf.Tensor, ends: tf.Tensor, texts: tf.Tensor, positions: tf.Tensor, valid: tf.Tensor, layout: Layout
) -> Pairs:
    """Returns the pairs of items at `[n]` positions, where `[n]` valid, and of `texts` with lists.

    Args:
        listed: `[T]` int32 positions, the lists of all texts one after the other.
        ends: `[Q + 1]` int32; the list of text q is listed[ends[q] : ends[q + 1]].
        texts: `[F]` int32.
        positions: `[n]` int32.
        valid: `[n]` bool.
        layout: layout of the bits.
    """
    entries, of_text = _expand(tf.gather(ends, texts), tf.gather(ends, texts + 1))
    at = tf.gather(listed, entries)
    # Most entries are of items that are not asked about: a flag per item finds them in one pass.
    asked = tf.where(valid)
    flags = tf.scatter_nd(tf.gather(positions, asked), tf.ones_like(asked[:, 0], tf.int32), [layout.num_words * WORD])
    kept = tf.where(tf.gather(flags, at) > 0)[:, 0]
    at, of_text = tf.gather(at, kept), tf.gather(of_text, kept)
    order = tf.argsort(at)
    at, of_text = tf.gather(at, order), tf.gather(of_text, order)
    first, end = (tf.searchsorted(at, positions, side=side) for side in ("left", "right"))
    entries, items = _expand(first, tf.where(valid, end, first))
    return Pairs(items, tf.gather(texts, tf.gather(of_text, entries)))


def _expand(first: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns every number from `[n]` first up to `[n]` end, and its place in n."""
    counts = end - first
    owner = tf.repeat(tf.range(tf.shape(first)[0]), counts)
    place = tf.range(tf.shape(owner)[0]) - tf.gather(tf.cumsum(counts, exclusive=True), owner)
    return tf.gather(first, owner) + place, owner
