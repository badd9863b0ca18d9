"""Every merge against an independent oracle: seat-by-seat apportionment, and an exact sort for the joint merge."""

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.config import MergeConfig
from tfdnc.contracts.errors import UserError
from tfdnc.retrieval.merge import BY_RANK, MERGES, Candidates, Controls, apportion, merge, reads_partition, select_keys
from tfdnc.retrieval.merge import quota_bounds as bounds_of

SIZES = (1, 3, 7, 20, 25, 30)
K, C = len(SIZES), sum(SIZES)
CLUSTERS = np.repeat(np.arange(K), SIZES)
RANKS = np.concatenate([np.arange(size) for size in SIZES])
ALPHAS = (0.0, 0.5, 1.0, 3.0, 50.0, np.inf)


def make_candidates(batch, seed=0, available=SIZES):
    """Random descending scores; cluster k has its first `available[k]` columns."""
    scores = np.random.default_rng(seed).normal(size=(batch, C)).astype(np.float32)
    for start, size, kept in zip(np.cumsum(SIZES) - SIZES, SIZES, available, strict=True):
        block = scores[:, start : start + size]
        block[:] = -np.sort(-block, axis=1)
        block[:, kept:] = -np.inf
    rows = np.tile(np.arange(C, dtype=np.int32), (batch, 1))
    return Candidates(*(tf.constant(x) for x in (scores, rows, CLUSTERS.astype(np.int32), RANKS.astype(np.int32))))


def make_log_intent(batch, seed=1, concentration=0.5):
    intent = np.random.default_rng(seed).dirichlet(np.full(K, concentration), size=batch)
    return np.log(intent).astype(np.float32)


def keys_of(method, candidates, log_intent, alpha=1.0, log_partition=None, **config):
    batch = len(log_intent)
    partition = np.zeros([batch, K], np.float32) if log_partition is None else log_partition
    alphas = tf.fill([batch], tf.constant(alpha, tf.float32))
    return MERGES.resolve(method)(candidates, partition, log_intent, alphas, MergeConfig(method=method, **config))


def quotas_of(candidates, keys, length, width=C):
    return merge(candidates, keys, tf.fill([tf.shape(keys)[0]], length), width, K).quotas.numpy()


def webster(log_weights, available, seats):
    """Seat by seat: the next one goes to the cluster with the largest w / (2 s + 1) that has a candidate left."""
    taken = np.zeros(K, int)
    for _ in range(min(seats, sum(available))):
        averages = log_weights - np.log(2.0 * taken + 1.0)
        taken[np.argmax(np.where(taken < available, averages, -np.inf))] += 1
    return taken


def best_first(log_intent, available, seats):
    taken = np.zeros(K, int)
    for cluster in np.argsort(-log_intent, kind="stable"):
        taken[cluster] = min(available[cluster], seats - taken.sum())
    return taken


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("available", [SIZES, (1, 0, 2, 20, 3, 1)])
def test_quota_is_the_highest_averages_apportionment(alpha, available):
    candidates, log_intent = make_candidates(4, available=available), make_log_intent(4)
    keys = keys_of("quota", candidates, log_intent, alpha)
    for seats in (1, 2, 7, 20, 50, C):
        quotas = quotas_of(candidates, keys, seats)
        assert (quotas.sum(axis=1) == min(seats, sum(available))).all()
        for row, got in zip(log_intent.astype(np.float64), quotas, strict=True):
            oracle = best_first(row, available, seats) if alpha == np.inf else webster(alpha * row, available, seats)
            np.testing.assert_array_equal(got, oracle)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_quota_follows_the_paper_within_rounding(alpha):
    seats = 20
    log_intent = make_log_intent(20, concentration=5.0)
    candidates = make_candidates(20)
    weights = np.exp(alpha * log_intent[:, 3:])  # the clusters with at least `seats` candidates
    log_intent[:, :3] = -np.inf
    share = seats * weights / weights.sum(axis=1, keepdims=True)
    quotas = quotas_of(candidates, keys_of("quota", candidates, log_intent, alpha), seats)
    assert np.abs(quotas[:, 3:] - share).max() < 1


def test_a_longer_list_only_adds_to_a_shorter_one():
    candidates, log_intent = make_candidates(3), make_log_intent(3)
    for method in MERGES:
        keys = keys_of(method, candidates, log_intent)
        whole = merge(candidates, keys, tf.fill([3], C), C, K).rows.numpy()
        for length in range(1, C):
            got = merge(candidates, keys, tf.fill([3], length), length, K).rows.numpy()
            np.testing.assert_array_equal(got, whole[:, :length])


def test_a_sharp_alpha_survives_probabilities_whose_power_underflows():
    log_intent = np.log(np.full([1, K], 1 / K, np.float32))
    log_intent[0, 2] += 0.1  # (1/6) ** 50 is 0 in float32
    candidates = make_candidates(1)
    quotas = quotas_of(candidates, keys_of("quota", candidates, log_intent, alpha=50.0), 20)
    np.testing.assert_array_equal(quotas[0], webster(50.0 * log_intent[0].astype(np.float64), SIZES, 20))
    assert quotas.sum() == 20


@pytest.mark.parametrize("method", list(MERGES.names()))
def test_clusters_of_probability_zero_only_fill_what_is_left(method):
    log_intent = np.full([1, K], -np.inf, np.float32)
    log_intent[0, 2] = 0.0
    candidates = make_candidates(1)
    everything = merge(candidates, keys_of(method, candidates, log_intent, top_clusters=1), [C], C, K)
    assert everything.num_results.numpy() == [C]
    assert np.isfinite(everything.keys.numpy()).all()
    if method not in ("equal", "score"):  # these do not ask the intent
        assert (everything.clusters.numpy()[0, : SIZES[2]] == 2).all()


def test_equal_gives_every_cluster_the_same():
    candidates = make_candidates(2)
    quotas = quotas_of(candidates, keys_of("equal", candidates, make_log_intent(2), alpha=3.0), 24)
    np.testing.assert_array_equal(quotas, [[1, 3, 5, 5, 5, 5]] * 2)


def test_top_clusters_share_equally_and_the_rest_fill_up_in_order():
    log_intent = np.log(np.array([[0.3, 0.25, 0.2, 0.1, 0.05, 0.1]], np.float32))
    candidates = make_candidates(1)
    keys = keys_of("top_clusters", candidates, log_intent, top_clusters=3)
    np.testing.assert_array_equal(quotas_of(candidates, keys, 9)[0], [1, 3, 5, 0, 0, 0])
    np.testing.assert_array_equal(quotas_of(candidates, keys, 30)[0], [1, 3, 7, 19, 0, 0])
    np.testing.assert_array_equal(quotas_of(candidates, keys, 36)[0], [1, 3, 7, 20, 0, 5])


def test_joint_sorts_by_the_probability_of_the_item():
    candidates, log_intent = make_candidates(5, available=(1, 0, 2, 20, 3, 30)), make_log_intent(5)
    log_partition = np.random.default_rng(2).normal(3, 1, size=(5, K)).astype(np.float32)
    merged = merge(candidates, keys_of("joint", candidates, log_intent, log_partition=log_partition), [40] * 5, 40, K)
    probability = candidates.scores.numpy() + (log_intent - log_partition)[:, CLUSTERS]  # -inf where unavailable
    order = np.argsort(-probability, axis=1, kind="stable")[:, :40]
    np.testing.assert_array_equal(merged.rows.numpy(), order)
    np.testing.assert_allclose(merged.keys.numpy(), np.take_along_axis(probability, order, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(merged.clusters.numpy(), CLUSTERS[order])


@pytest.mark.parametrize("alpha", [0.0, 0.7, 2.0])
def test_joint_with_alpha_raises_the_intent_alone_to_that_power(alpha):
    candidates, log_intent = make_candidates(5, available=(1, 0, 2, 20, 3, 30)), make_log_intent(5)
    log_partition = np.random.default_rng(2).normal(3, 1, size=(5, K)).astype(np.float32)
    keys = keys_of("joint", candidates, log_intent, log_partition=log_partition, alpha=alpha)
    expected = candidates.scores.numpy() + (alpha * log_intent - log_partition)[:, CLUSTERS]
    np.testing.assert_allclose(keys, expected, rtol=1e-5)


def test_joint_with_a_boundless_alpha_lists_the_likeliest_cluster_first():
    candidates, log_intent = make_candidates(5), make_log_intent(5)
    log_intent[:, 0] = -np.inf
    keys = keys_of("joint", candidates, log_intent, alpha=np.inf)
    clusters = merge(candidates, keys, [5] * 5, 5, K).clusters.numpy()
    assert (clusters[:, 0] == log_intent.argmax(axis=1)).all()
    assert not (clusters == 0).any()


def greedy(scores, diversity, seats):
    """ComiRec's selection: columns taken one by one, each the best of score - diversity * results of its cluster."""
    scores, taken, chosen = scores.astype(np.float64), np.zeros(K), []
    for _ in range(min(seats, int(np.sum(scores > -np.inf)))):
        column = int(np.argmax(scores - diversity * taken[CLUSTERS]))
        chosen.append(column)
        taken[CLUSTERS[column]] += 1
        scores[column] = -np.inf
    return chosen


@pytest.mark.parametrize("diversity", [0.0, 0.05, 0.3, 100.0])
@pytest.mark.parametrize("available", [SIZES, (1, 0, 2, 20, 3, 1)])
def test_score_is_the_greedy_selection_with_clusters_as_categories(diversity, available):
    candidates = make_candidates(6, available=available)
    keys = keys_of("score", candidates, make_log_intent(6), diversity=diversity)
    rows = merge(candidates, keys, [50] * 6, 50, K).rows.numpy()
    for got, scores in zip(rows, candidates.scores.numpy(), strict=True):
        expected = greedy(scores, diversity, 50)
        np.testing.assert_array_equal(got[: len(expected)], expected)
        assert (got[len(expected) :] == -1).all()


def test_score_without_diversity_is_the_order_of_the_scores():
    candidates = make_candidates(4)
    merged = merge(candidates, keys_of("score", candidates, make_log_intent(4)), [30] * 4, 30, K)
    order = np.argsort(-candidates.scores.numpy(), axis=1, kind="stable")[:, :30]
    np.testing.assert_array_equal(merged.rows.numpy(), order)


def test_a_row_does_not_depend_on_its_batch():
    candidates, log_intent = make_candidates(6), make_log_intent(6)
    for method in MERGES:
        together = merge(candidates, keys_of(method, candidates, log_intent), [30] * 6, 30, K)
        for row in range(6):
            one = candidates._replace(scores=candidates.scores[row : row + 1], rows=candidates.rows[row : row + 1])
            alone = merge(one, keys_of(method, one, log_intent[row : row + 1]), [30], 30, K)
            for batched, single in zip(together, alone, strict=True):
                np.testing.assert_array_equal(batched[row], single[0])


def test_rows_choose_their_merge_and_their_length():
    candidates, log_intent = make_candidates(3), make_log_intent(3)
    config = MergeConfig(method="joint", alpha=1.0)
    partition = np.zeros([3, K], np.float32)
    controls = Controls(num_candidates=tf.constant([5, 10, 1]), alpha=tf.constant([0.0, -1.0, 2.0]))
    assert reads_partition(controls, config)
    keys = select_keys(candidates, partition, log_intent, controls, config)
    np.testing.assert_array_equal(keys[0], keys_of("equal", candidates, log_intent)[0])
    np.testing.assert_array_equal(keys[1], keys_of("joint", candidates, log_intent)[1])
    np.testing.assert_array_equal(keys[2], keys_of("quota", candidates, log_intent, alpha=2.0)[2])
    merged = merge(candidates, keys, controls.num_candidates, 12, K)
    np.testing.assert_array_equal(merged.num_results, [5, 10, 1])
    np.testing.assert_array_equal(merged.quotas.numpy().sum(axis=1), [5, 10, 1])


@pytest.mark.parametrize("method", MERGES.names())
def test_rows_ask_for_the_joint_merge_whatever_is_configured(method):
    candidates, log_intent = make_candidates(4), make_log_intent(4)
    config = MergeConfig(method=method, alpha=2.0)
    partition = np.random.default_rng(2).normal(3, 1, size=(4, K)).astype(np.float32)
    asked, by_quota = tf.constant([0.5, -1.0, np.inf, 0.5]), tf.constant([-1.0, -1.0, -1.0, 1.0])
    controls = Controls(tf.constant([5] * 4), alpha=by_quota, joint_alpha=asked)
    keys = select_keys(candidates, partition, log_intent, controls, config)
    for row, expected in enumerate(
        [
            keys_of("joint", candidates, log_intent, 0.5, partition),
            keys_of(method, candidates, log_intent, 2.0, partition),
            keys_of("joint", candidates, log_intent, np.inf, partition),
            keys_of("quota", candidates, log_intent, 1.0),
        ]
    ):
        np.testing.assert_array_equal(keys[row], expected[row])
    assert reads_partition(controls, config)
    nothing = Controls(tf.constant([5] * 4), joint_alpha=tf.fill([4], -1.0))
    assert bool(reads_partition(nothing, config)) == (method == "joint")


@pytest.mark.parametrize("method", ["quota", "joint"])
def test_the_configured_merge_uses_the_configured_alpha(method):
    candidates, log_intent = make_candidates(1), make_log_intent(1)
    config = MergeConfig(method=method, alpha=2.5)
    for controls in (Controls(tf.constant([5])), Controls(tf.constant([5]), alpha=tf.constant([-1.0]))):
        keys = select_keys(candidates, np.zeros([1, K], np.float32), log_intent, controls, config)
        np.testing.assert_array_equal(keys, keys_of(method, candidates, log_intent, alpha=2.5))


def random_controls(rng, batch, available):
    """Rows that ask for anything at all: alpha or not, weights with zeros or not, bounds that can be kept or not."""
    weights = rng.choice([0.0, 0.5, 1.0, 7.0], size=[batch, K]).astype(np.float32)
    weights[:, -1] = 1.0
    weights[rng.random(batch) < 0.4] = -1
    minimum = rng.choice([-1, 0, 1, 2, 3], size=[batch, K]).astype(np.int32)
    maximum = np.where(rng.random([batch, K]) < 0.5, -1, np.maximum(minimum, 0) + rng.integers(0, 6, [batch, K]))
    return Controls(
        num_candidates=tf.constant(rng.integers(3 * K, C, batch), tf.int32),
        alpha=tf.constant(rng.choice([-1.0, 0.0, 1.0, 3.0, np.inf], batch), tf.float32),
        weights=tf.constant(weights),
        minimum=tf.constant(minimum),
        maximum=tf.constant(maximum, tf.int32),
        joint_alpha=tf.constant(rng.choice([-1.0, 0.0, 1.0], batch), tf.float32),
    )


def choose(keys, controls, row):
    """Columns that belong in a list, by the words of the contract: first the promised, then the best allowed."""
    minimum, maximum = controls.minimum[row].numpy()[CLUSTERS], controls.maximum[row].numpy()[CLUSTERS]
    allowed = (keys > -np.inf) & ((maximum < 0) | (maximum > RANKS))
    by_key = sorted(np.flatnonzero(allowed), key=lambda column: (-keys[column], column))
    promised = [column for column in by_key if RANKS[column] < minimum[column]]
    rest = [column for column in by_key if RANKS[column] >= minimum[column]]
    chosen = set((promised + rest)[: int(controls.num_candidates[row])])
    return [column for column in by_key if column in chosen]


@pytest.mark.parametrize("method", list(MERGES.names()))
def test_bounds_decide_who_is_in_and_the_keys_the_order(method):
    rng = np.random.default_rng(5)
    available = (1, 0, 2, 20, 3, 30)
    candidates, log_intent = make_candidates(20, available=available), make_log_intent(20)
    controls, config = random_controls(rng, 20, available), MergeConfig(method=method)
    partition = np.zeros([20, K], np.float32)
    free = select_keys(candidates, partition, log_intent, controls._replace(minimum=None, maximum=None), config).numpy()
    keys = select_keys(candidates, partition, log_intent, controls, config)
    rows = merge(candidates, keys, controls.num_candidates, C, K).rows.numpy()
    for row in range(20):
        expected = choose(free[row], controls, row)
        np.testing.assert_array_equal(rows[row, : len(expected)], expected)
        assert (rows[row, len(expected) :] == -1).all()


def test_weights_share_the_list_whatever_alpha_and_absolute_quotas_are_met():
    candidates, log_intent = make_candidates(3), make_log_intent(3)
    weights = np.array([[0, 0, 2, 10, 8, 0], [0, 0, 0.2, 1, 0.8, 0], [-1] * 6], np.float32)
    controls = Controls(tf.constant([20] * 3), alpha=tf.constant([0.0, 3.0, 0.0]), weights=tf.constant(weights))
    keys = select_keys(candidates, np.zeros([3, K], np.float32), log_intent, controls, MergeConfig(method="joint"))
    quotas = quotas_of(candidates, keys, 20)
    np.testing.assert_array_equal(quotas[:2], [[0, 0, 2, 10, 8, 0]] * 2)
    np.testing.assert_array_equal(quotas[2], quotas_of(candidates, keys_of("equal", candidates, log_intent), 20)[2])


def test_a_weight_of_zero_only_fills_what_is_left_and_a_maximum_of_zero_nothing():
    candidates, log_intent = make_candidates(2), make_log_intent(2)
    weights = tf.constant([[0.0, 0, 1, 0, 0, 0]] * 2)
    minimum, maximum = tf.fill([2, K], -1), tf.constant([[-1] * 6, [0, 0, -1, 0, 0, 0]])
    controls = Controls(tf.constant([12] * 2), None, weights, minimum, maximum)
    keys = select_keys(candidates, np.zeros([2, K], np.float32), log_intent, controls, MergeConfig())
    merged = merge(candidates, keys, controls.num_candidates, C, K)
    np.testing.assert_array_equal(merged.num_results, [12, 7])
    assert (merged.clusters.numpy()[:, :7] == 2).all()


@pytest.mark.parametrize("method", list(MERGES.names()))
def test_seats_are_the_quotas_where_the_merge_goes_by_rank_and_never_fewer(method):
    rng = np.random.default_rng(6)
    for available in (SIZES, (1, 0, 2, 20, 3, 30), (0,) * 6):
        candidates, log_intent = make_candidates(20, available=available), make_log_intent(20)
        everything = random_controls(rng, 20, available)
        unbounded = Controls(everything.num_candidates, everything.alpha)
        joint = Controls(everything.num_candidates, joint_alpha=everything.joint_alpha)
        for controls in (everything, unbounded, joint, Controls(everything.num_candidates)):
            config = MergeConfig(method=method, top_clusters=2, alpha=2.0)
            keys = select_keys(candidates, np.zeros([20, K], np.float32), log_intent, controls, config)
            quotas = merge(candidates, keys, controls.num_candidates, C, K).quotas.numpy()
            got = bounds_of(tf.constant([available] * 20), tf.constant(log_intent), controls, config).numpy()
            by_rank = np.full(20, method in BY_RANK)
            if controls.joint_alpha is not None:
                by_rank &= controls.joint_alpha.numpy() < 0
            if controls.alpha is not None:
                by_rank |= controls.alpha.numpy() >= 0
            if controls.weights is not None:
                by_rank |= (controls.weights.numpy() > 0).any(axis=1)
            np.testing.assert_array_equal(got[by_rank], quotas[by_rank])
            assert (got >= quotas).all()
            assert (got <= available).all()


def test_a_short_supply_is_padded():
    available = (1, 0, 0, 2, 0, 0)
    candidates = make_candidates(1, available=available)
    keys = keys_of("quota", candidates, make_log_intent(1))
    merged = merge(candidates, keys, [C + 10], C + 10, K)  # wider than there are columns
    assert merged.num_results.numpy() == [3]
    np.testing.assert_array_equal(merged.quotas.numpy()[0], available)
    for padding, value in ((merged.rows, -1), (merged.clusters, -1), (merged.keys, -np.inf)):
        assert (padding.numpy()[0, 3:] == value).all()
    assert len(set(merged.rows.numpy()[0, :3])) == 3


def test_an_unknown_merge_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match="equal, joint, quota, score, top_clusters"):
        MERGES.resolve("jiont")


@pytest.mark.parametrize("widths", [(21, 21, 21, 20), (33, 40, 17, 29)])
def test_equal_ranks_have_equal_keys_wherever_their_columns_stand(widths):
    """A float32 log gave rank 18 two values, and the bundle's list of alpha 0 other clusters than the evaluation's."""
    ranks = np.concatenate([np.arange(width) for width in widths]).astype(np.int32)
    clusters = np.repeat(np.arange(len(widths), dtype=np.int32), widths)
    candidates = Candidates(tf.zeros([1, len(ranks)]), tf.zeros([1, len(ranks)], tf.int32), clusters, ranks)
    [keys] = apportion(candidates, tf.zeros([1, len(widths)])).numpy()
    for rank in range(max(widths)):
        assert len(set(keys[ranks == rank])) == 1
