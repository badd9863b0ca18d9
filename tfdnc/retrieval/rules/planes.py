"""Attributes of items as planes of bits, which is the form of a bundle: one function makes them from the columns.

A plane has one bit per item. A text has a plane if at least one item in 32 has it; a rarer one is a list of its items,
which is then smaller. A number is its rank among the distinct numbers of its column, in binary: one plane per digit.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfdnc.contracts.attributes import Attribute
from tfdnc.contracts.errors import UserError
from tfdnc.retrieval.rules.layout import Layout

_FREQUENT = 32
"""A list takes 32 bits for each of its items, a plane one bit for each item."""


class NumberColumn(NamedTuple):
    """A column of numbers."""

    name: str
    levels: np.ndarray  # [U] float64, the distinct numbers, ascending
    first_plane: int  # planes first_plane .. first_plane + digits - 1 are the digits of the rank, lowest first
    digits: int  # an item without a number has rank U


class Planes(NamedTuple):
    """Attributes of N items; Q texts of all columns of text, those of a column adjacent."""

    layout: Layout
    planes: np.ndarray  # [P, W] int64; plane 0 is empty, plane 1 has all items
    conditions: list[str]  # [Q] "column=text", in a column the most frequent first
    columns: np.ndarray  # [Q] int32 number of the column of each text
    plane_of: np.ndarray  # [Q] int32, 0 for a text with a list
    listed: np.ndarray  # [T] int32 positions of bits, the lists of all texts one after the other
    list_ends: np.ndarray  # [Q + 1] int32; the list of text q is listed[list_ends[q] : list_ends[q + 1]]
    numbers: list[NumberColumn]
    names: list[str]  # of the columns, in the order of the config
    kinds: list[str]  # of the columns

    @property
    def bytes_per_item(self) -> float:
        """Memory of the attributes, without the texts themselves."""
        size = self.planes.nbytes + self.listed.nbytes + sum(column.levels.nbytes for column in self.numbers)
        return size / max(int(self.layout.offsets[-1]), 1)

    def described(self) -> list[dict[str, object]]:
        """Returns the entry of the manifest: name, kind, and texts with their items or the range of every column."""
        counts = self._items_of_texts()
        texts: dict[str, dict[str, int]] = {}
        for condition, column, count in zip(self.conditions, self.columns, counts, strict=True):
            name = self.names[column]
            texts.setdefault(name, {})[condition.removeprefix(f"{name}=")] = count
        ends = {c.name: [float(c.levels[0]), float(c.levels[-1])] for c in self.numbers if len(c.levels)}
        found: list[dict[str, object]] = []
        for name, kind in zip(self.names, self.kinds, strict=True):
            own = {"range": ends.get(name)} if kind == "number" else {"values": texts.get(name, {})}
            found.append({"name": name, "kind": kind, **own})
        return found

    def _items_of_texts(self) -> list[int]:
        in_planes = np.array([np.unpackbits(plane.view(np.uint8)).sum(dtype=np.int64) for plane in self.planes])
        return (in_planes[self.plane_of] + np.diff(self.list_ends)).tolist()


def build_planes(attributes: Sequence[Attribute], offsets: Sequence[int] | np.ndarray) -> Planes:
    """Returns the planes of items in order of the item table.

    Args:
        attributes: columns of N items.
        offsets: K + 1 item counts, as of the item table.

    Raises:
        UserError: a text with a line break, which no request could name.
    """
    layout = Layout(offsets)
    size = int(layout.offsets[-1])
    planes = [layout.pack(np.zeros(size, bool)), layout.pack(np.ones(size, bool))]
    conditions: list[str] = []
    columns: list[int] = []
    plane_of: list[int] = []
    lists: list[np.ndarray] = []
    numbers: list[NumberColumn] = []
    for number, attribute in enumerate(attributes):
        if len(attribute) != size:
            raise ValueError(f"{attribute.name}: expected {size} items, got {len(attribute)}")
        if attribute.numbers is not None:
            levels, ranks = _ranks(attribute.numbers)
            digits = len(levels).bit_length()
            numbers.append(NumberColumn(attribute.name, levels, len(planes), digits))
            planes += [layout.pack((ranks >> digit) & 1 == 1) for digit in range(digits)]
            continue
        for text, rows in _rows_of_texts(attribute):
            conditions.append(f"{attribute.name}={text}")
            columns.append(number)
            frequent = len(rows) * _FREQUENT >= size
            plane_of.append(len(planes) if frequent else 0)
            lists.append(np.zeros(0, np.int32) if frequent else layout.positions(np.unique(rows)).astype(np.int32))
            if frequent:
                flags = np.zeros(size, bool)
                flags[rows] = True
                planes.append(layout.pack(flags))
    return Planes(
        layout,
        np.stack(planes),
        conditions,
        np.array(columns, np.int32),
        np.array(plane_of, np.int32),
        np.concatenate([np.zeros(0, np.int32), *lists]),
        np.cumsum([0, *map(len, lists)]).astype(np.int32),
        numbers,
        [attribute.name for attribute in attributes],
        [attribute.kind for attribute in attributes],
    )


def _ranks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the `[U]` distinct numbers, and `[N]` the rank of each, U for NaN."""
    known = ~np.isnan(values)
    levels, ranks = np.unique(values[known], return_inverse=True)
    found = np.full(len(values), len(levels), np.int64)
    found[known] = ranks
    return levels.astype(np.float64), found


def _rows_of_texts(attribute: Attribute) -> list[tuple[str, np.ndarray]]:
    """Returns the texts of a column with the rows of their items, the most frequent first, ties by text."""
    counts = Counter(text for own in attribute.texts for text in own)
    order = sorted(counts, key=lambda text: (-counts[text], text))
    for text in order:
        if "\n" in text or "\r" in text:
            raise UserError(
                f"Expected values without line breaks in the attribute {attribute.name}, found {text!r}. Replace them "
                "in the item file, or take the column out of export.attributes."
            )
    numbers = {text: number for number, text in enumerate(order)}
    flat = np.array([numbers[text] for own in attribute.texts for text in own], np.int64)
    rows = np.repeat(np.arange(len(attribute.texts)), [len(own) for own in attribute.texts])
    by_text = np.argsort(flat, kind="stable")
    return list(zip(order, np.split(rows[by_text], np.cumsum([counts[text] for text in order])[:-1]), strict=True))
