"""Draws from the batch and from both sources: which rows, their log q, and the softmax that they estimate."""

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.model.catalogue import Catalogue, Targets
from tfdnc.model.losses import LOSSES
from tfdnc.model.losses.draw_sources import DRAW_SOURCES, pick
from tfdnc.model.randomness import Stream

COUNTS = np.array([1, 2, 3, 10, 4, 1, 1, 2])
OFFSETS = (0, 5, 8)
LABELS = np.repeat(np.arange(5), COUNTS[:5])  # each item of the first cluster as often as in training


def draw(name, n=4, k=0, labels=LABELS, step=1, **settings):
    train = TrainConfig(num_negatives=n, draws=name, **settings)
    catalogue = Catalogue(tf.zeros([8, 1]), OFFSETS, COUNTS)
    return DRAW_SOURCES.resolve(name)(catalogue, OFFSETS, train, Stream.at(1, step))(k, tf.constant(labels, tf.int32))


def test_the_batch_gives_its_own_targets_with_their_share_of_the_training_events():
    labels = [3, 3, 1]
    found = [draw("batch", labels=labels, step=step) for step in range(30)]
    assert {row for one in found for row in one.rows.numpy().tolist()} == {1, 3}
    expected = np.log(4 * COUNTS[found[0].rows.numpy()] / 20)
    np.testing.assert_allclose(found[0].log_expected, expected, rtol=1e-6)


@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_mixed_draws_have_the_probability_of_both_sources_together(exponent):
    found = draw("mixed", labels=[3], negative_exponent=exponent)
    of_pool = COUNTS[:5] ** exponent / np.sum(COUNTS[:5] ** exponent)
    expected = 2 * COUNTS[:5] / 20 + 2 * of_pool
    assert found.rows.numpy()[:2].tolist() == [3, 3]
    np.testing.assert_allclose(found.log_expected, np.log(expected)[found.rows.numpy()], rtol=1e-6)


@pytest.mark.parametrize("name", ["batch", "mixed"])
def test_weighted_draws_estimate_the_sum_over_the_pool(name):
    scores = np.exp(np.array([0.3, -1, 2, 0.5, 1]))
    sums = []
    for step in range(100):
        found = draw(name, step=step)
        sums.append(np.sum(scores[found.rows.numpy()] / np.exp(found.log_expected.numpy())))
    assert np.mean(sums) == pytest.approx(scores.sum(), rel=4 * np.std(sums) / scores.sum() / 10)
    assert np.std(sums) > 0


def test_a_pool_of_at_most_n_items_is_scored_whole_and_one_without_targets_has_draws():
    assert draw("batch", k=1, labels=[]) is None
    assert draw("batch", labels=[]).rows.numpy().tolist() == [0] * 4
    assert pick(tf.constant([7, 8], tf.int32), tf.constant([0, 0.49, 0.5, 1 - 1e-16], tf.float64)).numpy().tolist() == [
        7, 7, 8, 8
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["batch", "mixed"])
@pytest.mark.parametrize("loss", ["sampled_softmax", "in_cluster_sampled_softmax"])
def test_many_draws_give_nearly_the_loss_of_the_whole_softmax(name, loss):
    rng = np.random.default_rng(0)
    items = 3_000  # more than are drawn
    counts = np.ones(items)
    rows = np.arange(0, items, 2) if name == "mixed" else np.arange(items)  # the batch alone must hold every item
    states = tf.constant(rng.normal(size=[len(rows), 3]), tf.float32)
    clusters = tf.constant((rows >= 1_000).astype(np.int32))
    targets = Targets(tf.constant(rows + 1, tf.int32), clusters, tf.zeros([len(rows), 1]))
    counts[rows] = 5
    catalogue = Catalogue(tf.constant(rng.normal(size=[items, 3]) * 0.3, tf.float32), (0, 1_000, items), counts)
    train = TrainConfig(loss=loss, num_negatives=900, draws=name)
    arguments = (states, targets, catalogue, train, tf.float32, Stream.at(1, 1))
    whole = LOSSES.resolve(loss.replace("sampled_", ""))(*arguments)
    np.testing.assert_allclose(tf.reduce_mean(LOSSES.resolve(loss)(*arguments)), tf.reduce_mean(whole), rtol=0.01)


def test_a_loss_for_uniform_negatives_takes_no_others():
    targets = Targets(tf.constant([1]), tf.constant([0]), tf.zeros([1, 1]))
    catalogue = Catalogue(tf.zeros([8, 3]), OFFSETS, COUNTS)
    train = TrainConfig(loss="gbce", draws="batch")
    with pytest.raises(UserError, match=r"Expected train\.draws pool with train\.loss gbce"):
        LOSSES.resolve("gbce")(tf.zeros([1, 3]), targets, catalogue, train, tf.float32, None)
