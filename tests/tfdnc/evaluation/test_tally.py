"""Tallies: figures by hand, the same in any batches down to the last digit, and no list kept."""

import numpy as np
import pytest

from tfdnc.evaluation import metrics
from tfdnc.evaluation.diversity import category_sets
from tfdnc.evaluation.evaluator import Lists
from tfdnc.evaluation.tally import ListTally

U, N, K, M = 301, 40, 4, 10
SIZES = (3, 10)
CLUSTERS = np.arange(N) // 10
MANY_SETS = category_sets([[f"a{row % 7}", f"b{row % 5}"] for row in range(N)])  # more than two per place of a list
FEW_SETS = category_sets([[f"a{row % 7}"] for row in range(N)])


def make_lists():
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(N)[:M] for _ in range(U)])
    rows[::7, 4:] = -1
    rows[::50] = -1
    return Lists(rows, np.where(rows >= 0, CLUSTERS[rows], -1)), rng.integers(1, N + 1, U)


def tally_of(lists, targets, batches, categories):
    tally = ListTally(targets, SIZES, K, N, categories)
    for users in batches:
        tally.add(users, Lists(lists.rows[users], lists.clusters[users]))
    return tally


@pytest.mark.parametrize("categories", [None, FEW_SETS, MANY_SETS], ids=["none", "few", "many"])
def test_figures_do_not_depend_on_the_batches(categories):
    """The evaluator takes users by length of their history, and fewer at a time where there are many items."""
    lists, targets = make_lists()
    whole = tally_of(lists, targets, [np.arange(U)], categories)
    mixed = np.random.default_rng(1).permutation(U)
    parts = tally_of(lists, targets, np.split(mixed, [1, 8, 100, 164, 300]), categories)
    assert parts.figures() == whole.figures()
    np.testing.assert_array_equal(parts.ranks.ranks, whole.ranks.ranks)
    np.testing.assert_array_equal(parts.ranks.lengths, np.sum(lists.rows >= 0, axis=1))


def test_figures_equal_those_of_the_whole_lists():
    lists, targets = make_lists()
    figures = tally_of(lists, targets, [np.arange(U)], None).figures()
    ranks = metrics.ranks(lists.rows, targets - 1)
    for m in SIZES:
        counts = np.stack([np.bincount(row[:m][row[:m] >= 0], minlength=K) for row in lists.clusters])
        shares = [row[row > 0] / row.sum() for row in counts]
        shown = np.bincount(lists.rows[:, :m][lists.rows[:, :m] >= 0], minlength=N)
        assert figures[f"recall@{m}"] == np.mean(ranks < m)
        assert figures[f"coverage@{m}"] == np.mean(counts > 0)
        assert figures[f"entropy@{m}"] == pytest.approx(np.mean([-np.sum(row * np.log(row)) for row in shares]))
        assert figures[f"item_coverage@{m}"] == np.mean(shown > 0)
        assert figures[f"gini@{m}"] == metrics.gini(shown)


def test_one_cluster_has_no_spread_over_clusters():
    lists, targets = make_lists()
    tally = ListTally(targets, SIZES, 1, N)
    tally.add(np.arange(U), lists)
    assert [name for name in tally.figures() if name.startswith(("coverage", "entropy", "ild"))] == []


def test_a_tally_is_as_large_for_long_lists_as_for_short_ones():
    """Lists of 24 merges for 25,000 users took 440 MiB, at M = 100."""

    def size_of(width):
        tally = ListTally(np.ones(1000, np.int64), [width], K, N, FEW_SETS)
        arrays = [value for part in (tally.ranks, tally._clusters, tally._items) for value in vars(part).values()]
        return sum(value.nbytes for value in arrays if isinstance(value, np.ndarray))

    assert size_of(500) == size_of(10) < 50 * 1000
