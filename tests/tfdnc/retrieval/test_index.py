"""One contract for every index, against NumPy, and what only ScaNN can get wrong."""

import math
import sys

import numpy as np
import pytest

from tests.tfdnc.small_scann import shrink
from tfdnc.backend import tf
from tfdnc.contracts.errors import UserError
from tfdnc.retrieval.index import INDEXES, AutoIndex, ExactIndex, ScannIndex
from tfdnc.retrieval.index import auto as auto_module
from tfdnc.retrieval.index import scann as scann_module
from tfdnc.retrieval.index.effort import Calibration, Effort, Efforts, Measurement
from tfdnc.retrieval.index.users import Users

SIZES = (1, 5, 0, 40, 300)
OFFSETS = np.concatenate([[0], np.cumsum(SIZES)])
N, K, D = sum(SIZES), len(SIZES), 8
ITEMS = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


@pytest.fixture(scope="module", params=list(INDEXES.names()))
def index(request):
    return INDEXES.resolve(request.param)(tf.Variable(ITEMS), OFFSETS, name=f"test-{request.param}", max_k=50)


def make_queries(batch, vectors, seed=1):
    return np.random.default_rng(seed).normal(size=(batch, vectors, D)).astype(np.float32)


def kinds(index):
    return [cluster["kind"] for cluster in index.settings]


def oracle(vectors, seen, k, per_cluster):
    """Per row and cluster: the unseen rows, best first, their scores, and the log-partition."""
    for row, interests in enumerate(vectors):
        for cluster in range(K):
            rows = OFFSETS[cluster] + np.arange(SIZES[cluster])
            searching = interests[cluster : cluster + 1] if per_cluster else interests
            scores = (ITEMS[rows] @ searching.T).max(axis=1)
            partition = np.log(np.exp(scores).sum()) if len(rows) else -np.inf
            unseen = ~np.isin(rows + 1, seen[row])
            order = np.argsort(-scores[unseen], kind="stable")[:k]
            yield row, cluster, rows[unseen][order], scores[unseen][order], partition


def check_against_oracle(search, vectors, seen, k, per_cluster):
    candidates, partition = search(vectors, seen, k, per_cluster=per_cluster)
    scores, rows, clusters, ranks = (x.numpy() for x in candidates)
    np.testing.assert_array_equal(clusters, np.repeat(np.arange(K), np.minimum(k, SIZES)))
    np.testing.assert_array_equal(ranks, np.concatenate([np.arange(min(k, size)) for size in SIZES]))
    for row, cluster, best, best_scores, log_partition in oracle(vectors, seen, k, per_cluster):
        columns = np.flatnonzero(clusters == cluster)
        available = scores[row, columns] > -np.inf
        assert (np.flatnonzero(available) == np.arange(len(best))).all()  # available ones come first
        np.testing.assert_array_equal(rows[row, columns][available], best)
        np.testing.assert_allclose(scores[row, columns][available], best_scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(partition[row, cluster], log_partition, rtol=1e-4)


@pytest.mark.parametrize(("num_vectors", "per_cluster"), [(1, False), (3, False), (K, False), (K, True)])
@pytest.mark.parametrize("k", [1, 7, 400])
def test_every_cluster_answers_with_its_own_best_unseen_items(index, num_vectors, per_cluster, k):
    vectors = make_queries(4, num_vectors)
    seen = np.random.default_rng(2).integers(0, N + 1, size=(4, 60)).astype(np.int32)
    check_against_oracle(index.search, vectors, seen, k, per_cluster)


@pytest.mark.parametrize("k", [3, 400])
def test_an_item_that_several_interests_find_appears_once(index, k):
    vectors = make_queries(4, 3)
    vectors[0, 1] = vectors[0, 0]  # the same interest twice
    vectors[1, 1:] = 2 * vectors[1, :1]  # the same order, other scores
    vectors[2, 2] = -vectors[2, 0]  # nothing in common
    seen = np.random.default_rng(7).integers(0, N + 1, size=(4, 60)).astype(np.int32)
    check_against_oracle(index.search, vectors, seen, k, per_cluster=False)


def test_a_vector_per_cluster_needs_k_vectors(index):
    with pytest.raises(ValueError, match=f"one per cluster, {K}, got 3"):
        index.search(make_queries(1, 3), np.zeros([1, 1], np.int32), 5, per_cluster=True)


@pytest.mark.parametrize("per_cluster", [False, True])
def test_seen_items_may_repeat_and_may_fill_clusters(index, per_cluster):
    vectors = make_queries(3, K)
    seen = np.zeros([3, 90], np.int32)  # row 0 has seen nothing
    seen[1, 10:56] = np.arange(1, 47)  # all of the clusters 0, 1 and 3
    seen[2, ::2] = 100  # one item again and again
    check_against_oracle(index.search, vectors, seen, 20, per_cluster)


def test_a_history_without_columns_is_empty(index):
    vectors, seen = make_queries(2, 1), np.zeros([2, 0], np.int32)
    check_against_oracle(index.search, vectors, seen, 5, per_cluster=False)


@pytest.mark.parametrize("per_cluster", [False, True])
def test_a_row_does_not_depend_on_its_batch(index, per_cluster):
    vectors = make_queries(5, K)
    seen = np.random.default_rng(3).integers(0, N + 1, size=(5, 30)).astype(np.int32)
    together, _ = index.search(vectors, seen, 20, per_cluster=per_cluster)
    for row in range(5):
        alone, _ = index.search(vectors[row : row + 1], seen[row : row + 1], 20, per_cluster=per_cluster)
        np.testing.assert_array_equal(together.rows[row], alone.rows[0])


@pytest.mark.parametrize("per_cluster", [False, True])
def test_a_graph_with_a_late_k_answers_as_eager_code_does(index, per_cluster):
    vectors, seen = make_queries(2, K), np.full([2, 3], 9, np.int32)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, K, D]),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([], tf.int32),
        ]
    )
    def search(v, s, k):
        return index.search(v, s, k, per_cluster=per_cluster)

    for k in (3, 30):
        check_against_oracle(lambda v, s, k, per_cluster: search(v, s, k), vectors, seen, k, per_cluster)


def test_the_exact_index_follows_the_item_matrix():
    items = tf.Variable(tf.zeros([N, D]))
    index = ExactIndex(items, OFFSETS)
    items.assign(ITEMS)
    vectors, seen = make_queries(1, 1), np.zeros([1, 1], np.int32)
    check_against_oracle(index.search, vectors, seen, 5, per_cluster=False)


@pytest.fixture(scope="module")
def large():
    """Clusters that lowered limits send to brute force, hashing and tree."""
    rng = np.random.default_rng(4)
    sizes = (100, 1500, 4000)
    centres = rng.normal(size=(30, 16))
    items = (centres[rng.integers(0, 30, sum(sizes))] + 0.5 * rng.normal(size=(sum(sizes), 16))).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch, hashing_from=1000, tree_from=3000)
        near = items[rng.integers(0, len(items), [64, 1])]
        vectors = (near + 0.2 * rng.normal(size=near.shape)).astype(np.float32)
        users = Users(vectors, np.zeros([64, 3], np.float32), np.zeros([64, 1], np.int32), per_cluster=False)
        index = ScannIndex(tf.Variable(items), offsets, name="large", max_k=50, users=users)
    return items, offsets, index


def test_scann_settings_follow_the_size_of_the_cluster(large):
    assert kinds(large[2]) == ["scann_brute_force", "scann_hashing", "scann_tree_hashing"]


def test_vectors_are_stored_once(large):
    """A bundle of a million items had a second copy of them in its variables, and at export a third in a searcher."""
    floats = [v.shape.as_list() for v in large[2].variables if v.dtype == tf.float32 and v.shape.rank == 2]
    assert [shape for shape in floats if shape[1] == 16] == [[5600, 16]]


def test_effort_grows_with_what_is_asked_for_and_reaches_the_recall(large):
    brute_force, hashing, tree = large[2].settings
    assert set(brute_force) == {"kind", "items"}
    assert tree["leaves"] == 63
    for cluster in (hashing, tree):
        measured = cluster["effort"]
        assert [one["candidates"] for one in measured] == [4, 13, 50, 100]  # 100: seen items come on top of the 50
        assert all(one["recall"] >= 0.98 and one["microseconds"] > 0 for one in measured)
        assert all(one["candidates"] <= one["rescored"] <= cluster["items"] for one in measured)
    assert all(1 <= one["leaves_to_search"] <= 63 for one in tree["effort"])


def test_the_effort_of_a_request_is_that_of_the_first_measurement_that_is_wide_enough():
    measured = [Measurement(10, Effort(2, 30), 0.99, 1.0), Measurement(100, Effort(8, 200), 0.99, 1.0)]
    widths = (5, 10, 11, 200, 4000)
    efforts = dict(
        zip(widths, Calibration(measured, size=4000, leaves=63).efforts(np.array(widths)).tolist(), strict=True)
    )
    # Never fewer rescored than for the narrower one, and both in proportion beyond the widest.
    assert efforts == {5: [2, 15], 10: [2, 30], 11: [8, 30], 200: [16, 400], 4000: [63, 4000]}


def test_the_table_of_efforts_gives_no_less_than_the_calibrations_say_and_little_more():
    measured = [Measurement(10, Effort(2, 30), 0.99, 1.0), Measurement(100, Effort(8, 200), 0.99, 1.0)]
    calibrations = [Calibration(measured, 4000, 63), Calibration([], 70, 0), Calibration(measured, 101, 0)]
    efforts = Efforts(calibrations)
    for width in range(1, 103):
        widths = [min(40 * width, 4000), min(width, 70), width - 1 or 1]
        for calibration, asked, effort in zip(calibrations, widths, efforts(tf.constant(widths)), strict=True):
            [least] = calibration.efforts(np.array([asked]))
            [most] = calibration.efforts(np.array([min(calibration.size, math.ceil(1.05 * asked))]))
            assert (least <= [int(number) for number in effort]).all()
            assert ([int(number) for number in effort] <= most).all()


def test_a_recall_that_is_out_of_reach_is_said_loudly(large, caplog, monkeypatch):
    monkeypatch.setattr(scann_module, "HASHING_FROM", 1000)
    with caplog.at_level("WARNING"):
        ScannIndex(large[0][:1200], [0, 1200], name="impossible", max_k=50, recall=1.1)
    assert "cluster_0, 1200 items" in caplog.text
    assert "less than export.recall" in caplog.text


@pytest.mark.parametrize("interests", [1, 3])
def test_hashing_finds_what_the_exact_index_finds(large, interests):
    items, offsets, index = large
    rng = np.random.default_rng(5)
    near = items[rng.integers(0, len(items), [16, interests])]
    vectors = (near + 0.2 * rng.normal(size=(16, interests, 16))).astype(np.float32)
    seen = rng.integers(0, len(items) + 1, size=(16, 200)).astype(np.int32)
    found, partition = index.search(vectors, seen, 50, per_cluster=False)
    truth, true_partition = ExactIndex(items, offsets).search(vectors, seen, 50, per_cluster=False)
    for cluster in range(3):
        columns = truth.clusters.numpy() == cluster
        shared = [
            len(set(a) & set(b)) / 50
            for a, b in zip(found.rows.numpy()[:, columns], truth.rows.numpy()[:, columns], strict=True)
        ]
        assert np.mean(shared) >= 0.98
    assert not any(set(rows + 1) & set(row) for rows, row in zip(found.rows.numpy(), seen, strict=True))
    error = np.abs(partition - true_partition)
    assert error[:, 0].max() < 1e-4  # sampled whole
    index.enlarge_samples(4)
    better = np.abs(index.search(vectors, seen, 50, per_cluster=False)[1] - true_partition)
    assert better.max() < 1e-4  # now all are
    index.enlarge_samples(1)
    assert error.max() < 0.3


def test_a_search_that_comes_up_short_invents_no_item(large):
    items, _, index = large
    brute_force, hashing, _ = (searcher.calibration for searcher in index._searchers)
    # Four of 63 leaves hold 100 to 600 items of 4,000. One leaf may hold none: ScaNN's leaves depend on its threads.
    few_leaves = Calibration([Measurement(2000, Effort(4, 2000), 0.0, 0.0)], 4000, 63)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "_efforts", Efforts([brute_force, hashing, few_leaves]))
        candidates, _ = index.search(items[-5:, None], np.zeros([5, 1], np.int32), 1000, per_cluster=False)
    columns = candidates.clusters.numpy() == 2
    scores, rows = candidates.scores.numpy()[:, columns], candidates.rows.numpy()[:, columns]
    for row in range(5):
        available = scores[row] > -np.inf
        assert 0 < available.sum() < 1000
        assert available[: available.sum()].all()
        assert len(set(rows[row][available])) == available.sum()
        np.testing.assert_allclose(
            scores[row][available], items[rows[row][available]] @ items[len(items) - 5 + row], rtol=1e-4, atol=1e-4
        )


def test_auto_uses_scann_only_where_it_pays(monkeypatch):
    """By the time that is measured, which the test replaces: no clock of a busy machine is asked."""
    sizes = (10, 99, 300, 400)
    items = np.random.default_rng(6).normal(size=(sum(sizes), 4)).astype(np.float32)
    monkeypatch.setattr(scann_module, "HASHING_FROM", 20)
    monkeypatch.setattr(auto_module, "SCANN_FROM", 100)
    monkeypatch.setattr(auto_module, "exact_microseconds", lambda _, spec: {300: 0.0, 400: 1e9}[spec.size])
    index = AutoIndex(items, np.concatenate([[0], np.cumsum(sizes)]), name="auto", max_k=10)
    assert kinds(index) == ["exact", "exact", "exact", "scann_hashing"]


def test_exact_and_approximate_clusters_answer_side_by_side(monkeypatch):
    """The approximate one in the middle, so that neither its place nor its columns are the first or the last."""
    monkeypatch.setattr(auto_module, "SCANN_FROM", 100)
    monkeypatch.setattr(scann_module, "HASHING_FROM", 100)
    monkeypatch.setattr(auto_module, "exact_microseconds", lambda *_: 1e9)
    index = AutoIndex(ITEMS, (0, 20, 320, N), name="mixed", max_k=10)
    assert kinds(index) == ["exact", "scann_hashing", "exact"]
    vectors, seen = make_queries(4, 3), np.random.default_rng(8).integers(0, N + 1, size=(4, 60)).astype(np.int32)
    found, partition = index.search(vectors, seen, 10, per_cluster=True)
    truth, true_partition = ExactIndex(ITEMS, (0, 20, 320, N)).search(vectors, seen, 10, per_cluster=True)
    np.testing.assert_array_equal(found.clusters, truth.clusters)
    assert np.mean(found.rows.numpy() == truth.rows.numpy()) > 0.9
    np.testing.assert_allclose(partition, true_partition, rtol=1e-4)  # 300 items are sampled whole
    _, unread = index.search(vectors, seen, 10, per_cluster=True, with_partition=False)
    assert unread.shape == [4, 3]


def test_auto_searches_exactly_what_scann_does_not_find(monkeypatch):
    items = np.random.default_rng(6).normal(size=(300, 4)).astype(np.float32)
    monkeypatch.setattr(scann_module, "HASHING_FROM", 20)
    monkeypatch.setattr(auto_module, "SCANN_FROM", 100)
    monkeypatch.setattr(auto_module, "exact_microseconds", lambda *_: 1e9)
    missed = [Measurement(10, Effort(-1, 10), 0.9, 1.0)]
    monkeypatch.setattr(scann_module, "calibrate", lambda *_: missed)
    assert kinds(AutoIndex(items, [0, 300], name="auto", max_k=10)) == ["exact"]


def test_a_missing_scann_is_said_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "scann", None)
    with pytest.raises(UserError, match="or use export"):
        ScannIndex(ITEMS, OFFSETS)
    assert kinds(AutoIndex(ITEMS, OFFSETS)) == ["exact"] * K
