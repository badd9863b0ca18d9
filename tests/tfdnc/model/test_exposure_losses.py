"""Losses of the hierarchy target > passed over > other items, against NumPy."""

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.config import TrainConfig
from tfdnc.model.catalogue import Catalogue, Pool, Targets
from tfdnc.model.losses import LOSSES
from tfdnc.model.losses.draws import Draws
from tfdnc.model.losses.exposures import hierarchy

RNG = np.random.default_rng(0)
ITEMS = RNG.normal(size=[9, 4]).astype(np.float32)
STATES = RNG.normal(size=[5, 4]).astype(np.float32)
OFFSETS = (0, 1, 5, 9)
LABELS = np.array([6, 2, 0, 4, 7])
CLUSTERS = np.searchsorted(OFFSETS, LABELS, side="right") - 1
SHOWN = np.array([[8, 3, 0], [0, 0, 0], [2, 1, 0], [5, 4, 2], [1, 9, 0]])  # item indices; 5 and 1 are targets


def expected(pools, weight):
    """One position after the other, given the rows with which each competes."""
    losses = []
    for state, label, shown, pool in zip(STATES, LABELS, SHOWN, pools, strict=True):
        score = np.exp(ITEMS.astype(np.float64) @ state)
        passed = sorted({item - 1 for item in shown if item} & {*pool} - {label})
        rest = sum(score[row] for row in pool if row != label and row not in passed)
        loss = -np.log(score[label] / (score[label] + rest + sum(score[passed])))
        if passed:
            loss += weight * np.mean([-np.log(score[row] / (score[row] + rest)) for row in passed])
        losses.append(loss)
    return losses


def losses(name, exposed=SHOWN, embeddings=ITEMS, dtype=tf.int32, **train):
    targets = Targets(*(tf.constant(of, tf.int32) for of in (LABELS + 1, CLUSTERS)), tf.zeros([5, 0], tf.int32))
    if exposed is not None:
        targets = targets._replace(exposed=tf.constant(exposed, dtype))
    catalogue = Catalogue(tf.constant(embeddings), OFFSETS, np.ones(9, np.int64))
    return LOSSES.resolve(name)(
        tf.constant(STATES), targets, catalogue, TrainConfig(loss=name, **train), tf.float32, None
    )


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_target_is_above_what_was_shown_and_both_are_above_all_else(weight):
    found = losses("exposure_softmax", exposure_weight=weight)
    np.testing.assert_allclose(found, expected([range(9)] * 5, weight), rtol=1e-5)


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64], ids=str)  # int64 with item features, which failed
def test_in_a_cluster_only_its_own_exposures_compete(dtype):
    found = losses("in_cluster_exposure_softmax", dtype=dtype, exposure_weight=0.5)
    pools = [range(OFFSETS[k], OFFSETS[k + 1]) for k in CLUSTERS]
    np.testing.assert_allclose(found, expected(pools, 0.5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "plain"),
    [("exposure_softmax", "softmax"), ("in_cluster_exposure_softmax", "in_cluster_softmax")],
)
def test_without_exposures_it_is_the_softmax(name, plain):
    for nothing in (np.zeros([5, 2]), None):
        np.testing.assert_allclose(losses(name, nothing), losses(plain), rtol=1e-5, atol=1e-6)


def test_draws_count_by_the_inverse_of_their_number_and_never_as_the_target_or_an_exposure():
    rows = np.array([0, 3, 3, 6, 8], np.int32)
    draws = Draws(tf.constant(rows), tf.constant(np.log([2.0, 4, 4, 1, 1]), tf.float32))
    shown = tf.constant([[3, -1]])
    found = hierarchy(
        tf.constant(STATES[:1]), tf.constant([6]), shown, Pool.of(tf.constant(ITEMS)), draws, 0.5, tf.float32
    )
    score = np.exp(ITEMS @ STATES[0])
    rest = score[0] / 2 + score[8]
    loss = -np.log(score[6] / (score[6] + score[3] + rest)) - 0.5 * np.log(score[3] / (score[3] + rest))
    np.testing.assert_allclose(found, [loss], rtol=1e-5)


def test_gradients_are_finite_where_nothing_is_left_to_compete():
    table = tf.Variable(ITEMS[:1])
    with tf.GradientTape() as tape:
        pool = Pool.of(tf.convert_to_tensor(table))
        loss = hierarchy(tf.constant(STATES[:1]), tf.constant([0]), tf.constant([[-1, 0]]), pool, None, 0.5, tf.float32)
    assert loss.numpy() == 0
    assert not tf.convert_to_tensor(tape.gradient(loss, table)).numpy().any()
