"""Softmax in chunks of items: NumPy's loss and gradients, for any number of chunks, with scores of one chunk only."""

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.model.catalogue import Catalogue, Targets
from tfdnc.model.losses import LOSSES, softmax
from tfdnc.model.losses.chunks import chunked_cross_entropy
from tfdnc.model.losses.softmax import WHOLE_ITEMS, cross_entropy

POSITIONS, DIM, POOL = 6, 4, 11
RNG = np.random.default_rng(5)
STATES = RNG.normal(size=[POSITIONS, DIM]).astype(np.float32)
ITEMS = RNG.normal(size=[POOL, DIM]).astype(np.float32)
LABELS = np.array([0, 10, 3, 3, 7, 2])  # one twice
WEIGHTS = RNG.normal(size=POSITIONS).astype(np.float32)


def oracle(states, items):
    """Losses `[P]`, and the gradients of their sum with `WEIGHTS`."""
    scores = states.astype(np.float64) @ items.T
    logs = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    losses, shares = -logs[np.arange(POSITIONS), LABELS], np.exp(logs)
    shares[np.arange(POSITIONS), LABELS] -= 1
    shares *= WEIGHTS[:, None]
    return losses, shares @ items, shares.T @ states


def compute(states, items, chunk):
    states, items = tf.convert_to_tensor(states), tf.convert_to_tensor(items)
    with tf.GradientTape() as tape:
        tape.watch((states, items))
        losses = chunked_cross_entropy(states, LABELS, items, tf.float32, chunk)
        total = tf.reduce_sum(losses * WEIGHTS)
    return losses, *tape.gradient(total, (states, items))


@pytest.mark.parametrize("chunk", [1, 4, 11, 50])
@pytest.mark.parametrize("graph", [False, True])
def test_loss_and_gradients_are_those_of_the_whole_softmax(chunk, graph):
    found = (tf.function(compute) if graph else compute)(STATES, ITEMS, chunk)
    for one, expected in zip(found, oracle(STATES, ITEMS), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)


def test_large_scores_overflow_nothing():
    losses, of_states, of_items = compute(STATES * 1e3, ITEMS, 4)
    expected, *_ = oracle(STATES * 1e3, ITEMS)
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-3)
    assert np.isfinite(of_states).all()
    assert np.isfinite(of_items).all()


def shapes_of(compute):
    """Known shapes of all tensors in the graph of a loss and its gradients, bodies of loops included."""
    specs = [tf.TensorSpec(value.shape, tf.float32) for value in (STATES, ITEMS)]
    definition = tf.function(compute).get_concrete_function(*specs).graph.as_graph_def(add_shapes=True)
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    shapes = [shape for node in nodes for shape in node.attr["_output_shapes"].list.shape]
    return {tuple(size.size for size in shape.dim) for shape in shapes}


def test_no_tensor_of_the_graph_holds_all_scores():
    def whole(states, items):
        return tf.gradients(cross_entropy(states, LABELS, items, tf.float32), (states, items))

    assert (POSITIONS, POOL) in shapes_of(whole)
    assert (POSITIONS, POOL) not in shapes_of(lambda states, items: compute(states, items, 4))


@pytest.mark.parametrize("name", ["softmax", "in_cluster_softmax", "in_cluster_sampled_softmax"])
def test_losses_on_large_catalogues_score_in_chunks_and_are_the_same(name, monkeypatch):
    catalogue = Catalogue(tf.constant(ITEMS), (0, 4, POOL), np.ones(POOL))
    targets = Targets(tf.constant(LABELS + 1), tf.constant((LABELS >= 4).astype(int)), tf.zeros([POSITIONS, 1]))
    arguments = (tf.constant(STATES), targets, catalogue, TrainConfig(num_negatives=20), tf.float32, None)
    assert WHOLE_ITEMS > POOL
    expected = LOSSES.resolve(name)(*arguments)
    chunked = []
    monkeypatch.setattr(softmax, "WHOLE_ITEMS", POOL - 1)
    monkeypatch.setattr(
        softmax, "chunked_cross_entropy", lambda *given: chunked.append(1) or chunked_cross_entropy(*given)
    )
    np.testing.assert_allclose(LOSSES.resolve(name)(*arguments), expected, rtol=1e-5)
    assert len(chunked) == (1 if name == "softmax" else 2)
