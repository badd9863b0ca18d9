"""Effect of event weights on a training step, under every loss and for every kind of position."""

import functools

import numpy as np
import pytest

from tfdnc.backend import keras, tf
from tfdnc.contracts.model_config import ModelConfig, TrainConfig
from tfdnc.model.losses import LOSSES
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower

OFFSETS = (0, 5, 15, 20)
CLUSTERS = np.repeat(np.arange(3), np.diff(OFFSETS))
SEQUENCES = [[1, 7, 16, 3, 20], [9, 10, 2], [18, 4, 12, 11]]


@functools.cache
def make_model(loss="in_cluster_softmax", encoder="transformer"):
    """A model without dropout; fewer draws than a cluster has items, so losses that can draw do."""
    train = TrainConfig(loss=loss, precision="float32", num_negatives=3, intent_weight=0.5)
    config = ModelConfig(encoder=encoder, dim=8, max_length=4, blocks=1, dropout=0)
    tower = Tower.make(config, train, OFFSETS, seed=1)
    tower.item_embeddings.assign(tower.item_embeddings * 20)  # losses of untrained positions would be nearly equal
    model = Retriever(tower, train, seed=1)
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    return model


@functools.cache
def make_step(loss, encoder="transformer"):
    """Batch -> loss and gradients of a training step, in a graph as in training; nothing is learned from it."""
    model = make_model(loss, encoder)

    @tf.function
    def compute(batch):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, training=True)
        return loss, tape.gradient(loss, model.trainable_variables, unconnected_gradients="zero")

    def step(batch):
        loss, gradients = compute(batch)
        return loss.numpy(), [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]

    return step


def make_batch(weights=None):
    """Windows of `SEQUENCES`; weights are `[3, 4]`, what stands where there is no target included."""
    width = max(map(len, SEQUENCES)) - 1
    history, target = np.zeros([2, len(SEQUENCES), width], np.int32)
    for row, items in enumerate(SEQUENCES):
        history[row, : len(items) - 1], target[row, : len(items) - 1] = items[:-1], items[1:]
    clusters = np.where(target > 0, CLUSTERS[target - 1], 0).astype(np.int32)
    negatives = np.where(target > 0, 1 + np.array(OFFSETS)[clusters], 0)[:, :, None].astype(np.int32)
    batch = {"user": np.arange(3, dtype=np.int32), "history": history, "target": target, "target_cluster": clusters}
    batch["negatives"] = negatives
    if weights is not None:
        batch["weight"] = np.float32(weights)
    return {name: tf.constant(value) for name, value in batch.items()}


def without(batch, positions):
    """The batch with positions `[S, 2]` that have no target any more, and no weights."""
    batch = {name: value.numpy() for name, value in batch.items() if name != "weight"}
    for row, column in positions:
        batch["target"][row, column] = batch["target_cluster"][row, column] = batch["negatives"][row, column] = 0
    return {name: tf.constant(value) for name, value in batch.items()}


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_weights_of_1_are_no_weights_to_the_last_bit(loss):
    step = make_step(loss)
    plain, weighted = step(make_batch()), step(make_batch(np.ones([3, 4])))
    assert plain[0] == weighted[0]
    for one, other in zip(plain[1], weighted[1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_a_weight_of_0_removes_the_position(loss):
    step, weights = make_step(loss), np.ones([3, 4])
    gone = [(0, 1), (1, 0), (2, 2)]
    weights[tuple(zip(*gone, strict=True))] = 0
    found, expected = step(make_batch(weights)), step(without(make_batch(), gone))
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[0] != pytest.approx(step(make_batch())[0], rel=1e-3)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_loss_is_the_weighted_mean_of_the_losses_of_the_positions():
    """Every position's own losses are those of a batch in which the others weigh nothing."""
    model, weights = make_model(), np.random.default_rng(0).uniform(0, 3, [3, 4])
    positions = np.argwhere(make_batch()["target"].numpy() > 0)
    own = [model.compute_loss(make_batch(np.eye(12)[row * 4 + column].reshape(3, 4))) for row, column in positions]
    expected = np.average(own, weights=weights[tuple(positions.T)])
    assert model.compute_loss(make_batch(weights)).numpy() == pytest.approx(expected, rel=1e-5)
    assert model.compute_loss(make_batch(10 * weights)).numpy() == pytest.approx(expected, rel=1e-5)


def test_by_hand():
    """With equal scores a target costs log n_k inside its cluster of n_k items, and this cluster costs log(N / n_k)."""
    model = make_model("in_cluster_softmax", "item_counts")
    for variable in model.variables:
        variable.assign(tf.zeros_like(variable))
    weights = np.zeros([3, 4])
    weights[0, :2] = 3, 1  # targets 7, of 10 items, and 16, of 5
    expected = (3 * (np.log(10) + 0.5 * np.log(20 / 10)) + np.log(5) + 0.5 * np.log(20 / 5)) / 4
    assert model.compute_loss(make_batch(weights)).numpy() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("loss", "encoder"), [*((loss, "transformer") for loss in sorted(LOSSES)), ("softmax", "hadamard_literal")]
)
def test_a_batch_whose_weights_are_all_0_teaches_nothing(loss, encoder):
    loss, gradients = make_step(loss, encoder)(make_batch(np.zeros([3, 4])))
    assert loss == 0
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0)


def test_logs_without_weights_have_no_such_tensor_in_their_step():
    """The graph of a step without weights holds no operation that one with weights lacks, and fewer of them."""

    def operations(batch):
        model = make_model()
        graph = tf.function(lambda: model.compute_loss(batch, training=True)).get_concrete_function().graph
        return [operation.type for operation in graph.get_operations()]

    plain, weighted = operations(make_batch()), operations(make_batch(np.ones([3, 4])))
    assert plain.count("GatherNd") == weighted.count("GatherNd") - 2
    assert len(plain) < len(weighted)
