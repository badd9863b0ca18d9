"""Bounds of a request as numbers: texts of a batch are looked up once, and bounds that collide are refused by name."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.bounds import BOUND, EACH, EACH_ITSELF, MAX_BOUNDS
from tfdnc.contracts.conditions import CLUSTER
from tfdnc.retrieval.rules.parsed import ConditionTable
from tfdnc.retrieval.rules.planes import Planes

NO_BOUND = 2**31 - 1
"""A maximum that is none."""

_CAN_KEEP = "Expected bounds that one list can keep, got "


class Bounds(NamedTuple):
    """Bounds of B rows: G pairs of a row and a text, ascending, and maxima of each text of T columns."""

    rows: tf.Tensor  # [G] int32 row of the batch
    texts: tf.Tensor  # [G] int32 number of the text
    least: tf.Tensor  # [G] int32, 0 for no bound
    most: tf.Tensor  # [G] int32; that of `each` if the text has none of its own; NO_BOUND for no bound
    each: tf.Tensor  # [B, T] int32, NO_BOUND for no bound

    def promised(self) -> tf.Tensor:
        """Returns `[B]` int32, the sum of the minima of every row."""
        return tf.math.unsorted_segment_sum(self.least, self.rows, tf.shape(self.each)[0])


class BoundTable(tf.Module):
    """Look-up of the bounds of a bundle, and messages about others.

    Args:
        table: the conditions that the bundle knows.
        planes: the attributes.
    """

    def __init__(self, table: ConditionTable, planes: Planes) -> None:
        super().__init__()
        self._table = table
        self._columns = planes.columns  # [Q] the column of each text
        self._single = np.array([kind in ("value", "boolean") for kind in planes.kinds], bool)  # [T] one value per item
        self._names = tf.constant(planes.names, tf.string)
        texts = [name for name, kind in zip(planes.names, planes.kinds, strict=True) if kind != "number"] or [""]
        numbers = [planes.names.index(name) if name else -1 for name in texts]
        self._column_of = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(texts, numbers), -1)

    def parse(
        self, bounds: tf.Tensor, num_candidates: tf.Tensor, cluster_max: tf.Tensor, where: tf.Tensor | None = None
    ) -> Bounds:
        """Returns the bounds of the rows.

        Args:
            bounds: `[B, U]` texts, "" for none.
            num_candidates: `[B]` int32 lengths of the lists.
            cluster_max: `[B, K]` int32 maxima of the clusters, negative for none.
            where: `[B, C]` conditions of the same rows, which are known; None for none.

        Raises:
            tf.errors.InvalidArgumentError: when the graph runs, for a bound on what the bundle does not know, and for
                two bounds that no list can keep.
        """
        column, value, sign, count = (tf.strings.regex_replace(bounds, BOUND, rf"\{part}") for part in (1, 2, 3, 4))
        shaped = tf.strings.regex_full_match(bounds, BOUND)
        literal = tf.where(value == EACH_ITSELF, EACH, value)
        text = self._table.numbers(tf.strings.join([column, "=", literal]))
        number = self._column_of.lookup(column)
        each = shaped & (number >= 0) & (value == EACH) & (sign == "<=")
        one = shaped & (text >= 0) & (text < len(self._columns)) & (value != EACH)
        good = (bounds == "") | each | one
        known = tf.cond(tf.reduce_all(good), tf.no_op, lambda: self._refuse(bounds, good, column, value))
        most = tf.reduce_max(tf.math.count_nonzero(bounds != "", axis=1))
        few = tf.debugging.assert_less_equal(
            most, np.int64(MAX_BOUNDS), f"Expected at most {MAX_BOUNDS} bounds in a row."
        )
        with tf.control_dependencies([known, few]):
            counts = tf.strings.to_number(tf.where(each | one, count, "0"), tf.int32)
        found = self._grouped(tf.where(one, text, -1), counts, sign, self._of_each(each, number, counts))
        checks = self._collisions(found, num_candidates, cluster_max)
        if where is not None:
            checks += self._collisions_with(found, self._table.parse(where).texts)
        with tf.control_dependencies(checks):
            return Bounds(*(tf.identity(part) for part in found))

    def _of_each(self, each: tf.Tensor, number: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        """Returns `[B, T]` maxima of each text of a column."""
        rows, columns = tf.shape(each)[0], len(self._single)
        places = tf.where(each, tf.range(rows)[:, None] * columns + number, -1)  # a segment below 0 is none
        limits = tf.where(each, counts, NO_BOUND)
        flat = tf.math.unsorted_segment_min(tf.reshape(limits, [-1]), tf.reshape(places, [-1]), rows * columns)
        return tf.reshape(flat, [rows, columns])

    def _grouped(self, text: tf.Tensor, counts: tf.Tensor, sign: tf.Tensor, each: tf.Tensor) -> Bounds:
        """Unites the bounds of one text in one row."""
        at = tf.where(text >= 0)
        texts = tf.cast(len(self._columns), tf.int64)
        numbers = at[:, 0] * texts + tf.cast(tf.gather_nd(text, at), tf.int64)
        distinct, group = tf.unique(numbers)
        count, minimum, size = tf.gather_nd(counts, at), tf.gather_nd(sign == ">=", at), tf.size(distinct)
        least = tf.math.unsorted_segment_max(tf.where(minimum, count, 0), group, size)
        most = tf.math.unsorted_segment_min(tf.where(minimum, NO_BOUND, count), group, size)
        order = tf.argsort(distinct)
        distinct, least, most = (tf.gather(part, order) for part in (distinct, least, most))
        rows, found = tf.cast(distinct // texts, tf.int32), tf.cast(distinct % texts, tf.int32)
        of_each = tf.gather_nd(each, tf.stack([rows, tf.gather(self._columns, found)], axis=1))
        return Bounds(rows, found, least, tf.where(most == NO_BOUND, of_each, most), each)

    def _collisions(self, found: Bounds, num_candidates: tf.Tensor, cluster_max: tf.Tensor) -> list[tf.Operation]:
        """Returns checks for what no list can keep, whatever the items are."""
        columns = tf.gather(self._columns, found.texts)
        lengths = tf.gather(num_candidates, found.rows)
        room = tf.where(
            tf.reduce_all(cluster_max >= 0, axis=1), tf.reduce_sum(tf.cast(cluster_max, tf.int64), axis=1), NO_BOUND
        )
        rooms = tf.gather(room, found.rows)
        # The sum of the minima of all texts of the same column and row, where an item has one text of the column.
        places = found.rows * len(self._single) + columns
        minima = tf.math.unsorted_segment_sum(tf.cast(found.least, tf.int64), places, tf.size(found.each))
        sums = tf.where(tf.gather(self._single, columns), tf.gather(minima, places), 0)
        free = tf.minimum(tf.cast(lengths, tf.int64), rooms)

        def above(which: tf.Tensor) -> tf.Tensor:
            own = tf.gather(found.each, found.rows[which])[columns[which]] == found.most[which]
            # The bound on each text may be as high as one on this text: either name is true.
            limited = tf.where(
                own, tf.strings.join([self._names[columns[which]], "=", EACH]), self._table.text(found.texts[which])
            )
            return tf.strings.join([" and ", limited, "<=", tf.strings.as_string(found.most[which])])

        def long(which: tf.Tensor) -> tf.Tensor:
            return tf.strings.join([" and num_candidates ", tf.strings.as_string(lengths[which])])

        def full(which: tf.Tensor) -> tf.Tensor:
            return tf.strings.join([" and cluster_max, which add up to ", tf.strings.as_string(rooms[which])])

        def together(which: tf.Tensor) -> tf.Tensor:
            others = tf.where(places == places[which], found.least, -1)
            others = tf.tensor_scatter_nd_update(others, [[which]], [-1])
            other = tf.argmax(others, output_type=tf.int32)
            return tf.strings.join(
                [
                    *(" and ", self._table.text(found.texts[other]), ">=", tf.strings.as_string(found.least[other])),
                    *(", where the minima of this column add up to ", tf.strings.as_string(sums[which])),
                    tf.where(
                        free[which] < tf.cast(lengths[which], tf.int64),
                        ", above cluster_max, which add up to ",
                        ", above num_candidates ",
                    ),
                    tf.strings.as_string(free[which]),
                ]
            )

        tests = (
            (found.least > found.most, above),
            (found.least > lengths, long),
            (tf.cast(found.least, tf.int64) > rooms, full),
            ((sums > free) & (found.least > 0) & (tf.cast(found.least, tf.int64) <= free), together),
        )
        return [self._collide(bad, found, with_what) for bad, with_what in tests]

    def _collisions_with(self, found: Bounds, conditions: tf.Tensor) -> list[tf.Operation]:
        """Returns checks for minima of which no item passes the `[B, C]` conditions, as in `Parsed.texts`."""
        own = tf.gather(conditions, found.rows)  # [G, C]
        numbers = found.texts[:, None] + 1
        columns = tf.gather(self._table.columns, tf.maximum(tf.abs(own) - 1, 0))
        of_column = (own > 0) & (columns == tf.gather(self._columns, found.texts)[:, None])
        single = tf.gather(self._single, tf.gather(self._columns, found.texts))[:, None]
        another = of_column & single & ~tf.reduce_any(own == numbers, axis=1, keepdims=True)
        against = (own == -numbers) | another

        def barred(which: tf.Tensor) -> tf.Tensor:
            number = tf.boolean_mask(own[which], against[which])[0]
            text = self._table.text(tf.abs(number) - 1)
            unequal = tf.strings.regex_replace(text, "=", "!=", replace_global=False)
            return tf.strings.join([" and the condition ", tf.where(number < 0, unequal, text)])

        return [self._collide((found.least > 0) & tf.reduce_any(against, axis=1), found, barred)]

    def _collide(self, bad: tf.Tensor, found: Bounds, with_what: Callable[[tf.Tensor], tf.Tensor]) -> tf.Operation:
        """Fails with the names of the first minimum that is `bad` and of what it collides with."""

        def refuse() -> tf.Operation:
            which = tf.cast(tf.where(bad)[0, 0], tf.int32)
            minimum = [self._table.text(found.texts[which]), ">=", tf.strings.as_string(found.least[which])]
            row = tf.strings.as_string(found.rows[which])
            message = tf.strings.join([_CAN_KEEP, *minimum, with_what(which), " in row ", row, "."])
            return tf.debugging.Assert(False, [message])

        return tf.cond(tf.reduce_any(bad), refuse, tf.no_op)

    def _refuse(self, bounds: tf.Tensor, good: tf.Tensor, column: tf.Tensor, value: tf.Tensor) -> tf.Operation:
        """Fails with a sentence about the first bound that is not known."""
        at = tf.where(~good)[0]
        of_texts = self._column_of.lookup(column) >= 0
        text, name, of_each = (tf.gather_nd(part, at) for part in (bounds, column, of_texts & (value == EACH)))
        shaped = tf.strings.regex_full_match(text, BOUND)
        advice = tf.where(
            shaped & of_each, "Each value of a column of texts can have a maximum.", self._table.advice(text, name)
        )
        advice = tf.where(name == CLUSTER, "Clusters have cluster_min and cluster_max.", advice)
        expected = "Expected a bound on a value of this bundle, such as brand=acme<=3, got "
        return tf.debugging.Assert(False, [tf.strings.join([expected, text, ". ", advice])])
