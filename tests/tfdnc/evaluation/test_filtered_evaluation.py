"""Evaluation under a filter: lists hold passing items only, and the figures are those of the targets that pass."""

import numpy as np
import pytest

from tests.tfdnc.evaluation.test_evaluation import CLUSTERS, N, make_items, make_model, make_records, oracle_list
from tfdnc.contracts.attributes import Attribute
from tfdnc.contracts.config import EvaluateConfig, MergeConfig, parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.evaluation.report import evaluate

EVEN = np.arange(N) % 2 == 0
ATTRIBUTES = [Attribute("even", "boolean", [(str(flag).lower(),) for flag in EVEN])]
SIZES = (3, 8)


@pytest.fixture(scope="module")
def records():
    return make_records()


def report_of(records, where):
    settings = {"candidates": SIZES, "within_cluster": [3], "alphas": [1], "joint_alphas": [1], "floors": [1]}
    assert EvaluateConfig(**settings, where=where).where == tuple(where)
    config = parse_config(
        {"name": "x", "data": {"format": "movielens"}, "evaluate": {**settings, "where": where}}
        | {"export": {"attributes": {"even": "boolean"}}}
    )
    return evaluate(config, make_model(), make_items(), records, records, attributes=ATTRIBUTES)


def test_lists_under_a_filter_are_measured_on_targets_that_pass(records):
    report, plain = report_of(records, ["even=true", "cluster!=cluster 1"]), report_of(records, [])
    mask = EVEN & (CLUSTERS != 1)
    passing = mask[records.targets - 1]
    model, hits, short = make_model(), [], []
    for user, target in enumerate(records.targets):
        history = records.items[records.splits[user] : records.splits[user + 1]]
        gone = np.union1d(history, np.flatnonzero(~mask) + 1)
        rows = oracle_under(model, history, gone)
        hits.append(target - 1 in rows[:3])
        short.append(len(rows) < 8)
    found = report["filtered"]
    assert found["where"] == ["even=true", "cluster!=cluster 1"]
    assert found["targets"] == passing.sum()
    assert found["item_share"] == pytest.approx(mask.mean())
    assert found["recall@3"] == pytest.approx(np.mean(np.array(hits)[passing]))
    assert found["short_lists@8"] == pytest.approx(np.mean(short))
    assert found["entropy@8"] > 0
    assert plain["filtered"] is None
    assert {key: value for key, value in report.items() if key != "filtered"} == {
        key: value for key, value in plain.items() if key != "filtered"
    }


def oracle_under(model, history, gone):
    """The unfiltered ranking of all unseen items without those that are gone: keys do not change under a filter."""
    from tests.tfdnc.evaluation import test_evaluation as oracles

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracles, "WIDTH", N)
        rows = oracle_list(model, history, MergeConfig(method="joint"))
    return rows[~np.isin(rows + 1, gone)]


def test_an_unknown_condition_is_refused_with_the_known_ones(records):
    with pytest.raises(UserError, match=r"got odd=true\. Columns: even, cluster"):
        report_of(records, ["odd=true"])
