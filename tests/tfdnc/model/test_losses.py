"""The losses that draw nothing against NumPy, the edges of Eq. 3, and what holds for every loss."""

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.model.catalogue import Catalogue, Targets
from tfdnc.model.losses import LOSSES
from tfdnc.model.randomness import Stream

OFFSETS = (0, 3, 7, 8)  # the last cluster holds one item
ITEMS = np.random.default_rng(0).normal(size=[8, 5]).astype(np.float32)
STATES = np.random.default_rng(1).normal(size=[6, 5]).astype(np.float32)
TARGETS = np.array([1, 5, 8, 3, 7, 2])  # item indices, from 1
CLUSTERS = np.array([0, 1, 2, 0, 1, 0])
NEGATIVES = np.array([[2, 3], [4, 6], [0, 0], [1, 0], [5, 5], [3, 1]])
CATALOGUE = Catalogue(tf.constant(ITEMS), OFFSETS, np.array([5, 0, 1, 9, 2, 2, 0, 3]))
TRAIN = TrainConfig(num_negatives=2)  # fewer than the items of two clusters
STREAM = Stream.at(1, 1)


def compute(name, states=STATES):
    targets = Targets(*(tf.constant(part, tf.int32) for part in (TARGETS, CLUSTERS, NEGATIVES)))
    return LOSSES.resolve(name)(tf.constant(states), targets, CATALOGUE, TRAIN, tf.float32, STREAM).numpy()


def log_softmax(logits):
    return logits - np.log(np.sum(np.exp(logits)))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_config_knows_which_losses_read_the_negatives_of_the_batch(name):
    compute = LOSSES.resolve(name)
    targets = Targets(tf.constant(TARGETS), tf.constant(CLUSTERS), tf.constant(NEGATIVES))
    others = targets._replace(negatives=tf.roll(targets.negatives, 1, axis=0))
    losses = [compute(tf.constant(STATES), given, CATALOGUE, TRAIN, tf.float32, STREAM) for given in (targets, others)]
    assert np.array_equal(*losses) != TrainConfig(loss=name).reads_negatives


def test_bce_is_eq_3_on_the_negatives_of_the_records():
    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    expected = []
    for state, target, negatives in zip(STATES, TARGETS, NEGATIVES, strict=True):
        loss = -np.log(sigmoid(state @ ITEMS[target - 1]))
        present = [item for item in negatives if item]  # an exhausted cluster pads with 0, which weighs nothing
        if present:
            loss -= np.mean([np.log(1 - sigmoid(state @ ITEMS[item - 1])) for item in present])
        expected.append(loss)
    np.testing.assert_allclose(compute("bce"), expected, rtol=1e-5)


def test_softmax_competes_with_every_item():
    expected = [-log_softmax(ITEMS @ state)[target - 1] for state, target in zip(STATES, TARGETS, strict=True)]
    np.testing.assert_allclose(compute("softmax"), expected, rtol=1e-5)


def test_in_cluster_softmax_competes_with_the_items_of_the_targets_cluster_only():
    expected = []
    for state, target, cluster in zip(STATES, TARGETS, CLUSTERS, strict=True):
        start, stop = OFFSETS[cluster], OFFSETS[cluster + 1]
        expected.append(-log_softmax(ITEMS[start:stop] @ state)[target - 1 - start])
    np.testing.assert_allclose(compute("in_cluster_softmax"), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in sorted(LOSSES) if name.startswith("in_cluster")])
def test_a_cluster_of_one_item_costs_nothing(name):
    assert compute(name)[2] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_and_gradients_stay_finite_for_extreme_scores(name):
    states = tf.constant(STATES * 1e3)
    with tf.GradientTape() as tape:
        tape.watch(states)
        targets = Targets(*(tf.constant(part, tf.int32) for part in (TARGETS, CLUSTERS, NEGATIVES)))
        loss = tf.reduce_sum(LOSSES.resolve(name)(states, targets, CATALOGUE, TRAIN, tf.float32, STREAM))
    assert np.isfinite(loss.numpy())
    assert np.all(np.isfinite(tape.gradient(loss, states).numpy()))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_no_positions_no_losses(name):
    empty = Targets(tf.zeros([0], tf.int32), tf.zeros([0], tf.int32), tf.zeros([0, 2], tf.int32))
    losses = LOSSES.resolve(name)(tf.zeros([0, 5]), empty, CATALOGUE, TRAIN, tf.float32, STREAM)
    assert losses.shape == [0]


def test_an_unknown_loss_lists_the_known_ones():
    known = "bce, exposure_softmax, gbce, in_cluster_exposure_softmax, in_cluster_gbce, in_cluster_sampled_softmax, "
    known += "in_cluster_softmax, sampled_softmax, softmax"
    with pytest.raises(UserError, match=f"Unknown loss 'bpr'; known: {known}"):
        LOSSES.resolve("bpr")
