"""Intra-list distance: the mean distance between the items of a list, by their categories.

The distance of two items is the Jaccard distance of their categories, 1 - |a and b| / |a or b|. An item without
categories is at distance 1 from every other item.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

_CHUNK = 64
"""Users at a time, few enough that their matrices stay in the cache."""

_Similarities = Callable[[np.ndarray, "CategorySets", Sequence[int]], Iterable[np.ndarray]]
"""(rows `[u, M]`, sets, sizes) -> per size the `[u]` sums of the similarities of all pairs of the first m items."""


class CategorySets(NamedTuple):
    """The S distinct sets of categories that items have, usually far fewer than the items."""

    members: np.ndarray  # [S, G] float32, 1 where the set has the category
    of_item: np.ndarray  # [N + 1] set of every item row; the last entry, for padding, is the empty set


def category_sets(categories: Sequence[Sequence[str]]) -> CategorySets:
    """Encodes the categories of N items, in order of item rows; repeated names count once."""
    sets = [frozenset(names) for names in categories] + [frozenset()]
    distinct = {names: number for number, names in enumerate(dict.fromkeys(sets))}
    column = {name: number for number, name in enumerate(sorted(frozenset().union(*distinct)))}
    members = np.zeros([len(distinct), len(column)], np.float32)
    for names, number in distinct.items():
        members[number, [column[name] for name in names]] = 1
    return CategorySets(members, np.array([distinct[names] for names in sets]))


def list_distances(rows: np.ndarray, sets: CategorySets, sizes: Sequence[int]) -> np.ndarray:
    """Returns the mean distance between two of the first m items of every list, for every m of `sizes`.

    Args:
        rows: `[U, M]` item rows, best first, no item twice in a list; -1 beyond the end.
        sets: category sets of the N items.
        sizes: lengths m, at most M.

    Returns:
        `[len(sizes), U]` float64, NaN for a list of fewer than two items.
    """
    similarities: _Similarities = _similarities_by_items
    if len(sets.members) <= 2 * rows.shape[1]:  # one matrix of all sets is then cheaper than one per list
        similarities = functools.partial(_similarities_by_sets, similarity=_jaccard(sets.members))
    distances = np.full([len(sizes), len(rows)], np.nan)
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        for own, m, similar in zip(distances, sizes, similarities(chunk, sets, sizes), strict=True):
            items = np.sum(chunk[:, :m] >= 0, axis=1)
            pairs = items * (items - 1) / 2
            np.divide(similar, pairs, out=own[start : start + _CHUNK], where=pairs > 0)
    return 1 - distances


def mean_distance(distances: np.ndarray) -> float:
    """Returns the mean over U users of their `[U]` `list_distances`; NaN counts as 0."""
    # The last digits of a sum depend on its parts: these are the same for any batches, and for reports made earlier.
    parts = [distances[start : start + _CHUNK] for start in range(0, len(distances), _CHUNK)]
    return float(sum((np.sum(part[~np.isnan(part)]) for part in parts), np.float64()) / max(1, len(distances)))


def _similarities_by_sets(
    rows: np.ndarray, sets: CategorySets, sizes: Sequence[int], similarity: np.ndarray
) -> Iterator[np.ndarray]:
    """Sums the similarities of all pairs by the number of times that each set occurs in a list."""
    num_sets = len(similarity)
    cells = sets.of_item[rows] + num_sets * np.arange(len(rows))[:, None]
    for m in sizes:
        occurs = np.bincount(cells[:, :m][rows[:, :m] >= 0], minlength=len(rows) * num_sets)
        occurs = occurs.reshape(len(rows), num_sets).astype(np.float32)
        # The product counts every pair twice, and every item once with itself.
        both = np.einsum("us,us->u", occurs @ similarity, occurs, dtype=np.float64)
        yield (both - occurs @ np.diag(similarity).astype(np.float64)) / 2


def _similarities_by_items(rows: np.ndarray, sets: CategorySets, sizes: Sequence[int]) -> list[np.ndarray]:
    """Sums the similarities of all pairs by items: a catalogue may have too many sets for a matrix of all pairs."""
    before = np.triu(np.ones([rows.shape[1]] * 2, np.float32), 1)  # [i, j] 1 where i comes before j
    similarity = _jaccard(sets.members[sets.of_item[rows]])  # [u, M, M]
    # Similarities of an item to all before it; the sum over the first m items has every pair of them once.
    sums = np.cumsum(np.einsum("uij,ij->uj", similarity, before), axis=1, dtype=np.float64)
    return [sums[:, m - 1] for m in sizes]


def _jaccard(members: np.ndarray) -> np.ndarray:
    """Returns the similarities of all pairs of sets: `[..., S, G]` -> `[..., S, S]`; 0 for an empty set."""
    shared = members @ np.swapaxes(members, -1, -2)
    lengths = members.sum(axis=-1)
    union = lengths[..., :, None] + lengths[..., None, :] - shared
    return np.divide(shared, np.maximum(union, 1, out=union), out=shared)
