"""Intra-list distance: how different the items of a list are, by their categories.

The distance of two items is the Jaccard distance of their categories, 1 - |a and b| / |a or b|; an item without
category is at distance 1 from every other item.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_CHUNK = 64  # users at a time; their pairs then stay in the cache


class CategorySets(NamedTuple):
    """The distinct category sets of all items, usually far fewer than there are items."""

    members: np.ndarray  # [S, G] float32, 1 where the set has the category
    of_item: np.ndarray  # [N + 1] set of every item row; the last entry, the empty set, is for padding


def category_sets(categories: Sequence[Sequence[str]]) -> CategorySets:
    """Encodes the categories of N items, in order of item rows; repeated names count once."""
    sets = [frozenset(names) for names in categories] + [frozenset()]
    distinct = {names: number for number, names in enumerate(dict.fromkeys(sets))}
    column = {name: number for number, name in enumerate(sorted(frozenset().union(*distinct)))}
    members = np.zeros([len(distinct), len(column)], np.float32)
    for names, number in distinct.items():
        members[number, [column[name] for name in names]] = 1
    return CategorySets(members, np.array([distinct[names] for names in sets]))


def intra_list_distances(rows: np.ndarray, sets: CategorySets, sizes: Sequence[int]) -> list[float]:
    """Mean over users of the mean distance between two of the first m items, for every m of `sizes`.

    Args:
        rows: `[U, M]` item rows, best first, no item twice in a list; -1 beyond the end.
        sets: of the N items.
        sizes: lengths m, at most M. A list of fewer than two items has distance 0.
    """
    before = np.triu(np.ones([rows.shape[1]] * 2, np.float32), 1)  # [i, j] 1 where i comes before j
    total = np.zeros(len(sizes))
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        lists = sets.members[sets.of_item[chunk]]  # [u, M, G]
        shared = lists @ lists.transpose(0, 2, 1)  # [u, M, M]
        lengths = lists.sum(axis=2)
        union = lengths[:, :, None] + lengths[:, None] - shared
        similarity = np.divide(shared, np.maximum(union, 1, out=union), out=shared)
        # To all items before it; summed over the first m items this is every pair of the first m, once.
        alike = np.cumsum(np.einsum("uij,ij->uj", similarity, before), axis=1, dtype=np.float64)
        for place, m in enumerate(sizes):
            items = np.sum(chunk[:, :m] >= 0, axis=1)
            pairs = items * (items - 1) / 2
            total[place] += np.sum(1 - alike[pairs > 0, m - 1] / pairs[pairs > 0])
    return list(total / max(1, len(rows)))
