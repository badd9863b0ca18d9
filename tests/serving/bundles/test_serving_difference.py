"""Figures of two versions on the same users, by hand, and the conditions that a publish puts on them."""

import math
from pathlib import Path

import numpy as np
import pytest

from serving.bundles import conditions, difference_rows
from serving.bundles.answers import Answers
from serving.bundles.difference import Estimate, cluster_shares, difference, estimate, order, overlap, recall
from serving.bundles.questions import Questions
from tfdnc.contracts.errors import UserError

OLD = Answers(Path("1"), [["a", "b"], ["c", "d"]], [["x", "x"], ["y", "y"]], frozenset("abcde"), 2.0, 10.0)
NEW = Answers(Path("2"), [["b", "n"], ["d", "c"]], [["x", "z"], ["y", "y"]], frozenset("bcdmn"), 3.0, 12.0)
QUESTIONS = Questions(histories=[["q"], ["q"]], targets=[["a", "n"], ["d"]], known=[{}, {}], features=())


@pytest.fixture(scope="module")
def found():
    return difference(QUESTIONS, OLD, NEW, [2, 1])


def test_recall_is_the_share_of_a_users_next_items_that_are_listed(found):
    assert [row.cutoff for row in found.cutoffs] == [1, 2]
    first, both = found.cutoffs
    assert first.recall == (Estimate(0.25, 0.25), Estimate(0.5, 0.5))  # of a, n: a; of d: none, then none and d
    assert both.recall == (Estimate(0.75, 0.25), Estimate(0.75, 0.25))
    assert both.recall_change == Estimate(0.0, 0.0)  # the same users found as much: its error is of the differences
    assert recall([["a"]], [["a", "a"]]).tolist() == [1.0]  # an item that follows twice is one item


def test_overlap_and_order_are_of_the_items_in_both_lists(found):
    assert [row.overlap for row in found.cutoffs] == [0.0, 0.75]
    assert math.isnan(found.cutoffs[0].order)
    assert found.cutoffs[1].order == 0.0  # c and d changed places
    assert overlap([["a", "b", "c"]], [["c", "a"]], cutoff=4) == 0.5
    assert order([list("abcd")], [list("abdc")]) == 5 / 6


def test_new_items_are_those_that_the_old_version_does_not_know(found):
    both = found.cutoffs[1]
    assert (both.new_items, both.recall_of_new_items) == (0.25, 1.0)  # n, of four entries; it was to come
    assert found.new_targets == 1
    [*_, row] = difference_rows.rows_at_cutoffs(found)[1]
    assert (row.name, row.new) == ("recall_of_new_items@2", "1.0000 of 1")
    assert both.coverage == (4 / 5, 4 / 5)
    assert (found.items, found.latency_ms, found.megabytes) == ((5, 5), (2.0, 3.0), (10.0, 12.0))


def test_users_without_next_items_have_lists_but_no_recall(found):
    """As from a request log: overlap and the like need no next items."""
    some = difference(QUESTIONS._replace(targets=[["a", "n"], []]), OLD, NEW, [2]).cutoffs[0]
    assert [recall.mean for recall in some.recall] == [0.5, 0.5]
    none = difference(QUESTIONS._replace(targets=[[], []]), OLD, NEW, [2]).cutoffs[0]
    assert math.isnan(none.recall_change.mean)
    assert none.overlap == found.cutoffs[1].overlap


def test_clusters_are_matched_by_name():
    assert cluster_shares(OLD.clusters, NEW.clusters) == {"y": (0.5, 0.5), "x": (0.5, 0.25), "z": (0.0, 0.25)}


def test_one_user_has_no_error():
    assert estimate(np.array([0.5])).mean == 0.5
    assert math.isnan(estimate(np.array([0.5])).error)


@pytest.mark.parametrize(
    ("text", "value", "bound", "holds"),
    [
        ("recall@2 >= 0.98 * current", 0.75, 0.735, True),
        ("recall@1>current + .25", 0.5, 0.5, False),
        ("coverage@2 >= current - 0.1", 0.8, 0.7, True),
        ("overlap@2 >= 0.8", 0.75, 0.8, False),
        ("latency_ms <= 1.5 * current", 3.0, 3.0, True),
        ("megabytes < current", 12.0, 10.0, False),
        ("order@1 >= 0", math.nan, 0.0, False),  # no common items, so NaN
    ],
)
def test_a_condition_compares_the_new_figure_with_a_bound(found, text, value, bound, holds):
    checked = conditions.check(conditions.parse(text), found)
    assert checked.value == pytest.approx(value, nan_ok=True)
    assert (checked.bound, checked.holds) == (pytest.approx(bound), holds)


@pytest.mark.parametrize(
    "text", ["recall >= 0.5", "recal@50 >= 1", "recall@50", "recall@50 == 1", "latency_ms@5 <= 1", "recall@0 >= 0.5"]
)
def test_a_text_that_is_no_condition_is_refused_with_the_known_figures(text):
    with pytest.raises(UserError, match=r"recall@M, .*latency_ms"):
        conditions.parse(text)


def test_a_figure_of_both_versions_has_no_current_value():
    with pytest.raises(UserError, match="compares the two versions already"):
        conditions.parse("overlap@50 >= 0.5 * current")
