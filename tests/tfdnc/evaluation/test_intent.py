"""Figures of the intent model against values by hand."""

import numpy as np
import pytest

from tfdnc.contracts.items import ItemTable
from tfdnc.evaluation.intent import (
    UNTRAINED,
    calibration,
    history_log_shares,
    intent_check,
    intent_figures,
    last_events,
    negative_log_likelihood,
    reliability,
)
from tfdnc.training.records import HeldOutRecords


def test_accuracy_and_likelihood():
    log_intent = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    figures = intent_figures(log_intent, np.array([0, 2]))
    assert figures["intent_accuracy"] == 0.5
    assert figures["intent_nll"] == pytest.approx(-(np.log(0.5) + np.log(0.1)) / 2)


def test_a_certain_model_has_no_negative_zero():
    assert str(negative_log_likelihood(np.zeros([2, 1]), np.array([0, 0]))) == "0.0"


def test_the_history_baseline_is_smoothed_by_one_event_per_cluster():
    shares = np.exp(history_log_shares(np.array([2, 2, 0]), np.array([0, 3, 3]), num_clusters=4))
    np.testing.assert_allclose(shares, [[2 / 7, 1 / 7, 3 / 7, 1 / 7], [1 / 4] * 4])


ITEMS = ItemTable(
    list("abcd"), np.array([3, 3, 2, 2]), np.array([0, 0, 1, 1]), (0, 2, 4), np.arange(1, 5), list("abcd"), ["x", "y"]
)
# Users of cluster 0, 0 and 1, whose next item is in the same cluster: the history says more than the prior.
RECORDS = HeldOutRecords(
    np.array([1, 1, 2, 3], np.int32), np.array([0, 2, 3, 4]), np.array([2, 1, 4], np.int32), np.array([0, 0, 1])
)


@pytest.mark.parametrize(
    ("right", "kind", "beaten"),
    [(0.9, "head", []), (0.66, "partition", ["history"]), (0.3, "head", ["prior", "history"])],
)
def test_a_named_intent_that_knows_no_more_than_counts_is_said_to_with_the_key_to_set(right, kind, beaten):
    """The key was `model.intent: history`, also for a head that made better lists than the history."""
    log_intent = np.log(np.where(np.arange(2) == RECORDS.target_clusters[:, None], right, 1 - right))
    check = intent_check(log_intent, RECORDS, ITEMS, kind)
    assert check["no_better_than"] == beaten
    assert check["intent_nll"] == pytest.approx(-np.log(right))
    if not beaten:
        assert check["advice"] is None
        return
    assert f"The intent model ({kind}) is no better than" in check["advice"]
    assert "Set model.intent: auto, and train again" in check["advice"]
    for name, words in UNTRAINED.items():
        assert (f"{words} ({check[f'intent_nll_{name}']:.3f})" in check["advice"]) == (name in beaten)


def test_the_last_events_of_each_user():
    kept, splits = last_events(np.array([0, 3, 3, 4, 6]), 2)
    assert kept.tolist() == [False, True, True, True, True, True]
    assert splits.tolist() == [0, 2, 2, 3, 5]


def test_reliability_sorts_statements_into_ten_bins():
    found = reliability(np.array([0.05, 0.62, 0.68, 0.9, 1.0]), np.array([False, True, False, True, True]))
    counts = [row["count"] for row in found["bins"]]
    assert counts == [1, 0, 0, 0, 0, 0, 2, 0, 0, 2]  # [.9, 1] is closed
    assert found["bins"][6] == {"confidence": pytest.approx(0.65), "accuracy": 0.5, "count": 2}
    assert found["bins"][1] == {"confidence": None, "accuracy": None, "count": 0}
    assert found["ece"] == pytest.approx((1 * 0.05 + 2 * 0.15 + 2 * 0.05) / 5)


def test_a_model_that_says_what_happens_is_calibrated():
    rng = np.random.default_rng(0)
    intent = rng.dirichlet(np.ones(4), size=20_000)
    clusters = np.array([rng.choice(4, p=row) for row in intent])
    honest, boastful = (calibration(np.log(p), clusters) for p in (intent, intent**3 / (intent**3).sum(1)[:, None]))
    assert honest["ece"] < 0.02
    assert honest["all_clusters"]["ece"] < 0.01
    assert boastful["ece"] > 0.1
    assert sum(row["count"] for row in honest["bins"]) == 20_000
    assert sum(row["count"] for row in honest["all_clusters"]["bins"]) == 80_000
