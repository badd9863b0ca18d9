"""Filters of a bundle: equal to excluding every other item, for every merge; in fresh processes; and refusals."""

import itertools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serving.messages import history_array
from tests.tfdnc.export.bundle_cases import Case, film
from tests.tfdnc.export.test_export_controls import CLUSTERS, SIZES, K, N, bundle, draw_rows, expected, request_of
from tests.tfdnc.retrieval.rules.rule_oracle import draw_attributes, draw_conditions, passes
from tfdnc.backend import tf
from tfdnc.contracts import bundle as contract
from tfdnc.retrieval.rules.planes import build_planes
from tfdnc.retrieval.rules.rules import Rules

__all__ = ["bundle"]  # a fixture

READER = Path(__file__).with_name("export_reader.py")
NAMES = [f"cluster {k}" for k in range(K)]
ATTRIBUTES = draw_attributes(np.random.default_rng(5), N)


@pytest.fixture
def filtering(bundle, tmp_path):
    """The bundle of the controls, with attributes."""
    module, *others = bundle
    module._rules = Rules(build_planes(ATTRIBUTES, np.concatenate([[0], np.cumsum(SIZES)])), NAMES, tmp_path)
    yield module, *others
    module._rules = None


def draw_filtered(rng):
    """Rows with all combinations of controls, each with a rule, and some with allowed items."""
    for row in draw_rows(rng):
        conditions = draw_conditions(rng, ATTRIBUTES, NAMES)
        allowed = rng.integers(0, N, 25) if rng.random() < 0.2 else np.arange(N)
        mask = np.array([passes(i, conditions, ATTRIBUTES, NAMES[CLUSTERS[i]]) for i in range(N)])
        yield row, conditions, film(*allowed) if len(allowed) < N else [], mask & np.isin(np.arange(N), allowed)


def check_filtered(filtering, seeds):
    module, merge, rule, item_vectors = filtering
    rows, rules, allowed, masks = zip(
        *itertools.chain.from_iterable(draw_filtered(np.random.default_rng(seed)) for seed in seeds), strict=True
    )
    for start in range(0, len(rows), 512):
        part = slice(start, start + 512)
        request = request_of(rows[part]) | {
            contract.WHERE: history_array(rules[part]),
            contract.ALLOW: history_array(allowed[part]),
        }
        answer = module.retrieve_filtered(**{name: tf.constant(value) for name, value in request.items()})
        encoded = module.encode(tf.constant(request[contract.HISTORY]))
        answer, encoded = ({name: value.numpy() for name, value in one.items()} for one in (answer, encoded))
        for place, (row, mask) in enumerate(zip(rows[part], masks[part], strict=True)):
            vectors, intent = (encoded[name][place] for name in (contract.USER_EMBEDDINGS, contract.INTENT))
            gone = row | {"exclude": [*row["exclude"], *film(*np.flatnonzero(~mask))]}
            items = expected(gone, vectors, intent, item_vectors, merge, rule)
            found = [text.decode() for text in answer[contract.ITEM_IDS][place, : answer[contract.NUM_RESULTS][place]]]
            assert found == film(*items), (row, rules[start + place])
            np.testing.assert_array_equal(answer[contract.QUOTAS][place], np.bincount(CLUSTERS[items], minlength=K))


def test_a_filter_equals_excluding_every_other_item(filtering):
    """Keys do not change: probabilities are those of the whole cluster, so alpha means what it means without."""
    check_filtered(filtering, range(6))


@pytest.mark.slow
def test_ten_thousand_filters_equal_excluding_every_other_item(filtering):
    check_filtered(filtering, range(100, 205))  # 32 rows each, for three bundles


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({contract.WHERE: [["brand=nobody"]]}, "Expected a condition on an attribute of this bundle, got brand=nobody"),
        ({contract.WHERE: [["price"]]}, "got price. Columns: brand, tags, in stock, price, days, cluster"),
        ({contract.WHERE: [[""], [""]]}, "same number of rows"),
        ({contract.ALLOW: [["a"], ["b"]]}, "same number of rows"),
    ],
)
def test_bad_rules_are_refused(filtering, change, message):
    module, *_ = filtering
    row = next(draw_rows(np.random.default_rng(0)))
    request = request_of([row]) | {contract.WHERE: [[""]], contract.ALLOW: [[""]]} | change
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        module.retrieve_filtered(**{name: tf.constant(value) for name, value in request.items()})


def test_a_bundle_names_the_conditions_that_it_knows(filtering):
    known = filtering[0].describe_rules(tf.constant([["", "x"], ["", ""]]))[contract.KNOWN_CONDITIONS].numpy()
    texts = [condition.decode() for condition in known[0]]
    assert (known[0] == known[1]).all()
    assert texts[0] == "brand=brand 0"
    assert {"in stock=true", "tags=local=1", "tags=é", "cluster=cluster 3", "days>=-3", "days<=3"} <= set(texts)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Bundles with attributes by kind of index, and their answers in a fresh process of TF Serving's loader."""
    folder = tmp_path_factory.mktemp("filtered")
    sizes = {"exact": SIZES, "scann": (1, 40, 300, 900)}
    cases, requests = {}, {}
    declared = {name: contract.SIGNATURES[name] for name in ("serving_default", "describe")}  # others take time to save
    for kind, of_clusters in sizes.items():
        attributes = draw_attributes(np.random.default_rng(5), sum(of_clusters))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(contract, "SIGNATURES", declared)
            case = Case(folder / kind, of_clusters, kind, "hadamard_per_position", attributes=attributes)
        rows = list(draw_rows(np.random.default_rng(3)))
        rules = [draw_conditions(np.random.default_rng(row), attributes, NAMES) for row in range(len(rows))]
        inputs = request_of(rows) | {
            contract.WHERE: history_array(rules),
            contract.ALLOW: history_array([[]] * len(rows)),
        }
        described = {contract.HISTORY: history_array([[]])}
        cases[kind] = case
        requests[case.folder] = [("retrieve_filtered", inputs), ("describe_rules", described)]
    (folder / "requests").write_bytes(pickle.dumps(requests))
    command = [sys.executable, READER, "tf1_session", folder / "requests", folder / "answers"]
    subprocess.run(command, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}, check=True, timeout=300)
    answers = pickle.loads((folder / "answers").read_bytes())
    return {kind: (case, requests[case.folder], answers[case.folder]) for kind, case in cases.items()}


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_a_saved_bundle_filters(saved, kind):
    case, [(_, inputs), _], [answer, described] = saved[kind]
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


def test_a_bundle_without_attributes_has_the_signatures_of_before(bundle):
    module, *_ = bundle
    assert not module.has_rules
    assert contract.signatures_of(module.has_rules) == contract.SIGNATURES
