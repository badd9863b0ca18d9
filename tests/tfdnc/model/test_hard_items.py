"""Hard items: NumPy's ranks, the pools of a loss, and the softmax that draws with hard items estimate."""

import itertools

import numpy as np
import pytest
from small_model import batch_of, make, random_sequences

from tfdnc.backend import tf
from tfdnc.contracts.config import parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.model import hard_items
from tfdnc.model.catalogue import Catalogue, Pool
from tfdnc.model.hard_items import HardItems, nearest_rows
from tfdnc.model.losses.draw_sources import DRAW_SOURCES
from tfdnc.model.losses.draws import Draws, score_competitors
from tfdnc.model.losses.exposures import hierarchy
from tfdnc.model.losses.softmax import cross_entropy, sampled_cross_entropy
from tfdnc.model.randomness import Stream

RNG = np.random.default_rng(5)
POOL, POSITIONS, DIM = 5, 4, 3
ITEMS = tf.constant(RNG.normal(size=[POOL, DIM]), tf.float32)
STATES = tf.constant(RNG.normal(size=[POSITIONS, DIM]), tf.float32)
LABELS = tf.constant([4, 1, 3, 0])
OTHERS = np.array([[row for row in range(POOL) if row != label] for label in LABELS.numpy()], np.int32)


@pytest.mark.parametrize(("first", "last"), [(1, 3), (2, 2), (3, 9)])
def test_the_table_is_numpys(first, last, monkeypatch):
    vectors = RNG.integers(-2, 3, (7, 4))  # small integers: many equal products
    monkeypatch.setattr(hard_items, "_SCORES", 14)  # two rows at a time
    expected = np.full([7, last - first + 1], -1)
    for row, scores in enumerate(vectors @ vectors.T):
        order = [other for other in np.argsort(-scores, kind="stable") if other != row][first - 1 : last]
        expected[row, : len(order)] = order
    found = nearest_rows(tf.constant(vectors, tf.float32), first, last)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == tf.int32


@pytest.mark.parametrize(
    ("loss", "hard"),
    [
        ("sampled_softmax", [[2], [3], [0], [1], [3]]),  # twins across the clusters
        ("in_cluster_sampled_softmax", [[1], [0], [1], [2], [1]]),  # rows inside 0..1 and 2..4
    ],
)
def test_hard_items_are_near_ones_that_the_target_competes_with(loss, hard):
    vectors = tf.constant([[1, 0], [0, 1], [1.1, 0.1], [0.1, 1.1], [0, 0.9]], tf.float32)
    found = HardItems((0, 2, 5), TrainConfig(loss=loss, draws="hard", hard_to=1))
    assert (found.table.numpy() == -1).all()
    found.refresh(vectors)
    assert found.table.numpy().tolist() == hard


def test_draws_are_those_of_the_pool_and_the_hard_items_of_each_target():
    catalogue = Catalogue(ITEMS, (0, 1, 5), np.ones(5), hard=tf.constant([[9], [3], [2], [1], [0]]))
    train = TrainConfig(loss="in_cluster_sampled_softmax", num_negatives=3, draws="hard")
    found, pool = (
        DRAW_SOURCES.resolve(name)(catalogue, (0, 1, 5), train, Stream.at(1, 1))(1, tf.constant([2, 0, 2]))
        for name in ("hard", "pool")
    )
    assert found.own.numpy().tolist() == [[1], [3], [1]]
    np.testing.assert_array_equal(found.rows, pool.rows)
    np.testing.assert_array_equal(found.log_expected, pool.log_expected)


def uniform(rows, own):
    """Draws with the probability 1 / pool each, beside the hard items `own`."""
    expected = tf.fill([len(rows)], float(np.log(len(rows) / POOL)))
    return Draws(tf.constant(rows, tf.int32), expected, tf.constant(own, tf.int32))


def test_with_all_items_hard_the_loss_is_the_whole_softmax_whatever_is_drawn():
    draws = uniform([0, 1, 1, 4], OTHERS)
    found = sampled_cross_entropy(STATES, LABELS, Pool.of(ITEMS), draws, tf.float32)
    np.testing.assert_allclose(found, cross_entropy(STATES, LABELS, ITEMS, tf.float32), rtol=1e-5)

    exposed = tf.constant([[0, -1], [-1, -1], [1, 2], [-1, 3]])
    found, whole = (hierarchy(STATES, LABELS, exposed, Pool.of(ITEMS), own, 0.5, tf.float32) for own in (draws, None))
    np.testing.assert_allclose(found, whole, rtol=1e-5)


def test_hard_items_and_draws_estimate_the_sum_over_the_pool_without_bias():
    """A hard item counts once, also where it is drawn as well."""
    own = np.concatenate([OTHERS[:, :1], OTHERS[:, 2:3], np.full([POSITIONS, 1], -1)], axis=1)
    sums = []
    for rows in itertools.product(range(POOL), repeat=2):
        competing = score_competitors(STATES, LABELS, Pool.of(ITEMS), uniform(rows, own), tf.float32).logits
        sums.append(np.exp(competing.numpy()).sum(axis=1))
    whole = np.exp(STATES.numpy() @ ITEMS.numpy().T)
    expected = whole.sum(axis=1) - whole[np.arange(POSITIONS), LABELS]
    np.testing.assert_allclose(np.mean(sums, axis=0), expected, rtol=1e-5)
    assert np.std(sums, axis=0).min() > 0


def test_a_model_has_hard_items_after_a_refresh_and_a_step_reads_them():
    model, batch = (
        make("transformer", "in_cluster_sampled_softmax", draws="hard", hard_to=2),
        batch_of(random_sequences(8)),
    )
    plain = make("transformer", "in_cluster_sampled_softmax")
    assert float(model.compute_loss(batch)) == float(plain.compute_loss(batch))  # before the first refresh
    model.refresh_hard_items()
    assert float(model.compute_loss(batch)) != float(plain.compute_loss(batch))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": "hard", "loss": "bce"}, "expected draws hard with a sampled softmax, got loss bce"),
        ({"draws": "hard", "hard_from": 5, "hard_to": 4}, "expected hard_to of at least hard_from, 5, got 4"),
    ],
)
def test_settings_without_effect_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        parse_config({"name": "x", "train": {"loss": "sampled_softmax", **settings}})
