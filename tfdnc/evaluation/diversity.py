"""Intra-list distance: how different the items of a list are, by their categories.

The distance of two items is the Jaccard distance of their categories, 1 - |a and b| / |a or b|; an item without
category is at distance 1 from every other item.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_CHUNK = 64  # users at a time; what belongs to them then stays in the cache


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
    alike = _alike_by_items
    if len(sets.members) <= 2 * rows.shape[1]:  # the smaller square: all sets of the catalogue, not the items of a list
        alike = functools.partial(_alike_by_sets, similarity=_jaccard(sets.members))
    total = np.zeros(len(sizes))
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        for place, (m, similar) in enumerate(zip(sizes, alike(chunk, sets, sizes), strict=True)):
            items = np.sum(chunk[:, :m] >= 0, axis=1)
            pairs = items * (items - 1) / 2
            total[place] += np.sum(1 - similar[pairs > 0] / pairs[pairs > 0])
    return list(total / max(1, len(rows)))


def _alike_by_sets(rows, sets, sizes, similarity):
    """Sum of the similarities of all pairs of the first m items, `[u]` for every m, from how often each set occurs."""
    num_sets = len(similarity)
    place = sets.of_item[rows] + num_sets * np.arange(len(rows))[:, None]
    for m in sizes:
        occurs = np.bincount(place[:, :m][rows[:, :m] >= 0], minlength=len(rows) * num_sets)
        occurs = occurs.reshape(len(rows), num_sets).astype(np.float32)
        # Every pair stands twice in the product, and every item once beside itself.
        both = np.einsum("us,us->u", occurs @ similarity, occurs, dtype=np.float64)
        yield (both - occurs @ np.diag(similarity).astype(np.float64)) / 2


def _alike_by_items(rows, sets, sizes):
    """The same, from the items of every list: catalogues can have more sets than a square has room for."""
    before = np.triu(np.ones([rows.shape[1]] * 2, np.float32), 1)  # [i, j] 1 where i comes before j
    similarity = _jaccard(sets.members[sets.of_item[rows]])  # [u, M, M]
    # To all items before it; summed over the first m items this is every pair of the first m, once.
    alike = np.cumsum(np.einsum("uij,ij->uj", similarity, before), axis=1, dtype=np.float64)
    return [alike[:, m - 1] for m in sizes]


def _jaccard(members):
    """Similarity of every two sets: `[..., S, G]` -> `[..., S, S]`; empty sets are like nothing."""
    shared = members @ np.swapaxes(members, -1, -2)
    lengths = members.sum(axis=-1)
    union = lengths[..., :, None] + lengths[..., None, :] - shared
    return np.divide(shared, np.maximum(union, 1, out=union), out=shared)
