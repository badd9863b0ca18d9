"""The rules of a bundle: conditions and allowed items of a batch in, the items that pass out."""

from pathlib import Path

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.rules.layout import Layout
from tfdnc.retrieval.rules.parsed import ConditionTable
from tfdnc.retrieval.rules.passing import Passing, scatter_bits
from tfdnc.retrieval.rules.planes import NumberColumn, Planes
from tfdnc.retrieval.rules.texts import Pairs, texts_in_lists, texts_in_planes

_ALL = -1  # a word with every bit


class Rules(tf.Module):
    """Attributes of the items of a bundle, and the evaluation of conditions on them.

    All work is on words of 64 items, so that it takes microseconds per condition and a million items.

    Args:
        planes: attributes of the items.
        cluster_names: names of the K clusters.
        folder: for an asset file, which has to exist until saving the bundle copies it.
    """

    def __init__(self, planes: Planes, cluster_names: list[str], folder: Path) -> None:
        super().__init__()
        self.table = ConditionTable(planes, cluster_names, folder)
        self._layout: Layout = planes.layout
        self._plane_variable = tf.Variable(planes.planes, trainable=False, name="attribute_planes")
        self._lists = _Lists(planes, len(self.table.conditions))
        self._columns = self.table.columns
        self._numbers = _Numbers(planes.numbers)
        self._first_cluster = len(planes.conditions)
        self._text_of_clusters = self._first_cluster + self.table.cluster_groups  # [K]
        self.num_texts = self._first_cluster

    @property
    def _planes(self) -> tf.Tensor:
        """`[P, W]` words. A tensor, because a gather on the variable would make every later read of it a copy."""
        return tf.convert_to_tensor(self._plane_variable)

    def passing(self, where: tf.Tensor, allowed: tf.Tensor, only_allowed: tf.Tensor) -> Passing:
        """Returns the items that pass.

        Args:
            where: `[B, C]` conditions as text, "" for none.
            allowed: `[B, A]` int32 item indices 1..N, 0 pads anywhere; distinct in a row but for 0.
            only_allowed: `[B]` bool, True for a row in which only the allowed items pass.

        Raises:
            tf.errors.InvalidArgumentError: when the graph runs, for a condition that the bundle does not know.
        """
        texts, ranges = self.table.parse(where)
        # Rows with the same rule share its bits: all users of one shop have one rule.
        parts = [texts, ranges, tf.cast(only_allowed, tf.int32)[:, None], allowed]
        distinct = tf.raw_ops.UniqueV2(x=tf.concat(parts, axis=1), axis=[0])
        widths = tf.stack([tf.shape(part)[1] for part in parts])
        texts, ranges, only, allowed = tf.split(distinct.y, widths, axis=1, num=len(parts))
        of_texts = self._of_texts(texts)
        words = tf.cond(
            tf.reduce_any(tf.abs(texts) > self._first_cluster),
            lambda: tf.bitwise.bitwise_and(of_texts, self._of_clusters(texts)),
            lambda: of_texts,
        )
        words = self._of_allowed(self._numbers(self._planes, words, ranges), only, allowed)
        return Passing(tf.ensure_shape(words, [None, self._layout.num_words]), distinct.idx, self._layout)

    def texts_of(self, rows: tf.Tensor, clusters: tf.Tensor, valid: tf.Tensor, wanted: tf.Tensor) -> Pairs:
        """Returns the pairs of `[n]` items, where `[n]` valid, and of texts where `[Q]` wanted, clusters left out.

        Args:
            rows: `[n]` int32 item rows.
            clusters: `[n]` int32 clusters of the rows.
            valid: `[n]` bool.
            wanted: `[Q]` bool.
        """
        positions = tf.where(valid, rows + tf.gather(self._layout.shifts, tf.maximum(clusters, 0)), 0)
        return self._lists.texts_of(self._planes, positions, valid, wanted, self._layout)

    def columns_of(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns the number of the column of every text."""
        return tf.gather(self._columns, texts)

    def having(self, texts: tf.Tensor, clusters: tf.Tensor) -> tf.Tensor:
        """Returns `[R, W]` words of the items with `[R]` texts, or where that is -1 in `[R]` clusters; -1 is none."""
        words = self._lists(self._planes, tf.maximum(texts, 0), texts >= 0)
        in_cluster = self._layout.cluster_of_words == tf.where(texts < 0, clusters, -1)[:, None]
        return tf.where(in_cluster, tf.constant(_ALL, tf.int64), words)

    def _of_texts(self, texts: tf.Tensor) -> tf.Tensor:
        """`[R, C]` as in `Parsed` -> `[R, W]` words; texts of a column are adjacent, forbidden ones come first."""
        texts = tf.where(tf.abs(texts) > self._first_cluster, 0, texts)
        rules = tf.shape(texts)[0]
        every = tf.tile(tf.gather(self._planes, [1]), [rules, 1])

        def step(
            place: tf.Tensor, passing: tf.Tensor, alternatives: tf.Tensor, before: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            text = texts[:, place]
            number = tf.maximum(tf.abs(text) - 1, 0)
            words = self._lists(self._planes, number, text != 0)
            column = tf.where(text > 0, tf.gather(self._columns, number), before)
            begins = column != before
            forbidden, required = _all_or_none(text < 0), _all_or_none(text > 0)
            # Selections of rows are masks of words, which take a fifth of the time. The column before one that begins
            # has no more alternatives.
            closed = tf.bitwise.bitwise_or(alternatives, _all_or_none(~begins))
            passing = tf.bitwise.bitwise_and(passing, closed)
            passing = tf.bitwise.bitwise_and(passing, tf.bitwise.invert(tf.bitwise.bitwise_and(words, forbidden)))
            others = tf.bitwise.bitwise_and(alternatives, _all_or_none(~(begins & (text > 0))))
            return place + 1, passing, tf.bitwise.bitwise_or(others, tf.bitwise.bitwise_and(words, required)), column

        start = (tf.constant(0), every, tf.fill(tf.shape(every), tf.constant(_ALL, tf.int64)), tf.fill([rules], -1))
        _, passing, alternatives, _ = tf.while_loop(lambda place, *_: place < tf.shape(texts)[1], step, start)
        return tf.bitwise.bitwise_and(passing, alternatives)

    def _of_clusters(self, texts: tf.Tensor) -> tf.Tensor:
        """`[R, C]` as in `Parsed` -> `[R, W]` words, full where the cluster is asked for."""
        of_clusters = self._text_of_clusters + 1
        required = tf.reduce_any(texts[:, :, None] == of_clusters, axis=1)  # [R, K]
        forbidden = tf.reduce_any(texts[:, :, None] == -of_clusters, axis=1)
        some = tf.reduce_any(texts > self._first_cluster, axis=1, keepdims=True)
        open_clusters = (required | ~some) & ~forbidden
        flags = tf.gather(open_clusters, self._layout.cluster_of_words, axis=1)
        return tf.where(flags, tf.constant(_ALL, tf.int64), 0)

    def _of_allowed(self, words: tf.Tensor, only: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
        """Keeps the bits of `[R, A]` items in the rules where `only` `[R, 1]` is 1."""

        def keep() -> tf.Tensor:
            where = tf.where(allowed > 0)
            rows = tf.gather_nd(allowed, where) - 1
            clusters = tf.searchsorted(self._layout.offsets[1:], rows, side="right")
            positions = rows + tf.gather(self._layout.shifts, clusters)
            bits = scatter_bits(tf.cast(where[:, 0], tf.int32), positions, tf.shape(words))
            return tf.where(only > 0, tf.bitwise.bitwise_and(words, bits), words)

        return tf.cond(tf.reduce_any(only > 0), keep, lambda: words)


class _Lists(tf.Module):
    """Bits of texts: a plane of the frequent ones, a list of the items of the others."""

    def __init__(self, planes: Planes, num_texts: int) -> None:
        super().__init__()
        clusters = num_texts - len(planes.conditions)
        self._plane_of = np.append(planes.plane_of, np.zeros(clusters, np.int32))
        self._ends = np.append(planes.list_ends, np.full(clusters, planes.list_ends[-1], np.int32))
        self._listed = tf.Variable(planes.listed, trainable=False, name="attribute_lists")

    def __call__(self, planes: tf.Tensor, text: tf.Tensor, given: tf.Tensor) -> tf.Tensor:
        """Returns `[R, W]` words of `[R]` texts; empty where `given` `[R]` is False."""
        words = tf.gather(planes, tf.where(given, tf.gather(self._plane_of, text), 0))
        first = tf.gather(self._ends, text)
        counts = tf.where(given, tf.gather(self._ends, text + 1) - first, 0)

        def with_lists() -> tf.Tensor:
            rules = tf.repeat(tf.range(tf.shape(text)[0]), counts)  # [P]
            place = tf.range(tf.shape(rules)[0]) - tf.gather(tf.cumsum(counts, exclusive=True), rules)
            positions = tf.gather(self._listed, tf.gather(first, rules) + place)
            return tf.bitwise.bitwise_or(words, scatter_bits(rules, positions, tf.shape(words)))

        return tf.cond(tf.reduce_any(counts > 0), with_lists, lambda: words)

    def texts_of(
        self, planes: tf.Tensor, positions: tf.Tensor, valid: tf.Tensor, wanted: tf.Tensor, layout: Layout
    ) -> Pairs:
        """Returns the pairs of items at `[n]` positions, where `[n]` valid, and of texts where `[Q]` wanted."""
        plane_of = self._plane_of[: wanted.shape[0]]
        frequent, rare = (tf.cast(tf.where(wanted & which)[:, 0], tf.int32) for which in (plane_of > 0, plane_of == 0))
        own = tf.gather(planes, tf.gather(plane_of, frequent))
        found = texts_in_planes(own, frequent, positions, valid)

        def with_lists() -> Pairs:
            more = texts_in_lists(self._listed, self._ends, rare, positions, valid, layout)
            return Pairs(*(tf.concat(both, axis=0) for both in zip(found, more, strict=True)))

        return Pairs(*tf.cond(tf.size(rare) > 0, with_lists, lambda: found))


class _Numbers:
    """Ranges of numbers by the digits of their ranks."""

    def __init__(self, columns: list[NumberColumn]) -> None:
        self._columns = columns

    def __call__(self, planes: tf.Tensor, words: tf.Tensor, ranges: tf.Tensor) -> tf.Tensor:
        """Keeps the bits of items inside `[R, 2 * columns]` ranges, as in `Parsed`."""
        for place, column in enumerate(self._columns):
            first, end = ranges[:, 2 * place], ranges[:, 2 * place + 1]
            words = _in_range(planes, words, first, end, column)
        return words


def _in_range(planes: tf.Tensor, words: tf.Tensor, first: tf.Tensor, end: tf.Tensor, column: NumberColumn) -> tf.Tensor:
    asked = end <= len(column.levels)  # [R]

    def below(limits: tf.Tensor) -> tf.Tensor:
        """Returns `[R, W]` words of items whose rank is below `[R]` limits."""
        found = tf.zeros([tf.shape(limits)[0], words.shape[1]], tf.int64)
        for digit in range(column.digits):  # lowest first: a higher digit decides against all lower ones
            zero = tf.bitwise.invert(planes[column.first_plane + digit])[None]
            one_of_limit = _all_or_none(tf.bitwise.right_shift(limits, digit) & 1 == 1)
            # `zero | found` where the digit of the limit is 1, else `zero & found`; a selection takes twice the time.
            either = tf.bitwise.bitwise_and(zero, tf.bitwise.bitwise_or(found, one_of_limit))
            found = tf.bitwise.bitwise_or(either, tf.bitwise.bitwise_and(found, one_of_limit))
        return found

    def keep() -> tf.Tensor:
        inside = below(end)
        from_first = tf.cond(
            tf.reduce_any(first > 0),
            lambda: tf.bitwise.bitwise_and(inside, tf.bitwise.invert(below(first))),
            lambda: inside,
        )
        return tf.bitwise.bitwise_and(words, tf.bitwise.bitwise_or(from_first, _all_or_none(~asked)))

    return tf.cond(tf.reduce_any(asked), keep, lambda: words)


def _all_or_none(flags: tf.Tensor) -> tf.Tensor:
    """Returns `[R, 1]` words, with every bit where `[R]` flags are True, with none elsewhere."""
    return -tf.cast(flags, tf.int64)[:, None]
