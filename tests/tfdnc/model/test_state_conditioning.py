"""Encoders that tell the states of one encode the cluster: the Hadamard product and target attention, against NumPy."""

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.model_config import ModelConfig
from tfdnc.model.encoders import USER_ENCODERS, Histories, Windows
from tfdnc.model.encoders.target_attention import attend

K, L, D = 3, 6, 8
RNG = np.random.default_rng(1)
TOKENS = tf.constant(RNG.normal(size=[2, L, D]), tf.float32)
LENGTHS = np.array([L, 4])
CLUSTERS = RNG.integers(0, K, [2, L]).astype(np.int32)


def make(name):
    """An encoder whose conditioning is far from its start, where it hardly tells the clusters apart."""
    encoder = USER_ENCODERS.resolve(name)(ModelConfig(dim=D, blocks=1), K, 0, tf.float32, name="encoder")
    encoder._task_embeddings.assign(RNG.normal(size=[K, D]) * 2)
    return encoder


def encoded(encoder):
    """States `[2, L, D]` of the Transformer alone."""
    return encoder._trunk(TOKENS + encoder._positions[:L]).prefix.numpy()


def asked(encoder):
    """Vectors of a request `[2, K, D]`, and states of the intent `[2, D]`."""
    items = tf.zeros([1, D])
    found = encoder.user_vectors(Histories(TOKENS, tf.zeros([2, L], tf.int32), tf.constant(LENGTHS, tf.int32), items))
    return found.retrieval.numpy(), found.intent.numpy()


def trained(encoder):
    """States that a batch trains, of retrieval and intent: `[2, L, D]` each."""
    has_target = tf.sequence_mask(LENGTHS, L)
    windows = Windows(tf.range(2), TOKENS, TOKENS, tf.constant(CLUSTERS), has_target)
    states = encoder.training_states(windows, None)
    np.testing.assert_array_equal(states.trained, has_target)
    return states.retrieval.numpy(), states.intent.numpy()


def hadamard(encoder, states, cluster):
    return states[-1] * encoder._task_embeddings[cluster].numpy()


def target_attention(encoder, states, cluster):
    scores = states @ encoder._task_embeddings[cluster].numpy() / np.sqrt(D)
    weights = np.exp(scores) / np.exp(scores).sum()
    summed = states[-1] + (weights @ states) @ encoder._out._kernel.numpy() + encoder._out._bias.numpy()
    return (summed - summed.mean()) / np.sqrt(summed.var() + 1e-6)  # a layer norm as it starts


FORMULAS = {"hadamard_state": hadamard, "target_attention": target_attention}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_request_has_a_vector_of_every_cluster_from_the_states_of_its_history(name):
    encoder = make(name)
    states = encoded(encoder)
    vectors, intents = asked(encoder)
    for row, length in enumerate(LENGTHS):
        for cluster in range(K):
            expected = FORMULAS[name](encoder, states[row, :length], cluster)
            np.testing.assert_allclose(vectors[row, cluster], expected, atol=1e-5)
        np.testing.assert_allclose(intents[row], states[row, length - 1], atol=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_position_trains_the_vector_of_its_targets_cluster_from_the_states_so_far(name):
    encoder = make(name)
    states = encoded(encoder)
    vectors, intents = trained(encoder)
    for row, length in enumerate(LENGTHS):
        for position in range(length):
            expected = FORMULAS[name](encoder, states[row, : position + 1], CLUSTERS[row, position])
            np.testing.assert_allclose(vectors[row, position], expected, atol=1e-5)
            np.testing.assert_allclose(intents[row, position], states[row, position], atol=1e-5)


def test_attention_without_a_readable_state_is_finite():
    nothing = attend(tf.zeros([1, 2, 3]), tf.zeros([1, 1, 3], tf.bool), tf.ones([1, 3, 4]))
    np.testing.assert_array_equal(nothing, np.ones([1, 2, 4]))
