"""A list searched in two passes is the list of one wide search, however wrong the guess."""

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.config import MergeConfig
from tfdnc.retrieval.index import ExactIndex
from tfdnc.retrieval.index.listing import expected_shares, search_list
from tfdnc.retrieval.merge import MERGES, Controls, merge, select_keys

SIZES = (1, 300, 0, 500, 400)
OFFSETS = np.concatenate([[0], np.cumsum(SIZES)])
N, K, D, M = sum(SIZES), len(SIZES), 8, 120
RNG = np.random.default_rng(0)
INDEX = ExactIndex(tf.Variable(RNG.normal(size=(N, D)).astype(np.float32)), OFFSETS)


class CountingIndex:
    """The index, with the numbers of candidates it was asked for."""

    sizes = INDEX.sizes

    def __init__(self):
        self.asked = []

    def search(self, vectors, seen, k, *, per_cluster, with_partition=True):
        self.asked.append(np.broadcast_to(k, [K]).tolist())
        return INDEX.search(vectors, seen, k, per_cluster=per_cluster, with_partition=with_partition)


def make_request(batch, sharpness):
    vectors = RNG.normal(size=(batch, K, D)).astype(np.float32)
    log_intent = np.log(RNG.dirichlet(np.full(K, 1 / sharpness), size=batch) + 1e-9).astype(np.float32)
    seen = RNG.integers(0, N + 1, size=(batch, 40)).astype(np.int32)
    lengths = RNG.integers(1, M + 1, size=batch).astype(np.int32)
    return vectors, log_intent, seen, lengths


def both(request, shares, method="joint", alpha=-1.0):
    """The list of two passes, that of one, and the index that was asked."""
    vectors, log_intent, seen, lengths = request
    config = MergeConfig(method=method)
    alphas = tf.repeat(alpha, len(lengths))

    def keys_of(candidates, log_partition):
        return select_keys(candidates, log_partition, log_intent, Controls(tf.constant(lengths), alphas), config)

    index, most = CountingIndex(), tf.repeat(lengths.max(), K)
    shares = expected_shares(log_intent, alphas, config) if shares is None else tf.constant(shares, tf.float32)
    two = search_list(index, vectors, seen, most, shares, lengths, M, keys_of, per_cluster=True)
    candidates, log_partition = INDEX.search(vectors, seen, most, per_cluster=True)
    one = merge(candidates, keys_of(candidates, log_partition), lengths, M, K)
    return two, one, index


def assert_same(two, one):
    for name in ("rows", "clusters", "num_results", "quotas"):
        np.testing.assert_array_equal(getattr(two, name), getattr(one, name), err_msg=name)
    np.testing.assert_allclose(two.keys, one.keys, rtol=1e-5)


@pytest.mark.parametrize("method", MERGES.names())
@pytest.mark.parametrize("sharpness", [0.3, 3.0])
def test_every_merge_gets_the_list_of_a_wide_search(method, sharpness):
    for batch in (1, 4):
        two, one, _ = both(make_request(batch, sharpness), None, method)
        assert_same(two, one)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 50.0, np.inf])
def test_rows_that_ask_for_quotas_get_them(alpha):
    two, one, _ = both(make_request(3, 2.0), None, alpha=alpha)
    assert_same(two, one)


@pytest.mark.parametrize("cluster", range(K))
def test_a_guess_that_is_all_wrong_costs_a_second_search_only(cluster):
    request = make_request(2, 1.0)
    two, one, index = both(request, np.tile(np.eye(K)[cluster], [2, 1]))
    assert_same(two, one)
    assert len(index.asked) == 2


def test_a_good_guess_searches_once_and_little():
    request = make_request(1, 1.0)
    request[3][:] = M
    _, one, _ = both(request, None)
    two, _, index = both(request, one.quotas.numpy() / M)
    assert_same(two, one)
    [asked] = index.asked
    assert max(asked) <= M
    assert sum(asked) <= 3 * M + 32 * K


def test_a_large_batch_is_searched_once_as_wide_as_its_longest_list():
    two, one, index = both(make_request(5, 1.0), np.zeros([5, K]))
    assert_same(two, one)
    assert len(index.asked) == 1


def test_a_list_of_everything_ends_with_everything():
    vectors, log_intent, _, _ = make_request(1, 1.0)
    seen = np.arange(1, N + 1, dtype=np.int32)[None].copy()
    seen[0, [0, 5, 700, 800]] = 0  # four items are left
    two, one, _ = both((vectors, log_intent, seen, np.int32([M])), None)
    assert_same(two, one)
    assert two.num_results[0] == 4
