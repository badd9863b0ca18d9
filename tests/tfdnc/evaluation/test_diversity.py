"""Intra-list distance against values by hand, and against a loop over pairs."""

import itertools

import numpy as np
import pytest

from tfdnc.evaluation.diversity import category_sets, list_distances, mean_distance

# item        0      1           2     3           4   5
CATEGORIES = [["a"], ["a", "b"], ["b"], ["a", "b"], [], []]


def distance(a, b):
    a, b = set(CATEGORIES[a]), set(CATEGORIES[b])
    return 1 - len(a & b) / len(a | b) if a | b else 1.0


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([0, 1], 1 / 2),
        ([0, 2], 1),  # nothing in common
        ([1, 3], 0),  # everything
        ([0, 4], 1),  # an item without category is far from all others,
        ([4, 5], 1),  # those without category too
        ([0, 1, 2], (1 / 2 + 1 + 1 / 2) / 3),
        ([0, 1, -1], 1 / 2),  # padding is no item
        ([0, -1, -1], 0),  # one item has no other to differ from
    ],
)
def test_distance_of_a_list(items, expected):
    [found] = list_distances(np.array([items]), category_sets(CATEGORIES), [len(items)])
    assert mean_distance(found) == pytest.approx(expected)


@pytest.mark.parametrize("more_sets", [0, 20])  # few sets are counted, many are not
def test_all_lengths_equal_a_loop_over_pairs(more_sets):
    categories = CATEGORIES + [[f"other {i}"] for i in range(more_sets)]
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(6) for _ in range(150)])  # more users than are computed at a time
    rows[::7, 3:] = -1
    sizes = (1, 2, 4, 6)
    found = list_distances(rows, category_sets(categories), sizes)
    for m, own in zip(sizes, found, strict=True):
        means = []
        for items in rows[:, :m]:
            pairs = [distance(a, b) for a, b in itertools.combinations(items[items >= 0], 2)]
            means.append(np.mean(pairs) if pairs else 0)
        assert mean_distance(own) == pytest.approx(np.mean(means))


def test_category_sets_are_shared_by_the_items_that_have_them():
    sets = category_sets([["x", "y"], ["y", "x", "x"], ["z"]])
    assert sets.of_item[0] == sets.of_item[1] != sets.of_item[2]
    np.testing.assert_array_equal(sets.members[sets.of_item], [[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]])
