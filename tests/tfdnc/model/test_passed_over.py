"""Exposures in a token: the mean of the items that were passed over, and another vector where there are none."""

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.config import ModelConfig, TrainConfig, parse_config
from tfdnc.contracts.features import EXPOSURES, TIME, WEIGHT, model_features, training_features
from tfdnc.export.recent import recent_inputs
from tfdnc.model.inputs import TokenInputs
from tfdnc.model.passed_over import PassedOver
from tfdnc.model.randomness import Stream
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower
from tfdnc.training.batches import TrainingBatches, history_batches
from tfdnc.training.negative_sources import NoNegatives
from tfdnc.training.records import HeldOutRecords, TrainingRecords

OFFSETS = (0, 5, 15, 20)
SHOWN = np.array([[[3, 0, 9], [0, 0, 0], [7, 0, 0]], [[1, 2, 0], [20, 20, 0], [0, 0, 0]]], np.int32)
HISTORY = tf.constant([[1, 7, 3], [4, 6, 0]])


def make_tower(inputs=(EXPOSURES,), encoder="transformer"):
    config = ModelConfig(encoder=encoder, dim=8, blocks=1, dropout=0.0)
    return Tower.make(config, TrainConfig(precision="float32"), OFFSETS, seed=1, inputs=inputs)


def test_it_is_read_where_a_model_or_a_loss_names_it():
    data = {"exposures": {"action": ["impression"]}, "columns": {"weight": "stars"}}
    read = parse_config({"name": "x", "data": data, "model": {"inputs": ["exposures"], "times": True}})
    assert model_features(read) == (TIME, EXPOSURES)
    assert training_features(read) == (TIME, EXPOSURES, WEIGHT)
    of_loss = parse_config({"name": "x", "data": data, "train": {"loss": "in_cluster_exposure_softmax"}})
    assert model_features(of_loss) == ()
    assert training_features(of_loss) == (WEIGHT, EXPOSURES)
    assert training_features(parse_config({"name": "x", "data": data})) == (WEIGHT,)


def test_a_token_has_the_projected_mean_and_a_vector_of_its_own_for_none():
    items = np.random.default_rng(0).normal(size=[20, 8]).astype(np.float32)
    layer = PassedOver(EXPOSURES, 8)
    projection, nothing = (variable.numpy() for variable in layer.trainable_variables)
    added = layer(tf.constant(SHOWN), tf.constant(items)).numpy()
    means = [items[[2, 8]].mean(0), items[6], items[[0, 1]].mean(0), items[19]]
    expected = np.stack(means) * 8**0.5 @ projection
    np.testing.assert_allclose(added[[0, 0, 1, 1], [0, 2, 0, 1]], expected, atol=1e-5)
    np.testing.assert_array_equal(added[[0, 1], [1, 2]], [nothing, nothing])
    # The variable of the items, of which an optimiser updates single rows, is read by row.
    table = tf.Variable(items)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.constant(SHOWN), table))
    gradient = tape.gradient(loss, table)
    assert isinstance(gradient, tf.IndexedSlices)
    assert set(gradient.indices.numpy().tolist()) == {0, 1, 2, 6, 8, 19}


def test_training_hides_all_of_a_window():
    inputs = TokenInputs([EXPOSURES], 8)
    values = {EXPOSURES.key: tf.ones([200, 3, 2], tf.int32)}
    hidden = inputs.hide(values, TrainConfig(hidden_inputs=0.3), Stream.at(1, 0))[EXPOSURES.key].numpy()
    whole = hidden.all(axis=(1, 2))
    assert 0.6 < whole.mean() < 0.8
    assert (whole | ~hidden.any(axis=(1, 2))).all()


@pytest.mark.parametrize("encoder", ["transformer", "hadamard_per_position"])
def test_a_request_is_read_as_a_window_is(encoder):
    tower = make_tower(encoder=encoder)
    inputs = {"user": tf.range(2), "history": HISTORY, EXPOSURES.key: tf.constant(SHOWN)}
    inputs |= {"target": tf.constant([[7, 3, 2], [6, 8, 0]]), "target_cluster": tf.constant([[1, 0, 0], [1, 1, 0]])}
    model = Retriever(tower, TrainConfig(precision="float32", hidden_inputs=0), seed=1)
    states = model.training_states(inputs, None)
    # A request may pad in front, know items that the model does not, and be shorter than the history.
    given = np.pad(SHOWN[:, :2], [(0, 0), (1, 0), (0, 1)])
    given[0] = np.pad(SHOWN[0], [(1, 0), (0, 1)])[:3]
    history = tf.pad(HISTORY, [[0, 0], [1, 0]])
    whole = np.pad(SHOWN, [(0, 0), (1, 0), (1, 0)])
    wanted = [0, 1]  # clusters of the targets at the last positions
    for shown, rows in ((whole, [0, 1]), (given, [1])):
        recent, read = recent_inputs(
            history, 10, [EXPOSURES], {"history_exposures": tf.constant(shown)}, lambda _, v: v
        )
        vectors, _ = tower.user_vectors(recent, read)
        per_row = [vectors[row, wanted[row] if encoder != "transformer" else 0] for row in rows]
        last = [states.retrieval[0, 2], states.retrieval[1, 1]]
        np.testing.assert_allclose(per_row, [last[row] for row in rows], atol=1e-5)


def test_a_request_without_is_one_after_which_nothing_was_passed_over():
    tower = make_tower()
    left_out, _ = tower.user_vectors(HISTORY)
    none, _ = tower.user_vectors(HISTORY, {EXPOSURES.key: tf.zeros_like(SHOWN)})
    some, _ = tower.user_vectors(HISTORY, {EXPOSURES.key: tf.constant(SHOWN)})
    np.testing.assert_array_equal(left_out, none)
    # `[B, L, 0]` was answered with an error of TensorFlow.
    empty = tf.zeros([*HISTORY.shape, 0], tf.int32)
    recent, read = recent_inputs(HISTORY, 10, [EXPOSURES], {"history_exposures": empty}, lambda _, v: v)
    np.testing.assert_array_equal(tower.user_vectors(recent, read)[0], none)
    assert np.abs(some - none).max() > 1e-4


def test_windows_cut_them_with_the_history():
    items, splits = np.arange(1, 8, dtype=np.int32), np.array([0, 5, 7])
    shown = np.stack([10 * items, np.where(items % 2, items, 0)], axis=1)
    features = {EXPOSURES.key: shown}
    records = TrainingRecords(
        items, items % 3, np.zeros([7, 0], np.int32), splits, np.arange(2, dtype=np.int32), features
    )
    batches = TrainingBatches(records, NoNegatives(), TrainConfig(batch_tokens=100), 3, seed=1)
    for batch in (next(batches.epoch(0)), next(iter(batches.dataset(0, 1)))):
        history, found = np.asarray(batch["history"]), np.asarray(batch[EXPOSURES.key])
        np.testing.assert_array_equal(found[..., 0], 10 * history)
        np.testing.assert_array_equal(found[..., 1], np.where(history % 2, history, 0))
    held_out = HeldOutRecords(items, splits, items[:2], items[:2], features)
    [batch] = history_batches(held_out, 3)
    np.testing.assert_array_equal(batch.features[EXPOSURES.key][..., 0], 10 * batch.history)
