"""Metrics against values worked out by hand."""

import numpy as np
import pytest

from tfdnc.evaluation import metrics

LISTS = np.array([[3, 1, 2], [5, 4, 6], [7, 8, -1]])
TARGETS = np.array([3, 6, 9])
PLACES = np.array([0, 2, metrics.NOT_FOUND])


def test_places_are_positions_in_the_list():
    np.testing.assert_array_equal(metrics.ranks(LISTS, TARGETS), PLACES)


@pytest.mark.parametrize(("m", "recall", "ndcg"), [(1, 1 / 3, 1 / 3), (2, 1 / 3, 1 / 3), (3, 2 / 3, (1 + 0.5) / 3)])
def test_recall_and_ndcg(m, recall, ndcg):
    # The second target is at place 2: gain 1 / log2(4) = 0.5.
    assert metrics.recall(PLACES, m) == pytest.approx(recall)
    assert metrics.ndcg(PLACES, m) == pytest.approx(ndcg)


def test_spread_over_clusters():
    clusters = np.array([[0, 0, 1, 1], [2, 2, 2, 2], [0, 1, -1, -1]])
    counts = metrics.cluster_counts(clusters, 4, num_clusters=4)
    np.testing.assert_array_equal(counts, [[2, 2, 0, 0], [0, 0, 4, 0], [1, 1, 0, 0]])
    assert metrics.entropies(counts).tolist() == pytest.approx([np.log(2), 0, np.log(2)])
    np.testing.assert_array_equal(metrics.cluster_counts(clusters, 2, 4), [[2, 0, 0, 0], [0, 0, 2, 0], [1, 1, 0, 0]])


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([3, 3, 3, 3], 0), ([0, 0, 0, 5], 3 / 4), ([0, 0, 2, 2], 1 / 2), ([4, 1, 3, 2], 1 / 4), ([0, 0], 0)],
)
def test_gini(counts, expected):
    # [1, 2, 3, 4]: (-3 * 1 - 1 * 2 + 1 * 3 + 3 * 4) / (4 * 10) = 1 / 4.
    assert metrics.gini(np.array(counts)) == pytest.approx(expected)


def test_gini_is_half_the_relative_mean_difference():
    counts = np.random.default_rng(0).poisson(3.0, size=50)
    difference = np.abs(counts[:, None] - counts).mean()
    assert metrics.gini(counts) == pytest.approx(difference / (2 * counts.mean()))


def test_item_counts_know_the_items_nobody_got():
    rows = np.array([[3, 1, 2], [3, 0, -1]])
    np.testing.assert_array_equal(metrics.item_counts(rows, 3, 6), [1, 1, 1, 2, 0, 0])
    np.testing.assert_array_equal(metrics.item_counts(rows, 1, 6), [0, 0, 0, 2, 0, 0])


def test_popularity_lists_leave_out_what_was_seen_and_agree_with_the_places():
    rng = np.random.default_rng(1)
    counts = rng.permutation(20)
    histories = [rng.integers(1, 21, size) for size in (0, 1, 30, 200)]  # the last user has seen everything
    splits = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    lists = metrics.popularity_lists(counts, np.concatenate(histories), splits, 15)
    for history, found in zip(histories, lists, strict=True):
        expected = [row for row in np.argsort(-counts) if row + 1 not in history][:15]
        assert found.tolist() == expected + [-1] * (15 - len(expected))
    targets = lists[:3, 4] + 1
    places = metrics.popularity_ranks(counts, np.concatenate(histories[:3]), splits[:4], targets)
    np.testing.assert_array_equal(places, [4, 4, 4])


def test_popularity_places_equal_a_sorted_list_without_the_seen_items():
    rng = np.random.default_rng(0)
    counts = rng.permutation(20)  # no ties
    histories = [rng.integers(1, 21, size) for size in (0, 1, 5, 12)]
    targets = np.array([int(rng.choice(np.setdiff1d(np.arange(1, 21), history))) for history in histories])
    expected = []
    for history, target in zip(histories, targets, strict=True):
        ranked = [item for item in np.argsort(-counts) + 1 if item not in history]
        expected.append(ranked.index(target))
    splits = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    places = metrics.popularity_ranks(counts, np.concatenate(histories), splits, targets)
    np.testing.assert_array_equal(places, expected)


def test_popularity_counts_ties_against_the_target_and_never_finds_a_seen_target():
    counts = np.array([5, 5, 5])
    places = metrics.popularity_ranks(counts, np.array([1, 2]), np.array([0, 1, 2]), np.array([2, 2]))
    np.testing.assert_array_equal(places, [1, metrics.NOT_FOUND])


def test_seen_targets_stand_in_their_own_users_history():
    found = metrics.seen(np.array([1, 2, 2, 3]), np.array([0, 2, 2, 4]), np.array([2, 2, 1]))
    np.testing.assert_array_equal(found, [True, False, False])
