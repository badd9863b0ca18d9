"""Controls of a request: excluded items, shares of clusters, and the vectors that are encoded for them."""

import numpy as np
import pytest

from tests.tfdnc.export.bundle_cases import DIM, MAX_CANDIDATES, film, make_items, make_tower, retrieve_inputs
from tfdnc.backend import tf
from tfdnc.contracts import bundle
from tfdnc.contracts.config import ExportConfig, MergeConfig
from tfdnc.export.module import RetrievalModule
from tfdnc.retrieval.index import ExactIndex

SIZES = (1, 5, 14, 40)
K = len(SIZES)
ROWS = [film(0, 7, 25, 7), [], film(*range(6)), ["nobody knows"], film(*range(60))]


def make_module(folder, encoder, merge=None, seen="exclude"):
    items = make_items(SIZES)
    tower = make_tower(items, encoder)
    cold_vectors = np.random.default_rng(1).normal(size=[K, DIM])
    index = ExactIndex(tower.item_embeddings, items.offsets)
    export = ExportConfig(num_candidates=10, max_candidates=MAX_CANDIDATES)
    return RetrievalModule(tower, items, index, cold_vectors, merge or MergeConfig(), export, folder, seen)


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    return make_module(tmp_path_factory.mktemp("assets"), "hadamard_per_position")


def ask(
    module, rows=ROWS, num_candidates=10, alpha=-1.0, exclude=(), quotas=(), minimum=(), maximum=(), joint=-1.0, seen=""
):
    """The answer to a request that controls every row alike; () is not given."""

    def alike(values, dtype):
        return np.repeat(np.array([values], dtype), len(rows), axis=0)

    inputs = retrieve_inputs(rows, num_candidates, alpha) | {
        bundle.EXCLUDE: alike(exclude, object) if exclude else np.zeros([len(rows), 0], object),
        bundle.CLUSTER_QUOTAS: alike(quotas, np.float32),
        bundle.CLUSTER_MIN: alike(minimum, np.int32),
        bundle.CLUSTER_MAX: alike(maximum, np.int32),
        bundle.JOINT_ALPHA: np.broadcast_to(np.float32(joint), [len(rows)]),
        bundle.SEEN: np.broadcast_to(np.array(seen, object), [len(rows)]),
    }
    answer = module.retrieve_controlled(**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in answer.items()}


def plain(module, rows=ROWS, num_candidates=10, alpha=-1.0):
    inputs = retrieve_inputs(rows, num_candidates, alpha)
    return {k: v.numpy() for k, v in module.retrieve(**{k: tf.constant(v) for k, v in inputs.items()}).items()}


def assert_same(one, other):
    assert set(one) == set(other)
    for name, value in one.items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(value, other[name], rtol=1e-4, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("none", [(), (0,) * K])
def test_who_controls_nothing_gets_the_answer_of_retrieve(module, alpha, none):
    controlled = ask(module, alpha=alpha, quotas=none, minimum=none, maximum=none)
    assert_same(controlled, plain(module, alpha=alpha))


def test_excluded_items_do_not_come_back_and_say_nothing_about_the_user(module):
    before = plain(module)
    excluded = [item.decode() for item in before[bundle.ITEM_IDS][0, :3]]
    after = ask(module, exclude=[*excluded, "", "nobody knows", excluded[0]])
    np.testing.assert_array_equal(after[bundle.INTENT], before[bundle.INTENT])
    longer = plain(module, num_candidates=MAX_CANDIDATES)
    for row in range(len(ROWS)):
        left = [item for item in longer[bundle.ITEM_IDS][row] if item and item.decode() not in excluded][:10]
        np.testing.assert_array_equal(after[bundle.ITEM_IDS][row, : len(left)], left)
        assert after[bundle.NUM_RESULTS][row] == len(left)


def test_the_rule_of_the_bundle_counts_where_a_row_asks_for_none(module, tmp_path):
    allowing = make_module(tmp_path, "hadamard_per_position", seen="allow")
    rows = [film(0, 7, 25, 7)] * 3
    asked = {"rows": rows, "num_candidates": 40, "seen": ["exclude", "allow", ""]}
    (excluded, allowed, by_rule), other = ask(module, **asked)[bundle.ITEM_IDS], ask(allowing, **asked)[bundle.ITEM_IDS]
    assert {film(row)[0].encode() for row in (0, 7, 25)} & {*allowed} - {*excluded}
    np.testing.assert_array_equal(by_rule, excluded)
    np.testing.assert_array_equal(other, [excluded, allowed, allowed])
    np.testing.assert_array_equal(plain(allowing, rows[:1], num_candidates=40)[bundle.ITEM_IDS], [allowed])


def test_excluded_items_do_not_come_back_where_seen_ones_may(module):
    rows, chosen = [film(0, 7, 25)], film(7)[0]
    before = ask(module, rows, MAX_CANDIDATES, seen="allow")
    after = ask(module, rows, MAX_CANDIDATES, exclude=[chosen], seen="allow")
    assert chosen.encode() in before[bundle.ITEM_IDS][0]
    assert {*after[bundle.ITEM_IDS][0]} == {*before[bundle.ITEM_IDS][0]} - {chosen.encode()} | {b""}


def test_quotas_that_add_up_to_the_length_are_met_until_a_cluster_is_exhausted(module):
    answer = ask(module, rows=[[], film(*range(6))], quotas=(1, 2, 3, 4))
    np.testing.assert_array_equal(answer[bundle.QUOTAS][0], [1, 2, 3, 4])
    # The second user has seen the first two clusters: their 3 results go to the others in proportion.
    np.testing.assert_array_equal(answer[bundle.QUOTAS][1], [0, 0, 4, 6])


def test_minimum_and_maximum_bound_every_merge(module):
    for alpha in (-1.0, 0.0, 50.0):
        free = ask(module, rows=[film(9), film(30)], num_candidates=12, alpha=alpha)
        bound = ask(module, [film(9), film(30)], 12, alpha, minimum=(0, 2, 2, 2), maximum=(-1, 3, 5, 5))
        quotas = bound[bundle.QUOTAS]
        assert ((quotas >= [0, 2, 2, 2]) & (quotas <= [1, 3, 5, 5])).all()
        np.testing.assert_array_equal(quotas.sum(axis=1), 12)
        assert (np.diff(bound[bundle.SCORES][:, :12]) <= 0).all()  # still in the order of the merge
        assert (free[bundle.QUOTAS] != quotas).any()


def test_a_cluster_may_be_shut_out_and_the_list_end_early(module):
    answer = ask(module, rows=[[]], num_candidates=30, maximum=(0, -1, -1, 0))
    np.testing.assert_array_equal(answer[bundle.QUOTAS], [[0, 5, 14, 0]])
    assert answer[bundle.NUM_RESULTS] == [19]


@pytest.mark.parametrize(
    ("controls", "sentence"),
    [
        ({"minimum": (0, 4, 4, 3)}, "Expected the cluster_min of a row to add up to at most its num_candidates."),
        ({"minimum": (0, 3, 0, 0), "maximum": (-1, 2, -1, -1)}, "Expected no cluster_min above its cluster_max"),
        ({"minimum": (2**31 - 1,) * K}, "Expected the cluster_min of a row to add up"),
        (
            {"quotas": (1, 2, 3)},
            "Expected cluster_quotas to have 4 columns, one per cluster, or to be one",
        ),
        ({"maximum": (1,) * 5}, "Expected cluster_max to have 4 columns"),
        ({"quotas": (1, -1, 0, 0)}, "Expected cluster_quotas to be finite and from 0 up"),
        ({"quotas": (np.nan, 1, 0, 0)}, "Expected cluster_quotas to be finite"),
        ({"quotas": (np.inf, 1, 0, 0)}, "Expected cluster_quotas to be finite"),
        ({"num_candidates": MAX_CANDIDATES + 1}, "Expected num_candidates in 1..64"),
        ({"joint": np.nan}, "Expected joint_alpha to be a number"),
        ({"joint": 0.0, "alpha": 0.0}, "Expected joint_alpha or an alpha of 0 or more in a row, got both"),
        ({"joint": [-1, -1, 1, -1, -1], "alpha": 1.0}, "Expected joint_alpha or an alpha of 0 or more"),
        ({"joint": 1.0, "quotas": (1, 2, 3, 4)}, "Expected joint_alpha or cluster_quotas in a row, got both"),
        ({"seen": "perhaps"}, "Expected seen to be one of '', 'exclude', 'allow' in every row."),
        ({"seen": ["", "allow", "exclude", "Allow", ""]}, "Expected seen to be one of"),
    ],
)
def test_what_cannot_be_is_an_invalid_argument_with_a_sentence(module, controls, sentence):
    with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
        ask(module, **controls)


@pytest.fixture(scope="module", params=["hadamard_literal", "prefix"])
def literal(request, tmp_path_factory):
    return make_module(tmp_path_factory.mktemp("assets"), request.param, MergeConfig(method="quota", alpha=1.5))


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 1.0, 8.0, np.inf])
@pytest.mark.parametrize("num_candidates", [1, 3, 10, 50])
def test_encoding_only_for_clusters_with_results_changes_no_answer(literal, alpha, num_candidates, monkeypatch):
    wanted = []
    encode = literal._wanted_vectors
    monkeypatch.setattr(literal, "_wanted_vectors", lambda *args: wanted.append(args[1].numpy()) or encode(*args))
    skipping = plain(literal, num_candidates=num_candidates, alpha=alpha)
    monkeypatch.setattr(literal, "_encode_per_vector", False)
    assert_same(skipping, plain(literal, num_candidates=num_candidates, alpha=alpha))
    # No user is encoded for a cluster without results, and no user without a known item.
    known = np.array([True, False, True, False, True])[:, None]
    np.testing.assert_array_equal(wanted[0], (skipping[bundle.QUOTAS] > 0) & known)


def test_a_joint_merge_encodes_everything_and_its_quota_rows_what_they_need(tmp_path):
    module = make_module(tmp_path, "hadamard_literal")
    rows = [film(0, 7, 25)] * 3
    mixed = plain(module, rows, num_candidates=3, alpha=[-1.0, 50.0, 0.0])
    module._encode_per_vector = False
    assert_same(mixed, plain(module, rows, num_candidates=3, alpha=[-1.0, 50.0, 0.0]))
