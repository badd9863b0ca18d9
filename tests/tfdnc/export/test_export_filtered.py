"""Bundles with attributes in a fresh process: what they filter, what they know, and their manifest."""

import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from serving.messages import history_array
from tests.tfdnc.export.bundle_cases import LENGTH, Case, film
from tests.tfdnc.retrieval.bounds.bound_oracle import draw_bounds, groups_of, read
from tests.tfdnc.retrieval.rules.rule_oracle import draw_attributes, draw_conditions, passes
from tfdnc.backend import tf
from tfdnc.contracts import bundle as contract
from tfdnc.export.signatures import example_inputs

READER = Path(__file__).with_name("export_reader.py")
SIZES = {"exact": (1, 5, 14, 40), "scann": (1, 40, 300, 900)}
NAMES = [f"cluster {k}" for k in range(4)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Bundles with attributes by kind of index, and their answers in a fresh process of TF Serving's loader."""
    folder = tmp_path_factory.mktemp("filtered")
    cases, requests = {}, {}
    declared = {name: contract.SIGNATURES[name] for name in ("serving_default", "describe")}  # others take time to save
    for kind, of_clusters in SIZES.items():
        attributes = draw_attributes(np.random.default_rng(5), sum(of_clusters))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(contract, "SIGNATURES", declared)
            case = Case(folder / kind, of_clusters, kind, "hadamard_per_position", attributes=attributes)
        rules = [draw_conditions(np.random.default_rng(row), attributes, NAMES) for row in range(32)]
        inputs = example_inputs(case.module, "retrieve_filtered", [film(*range(row)) for row in range(32)])
        inputs[contract.WHERE] = history_array(rules)
        bounds = [draw_bounds(np.random.default_rng(row), attributes, LENGTH) for row in range(32)]
        bounded = example_inputs(case.module, "retrieve_bounded", [film(*range(row)) for row in range(32)])
        bounded[contract.BOUNDS] = history_array(bounds)
        described = {contract.HISTORY: history_array([[]])}
        cases[kind] = case
        asked = {"retrieve_filtered": inputs, "describe_rules": described, "retrieve_bounded": bounded}
        requests[case.folder] = list(asked.items())
    (folder / "requests").write_bytes(pickle.dumps(requests))
    command = [sys.executable, READER, "tf1_session", folder / "requests", folder / "answers"]
    subprocess.run(command, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}, check=True, timeout=300)
    answers = pickle.loads((folder / "answers").read_bytes())
    return {kind: (case, requests[case.folder], answers[case.folder]) for kind, case in cases.items()}


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_a_saved_bundle_filters(saved, kind):
    case, [(_, inputs), *_], [answer, described, _] = saved[kind]
    expected_answer = case.module.retrieve_filtered(**{name: tf.constant(value) for name, value in inputs.items()})
    np.testing.assert_array_equal(answer[contract.NUM_RESULTS], expected_answer[contract.NUM_RESULTS])
    clusters = case.items.clusters
    for row, conditions in enumerate(inputs[contract.WHERE]):
        ids = answer[contract.ITEM_IDS][row, : answer[contract.NUM_RESULTS][row]]
        assert all(passes(i, conditions, case.attributes, NAMES[clusters[i]]) for i in case.rows(ids))
        if kind == "exact":
            assert ids.tolist() == expected_answer[contract.ITEM_IDS].numpy()[row, : len(ids)].tolist()
    assert b"in stock=true" in described[contract.KNOWN_CONDITIONS][0]
    assert [column["name"] for column in case.manifest["attributes"]] == [one.name for one in case.attributes]
    assert case.manifest["attribute_bytes_per_item"] > 0


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_a_saved_bundle_keeps_bounds(saved, kind):
    case, [*_, (_, inputs)], [*_, answer] = saved[kind]
    expected = case.module.retrieve_bounded(**{name: tf.constant(value) for name, value in inputs.items()})
    counts = answer[contract.NUM_RESULTS]
    np.testing.assert_array_equal(counts, expected[contract.NUM_RESULTS])
    kept = 0
    for row, bounds in enumerate(inputs[contract.BOUNDS]):
        items = case.rows(answer[contract.ITEM_IDS][row, : counts[row]])
        if kind == "exact":
            assert items == case.rows(expected[contract.ITEM_IDS].numpy()[row, : counts[row]])
        groups = [groups_of(item, bounds, case.attributes, 0) for item in items]
        results = Counter(key for own in groups for key in own)
        assert all(results[key] <= most for own in groups for key, (_, most) in own.items())
        kept += sum(results[key] >= least > 0 for key, least in read(bounds)[0].items())
    assert kept > 10
