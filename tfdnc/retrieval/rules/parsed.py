"""Conditions of a request as numbers: texts of a batch are looked up once, and unknown ones are refused by name."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.conditions import CLUSTER, CONDITION, MAX_CONDITIONS, NUMBER
from tfdnc.retrieval.rules.planes import Planes

CONDITIONS_ASSET = "conditions.txt"
"""File of an asset folder with all "column=text" of a bundle, one on each line, clusters last."""

_UNEQUAL = r"(?s)[^=<>!]+!=.*"
_UNEQUAL_SIGN = r"^([^=<>!]+)!="

_SHOWN = 20  # texts of a column in a message


class Parsed(NamedTuple):
    """Conditions of B rows; every row of one rule has the same numbers."""

    texts: tf.Tensor  # [B, C] int32: text q required: q + 1, forbidden: -(q + 1), none: 0; ascending in a row
    ranges: (
        tf.Tensor
    )  # [B, 2 * numbers] int32: first rank that passes and first that does not; 0 and U + 1: no condition


class ConditionTable(tf.Module):
    """Known conditions of a bundle: look-up, and messages about others.

    Args:
        planes: the attributes.
        cluster_names: names of the K clusters.
        folder: for the asset file, which has to exist until saving the bundle copies it.
    """

    def __init__(self, planes: Planes, cluster_names: list[str], folder: Path) -> None:
        super().__init__()
        distinct = list(dict.fromkeys(cluster_names))
        self.cluster_groups = np.array([distinct.index(name) for name in cluster_names], np.int32)  # [K]
        self.conditions = [*planes.conditions, *(f"{CLUSTER}={name}" for name in distinct)]
        self.columns = np.append(planes.columns, np.full(len(distinct), len(planes.names), np.int32))
        self._numbers = planes.numbers
        asset = folder / CONDITIONS_ASSET
        asset.write_text("".join(f"{text}\n" for text in self.conditions), encoding="utf-8", newline="")
        lines = tf.lookup.TextFileInitializer(
            str(asset), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self._lines = tf.lookup.StaticHashTable(lines, default_value=-1)
        # A variable, because a graph with many texts loads slowly.
        self._lines_in_order = tf.Variable(np.array(self.conditions, object), trainable=False, dtype=tf.string)
        known = _known_of_columns(planes, distinct)
        self._known = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(list(known), list(known.values())), default_value=""
        )
        names = [column.name for column in planes.numbers] or [""]
        self._number_of = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(names, tf.range(len(names))), default_value=-1
        )
        self._columns_text = ", ".join(known)

    def known(self) -> tf.Tensor:
        """Returns `[Q]` conditions: "column=text", then the ends of every column of numbers."""
        columns = [column for column in self._numbers if len(column.levels)]
        ends = [f"{c.name}{s}{_shortest(n)}" for c in columns for s, n in ((">=", c.levels[0]), ("<=", c.levels[-1]))]
        lines = self._lines_in_order
        return tf.concat([lines, ends], axis=0) if ends else tf.convert_to_tensor(lines)

    def parse(self, where: tf.Tensor) -> Parsed:
        """Returns the conditions of `[B, C]` texts, "" for none; refuses others as INVALID_ARGUMENT."""
        negative = tf.strings.regex_full_match(where, _UNEQUAL)
        asked = tf.strings.regex_replace(where, _UNEQUAL_SIGN, r"\1=")
        text = tf.where(where == "", -1, self.numbers(asked))
        texts = tf.where(text < 0, 0, tf.where(negative, -text - 1, text + 1))
        others = (where != "") & (text < 0)  # ranges, and what is unknown
        with tf.control_dependencies(_check_count(where)):
            ranges = tf.cond(
                tf.reduce_any(others), lambda: self._ranges(where, others), lambda: self._no_ranges(tf.shape(where)[0])
            )
        # Columns without any text cost a pass over all items each.
        used = tf.where(tf.reduce_any(texts != 0, axis=0))[:, 0]
        return Parsed(tf.sort(tf.gather(texts, used, axis=1), axis=1), ranges)

    def _no_ranges(self, rows: tf.Tensor) -> tf.Tensor:
        ends = [end for column in self._numbers for end in (0, len(column.levels) + 1)]
        return tf.tile(tf.constant([ends], tf.int32), [rows, 1])

    def _ranges(self, where: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        """Returns the ranges of `Parsed` for conditions where `others`, all of which must be ranges."""
        column, sign, value = (tf.strings.regex_replace(where, CONDITION, rf"\{part}") for part in (1, 2, 3))
        number = self._number_of.lookup(column)
        inside = tf.strings.regex_full_match(sign, "[<>]=?") & (number >= 0)
        good = ~others | (inside & tf.strings.regex_full_match(value, NUMBER))
        check = tf.cond(tf.reduce_all(good), tf.no_op, lambda: self._refuse(where, good, column))
        with tf.control_dependencies([check]):
            limits = tf.strings.to_number(tf.where(others & good, value, "0"), tf.float64)
        above = tf.strings.regex_full_match(sign, ">=?")
        from_left = (sign == ">=") | (sign == "<")
        ends = []
        for place, of_column in enumerate(self._numbers):
            mine = others & (number == place)
            left, right = (
                tf.reshape(tf.searchsorted(of_column.levels, tf.reshape(limits, [-1]), side=side), tf.shape(limits))
                for side in ("left", "right")
            )
            rank, size = tf.where(from_left, left, right), len(of_column.levels)
            first = tf.reduce_max(tf.where(mine & above, rank, 0), axis=1)
            end = tf.reduce_min(tf.where(mine & ~above, rank, size), axis=1)
            ends += [first, tf.where(tf.reduce_any(mine, axis=1), end, size + 1)]
        return tf.stack(ends, axis=1) if ends else tf.zeros([tf.shape(limits)[0], 0], tf.int32)

    def _refuse(self, where: tf.Tensor, good: tf.Tensor, column: tf.Tensor) -> tf.Operation:
        """Fails with a sentence about the first condition that is not known."""
        at = tf.where(~good)[0]
        text, name = tf.gather_nd(where, at), tf.gather_nd(column, at)
        expected = "Expected a condition on an attribute of this bundle, got "
        return tf.debugging.Assert(False, [tf.strings.join([expected, text, ". ", self.advice(text, name)])])

    def advice(self, text: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        """Returns a sentence with what the bundle knows, for a condition that it does not know, and its column."""
        known = tf.where(tf.strings.regex_full_match(text, CONDITION), self._known.lookup(column), "")
        return tf.where(known == "", f"Columns: {self._columns_text}.", tf.strings.join([column, ": ", known, "."]))

    def numbers(self, conditions: tf.Tensor) -> tf.Tensor:
        """Returns the int32 numbers of "column=text" of any shape, -1 for one that is not known."""
        return tf.cast(self._lines.lookup(conditions), tf.int32)

    def text(self, number: tf.Tensor) -> tf.Tensor:
        """Returns "column=text" of numbers of any shape."""
        return tf.gather(self._lines_in_order, number)


def _check_count(where: tf.Tensor) -> list[tf.Operation]:
    most = tf.reduce_max(tf.math.count_nonzero(where != "", axis=1))
    message = f"Expected at most {MAX_CONDITIONS} conditions in a row."
    return [tf.debugging.assert_less_equal(most, tf.constant(MAX_CONDITIONS, tf.int64), message)]


def _shortest(number: float) -> str:
    """Returns the text of a number, without the ".0" of a whole one."""
    return repr(float(number)).removesuffix(".0")


def _known_of_columns(planes: Planes, clusters: list[str]) -> dict[str, str]:
    """Returns, for a message, the conditions that every column knows."""
    known: dict[str, str] = {}
    ranges = {column.name: column.levels for column in planes.numbers}
    texts: dict[str, list[str]] = {name: [] for name in planes.names}
    for condition, number in zip(planes.conditions, planes.columns, strict=True):
        name = planes.names[number]
        texts[name].append(condition.removeprefix(f"{name}="))
    texts[CLUSTER] = clusters
    for name, values in texts.items():
        if name in ranges:
            levels = ranges[name]
            between = f" between {levels[0]:g} and {levels[-1]:g}" if len(levels) else ""
            known[name] = f"numbers{between}, as in {name}>=1 or {name}<20"
        else:
            more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
            known[name] = ", ".join(values[:_SHOWN]) + more
    return known
