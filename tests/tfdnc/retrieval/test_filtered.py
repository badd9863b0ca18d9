"""Searches under a filter: every index finds the best items that pass, as NumPy does, at every share of them."""

import numpy as np
import pytest

from tests.tfdnc.export.graph_ops import gathered_variables
from tests.tfdnc.small_scann import shrink
from tfdnc.backend import tf
from tfdnc.retrieval.index import ExactIndex, ScannIndex
from tfdnc.retrieval.index.filtered import FilteredSearch
from tfdnc.retrieval.rules.layout import Layout
from tfdnc.retrieval.rules.passing import Passing

SIZES = (1, 5, 0, 700, 1300)
OFFSETS = np.concatenate([[0], np.cumsum(SIZES)])
N, K, D, BATCH = sum(SIZES), len(SIZES), 8, 4
ITEMS = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
CLUSTERS = np.repeat(np.arange(K), SIZES)


@pytest.fixture(scope="module", params=["exact", "brute force", "hashing"])
def index(request):
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch, hashing_from=600 if request.param == "hashing" else 5000)
        kind = ExactIndex if request.param == "exact" else ScannIndex
        made = kind(tf.Variable(ITEMS), OFFSETS, name=f"filtered-{request.param}", max_k=50)
        made.accept_filters()
    return made


def passing_of(masks, rule):
    layout = Layout(OFFSETS)
    return Passing(tf.constant(layout.pack(masks)), tf.constant(rule, tf.int32), layout)


def best(vectors, mask, seen, k):
    """Rows of the best items of every cluster that pass and are unseen, best first."""
    free = mask & ~np.isin(np.arange(1, N + 1), seen)
    for cluster in range(K):
        rows = np.flatnonzero(free & (cluster == CLUSTERS))
        scores = (ITEMS[rows] @ vectors.T).max(axis=1)
        yield rows[np.argsort(-scores, kind="stable")][:k]


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.0])
@pytest.mark.parametrize(("num_vectors", "per_cluster"), [(1, False), (2, False), (K, True)])
def test_the_best_items_that_pass_are_found(index, share, num_vectors, per_cluster):
    rng = np.random.default_rng(int(100 * share))
    vectors = rng.normal(size=(BATCH, num_vectors, D)).astype(np.float32)
    masks, rule = rng.random([3, N]) < share, [2, 0, 1, 0]
    seen = rng.integers(0, N + 1, size=(BATCH, 60)).astype(np.int32)
    all_items, partition = index.search(vectors, seen, 20, per_cluster=per_cluster)
    found, filtered_partition = index.search(
        vectors, seen, 20, per_cluster=per_cluster, passing=passing_of(masks, rule)
    )
    np.testing.assert_array_equal(found.clusters, all_items.clusters)
    np.testing.assert_allclose(filtered_partition, partition, atol=0 if index.exhaustive else 0.3)
    hits, total = 0, 0
    for row in range(BATCH):
        own = vectors[row] if not per_cluster else None
        for cluster, rows in enumerate(best(vectors[row], masks[rule[row]], seen[row], 20)):
            if per_cluster:
                rows = list(best(vectors[row, cluster : cluster + 1], masks[rule[row]], seen[row], 20))[cluster]
            columns = found.clusters.numpy() == cluster
            scores, listed = found.scores.numpy()[row, columns], found.rows.numpy()[row, columns]
            available = scores > -np.inf
            assert (np.diff(scores[available]) <= 1e-6).all()
            listed = listed[available]
            assert masks[rule[row]][listed].all()
            assert not np.isin(listed + 1, seen[row]).any()
            assert len(listed) == len(set(listed.tolist())) == len(rows)
            hits, total = hits + np.isin(rows, listed).sum(), total + len(rows)
            if index.exhaustive:
                np.testing.assert_array_equal(listed, rows)
        del own
    assert hits >= 0.97 * total


def test_items_that_pass_but_are_far_from_the_user_are_found(index):
    """A filter may agree with the scores: an over-fetch by shares alone found none of the worst half."""
    vectors = np.random.default_rng(3).normal(size=(1, 1, D)).astype(np.float32)
    scores = ITEMS @ vectors[0, 0]
    mask = scores < np.median(scores)
    found, _ = index.search(
        vectors, np.zeros([1, 1], np.int32), 20, per_cluster=False, passing=passing_of(mask[None], [0])
    )
    for cluster, rows in enumerate(best(vectors[0], mask, [], 20)):
        listed = found.rows.numpy()[0][(found.clusters.numpy() == cluster) & (found.scores.numpy()[0] > -np.inf)]
        assert np.isin(rows, listed).mean() >= 0.95 if len(rows) else not len(listed)


def test_few_passing_items_are_scored_exactly_and_many_are_not():
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch, hashing_from=600)
        index = ScannIndex(tf.Variable(ITEMS), OFFSETS, name="filtered-plan", max_k=50)
        index.accept_filters()
    filters = index._filters()
    assert isinstance(filters, FilteredSearch)
    widths = tf.constant([1, 5, 0, 20, 20])
    for share, exact in ((1.0, False), (0.005, True)):
        masks = np.random.default_rng(0).random([1, N]) < share
        plan = filters.plan(passing_of(masks, [0, 0]), widths, True)
        assert plan.exact.numpy()[3:].tolist() == [exact, exact]


def test_a_search_under_a_filter_does_not_gather_from_the_item_variable(index):
    """The first one that scored passing items exactly made every later request of a bundle copy the item matrix."""

    @tf.function(autograph=False)
    def search(vectors, seen, words):
        passing = Passing(words, tf.constant([0]), Layout(OFFSETS))
        return index.search(vectors, seen, 20, per_cluster=False, passing=passing)[0].rows

    words = tf.constant(Layout(OFFSETS).pack(np.ones([1, N], bool)))
    traced = search.get_concrete_function(tf.zeros([1, 1, D]), tf.zeros([1, 1], tf.int32), words)
    assert tf.float32 not in gathered_variables(traced.graph)


def test_an_approximate_index_says_that_it_was_not_prepared():
    index = ScannIndex(tf.Variable(ITEMS[:6]), [0, 6], name="filtered-unprepared", max_k=5)
    passing = Passing(tf.constant([[-1]], tf.int64), tf.constant([0]), Layout([0, 6]))
    with pytest.raises(ValueError, match="accept_filters"):
        index.search(np.zeros([1, 1, D], np.float32), np.zeros([1, 1], np.int32), 2, per_cluster=False, passing=passing)
