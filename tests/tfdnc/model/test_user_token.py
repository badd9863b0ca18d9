"""Inputs of users in a token of their own, which stands before the history in windows and requests alike."""

import numpy as np
import pytest

from tests.tfdnc.model.small_model import D, K, batch_of, histories, intent_of, make, random_sequences
from tfdnc.backend import tf
from tfdnc.contracts.config import ModelConfig, TrainConfig, parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import Feature, Kind, Of
from tfdnc.contracts.schema import UNKNOWN_NUMBER
from tfdnc.model.encoders import USER_ENCODERS
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower
from tfdnc.training.batches import TrainingBatches
from tfdnc.training.negative_sources import NoNegatives
from tfdnc.training.records import TrainingRecords

COUNTRY = Feature("country", Of.USER, Kind.VALUE).with_values({"country": ["DE", "FR"]})
AGE = Feature("age", Of.USER, Kind.NUMBER)
READING = sorted(name for name, encoder in USER_ENCODERS.items() if encoder.reads_user_token)
SEQUENCES = [[3, 9, 17, 1, 6, 20], [6, 20, 2], [5, 11]]
KNOWN = {COUNTRY.key: tf.constant([[1], [2], [0]]), AGE.key: tf.constant([[1.0], [-2.0], [UNKNOWN_NUMBER]])}


def make_model(encoder="transformer", user_token=True, **train):
    """A model whose biases of attention, and inputs of users, are as large as items are in tokens."""
    sizes = {"dim": D, "blocks": 1, "experts": 2, "max_length": 10}
    config = ModelConfig(encoder=encoder, dropout=0.0, user_token=user_token, **sizes)
    settings = TrainConfig(precision="float32", hidden_inputs=0.0, **train)
    tower = Tower.make(config, settings, (0, 5, 15, 20), 1, inputs=(COUNTRY, AGE))
    for number, variable in enumerate(tower.trainable_variables):
        if variable.name.startswith(("rows", "direction", "unknown")):
            variable.assign(tf.random.stateless_normal(variable.shape, seed=[1, number]))
    return Retriever(tower, settings, seed=1)


def weights_of(tower):
    """Embeddings of countries, the direction of ages, and the embedding of an unknown age."""
    [rows] = tower.inputs._readers[COUNTRY.key].trainable_variables
    return rows, *tower.inputs._readers[AGE.key].trainable_variables


def windows(sequences, known):
    """Windows of whole sequences, whose users' inputs are at every position that is no padding."""
    batch = batch_of(sequences)
    filled = batch["history"] > 0
    return batch | {key: tf.where(filled, values, tf.zeros([], values.dtype)) for key, values in known.items()}


def test_it_is_the_sum_of_the_inputs_of_the_user_and_the_tokens_of_items_lack_them():
    tower = make_model().tower
    rows, direction, unknown = (variable.numpy() for variable in weights_of(tower))
    expected = np.stack([rows[1] + direction, rows[2] - 2 * direction, rows[0] + unknown])
    np.testing.assert_allclose(tower.inputs.user_token(KNOWN)[:, 0], expected, atol=1e-5)
    plain = make("transformer").tower
    plain.item_embeddings.assign(tower.item_embeddings)
    history = histories([3, 9], [4, 0], [1, 2])
    items = tower.item_vectors()
    np.testing.assert_array_equal(tower.tokens(items, history, KNOWN), plain.tokens(items, history))


@pytest.mark.parametrize("encoder", READING)
def test_a_request_is_encoded_as_every_position_of_a_window_was_trained(encoder):
    model = make_model(encoder)
    tower, batch = model.tower, windows(SEQUENCES, KNOWN)
    states = model.training_states(batch, None)
    for row, position in ((0, 0), (0, 4), (1, 1), (2, 0)):
        if not bool(states.trained[row, position]):
            continue  # of another cluster than the one that is drawn for its sequence
        asked = {key: values[row : row + 1] for key, values in KNOWN.items()}
        vectors, log_intent = tower.user_vectors(histories(SEQUENCES[row][: position + 1]), asked)
        vector = vectors[0, int(batch["target_cluster"][row, position])] if tower.vectors_per_cluster else vectors[0, 0]
        np.testing.assert_allclose(vector, states.retrieval[row, position], atol=2e-5)
        trained = intent_of(tower, states.intent[row : row + 1, position])
        np.testing.assert_allclose(log_intent, trained, atol=2e-5)


@pytest.mark.parametrize("encoder", READING)
def test_users_matter_and_one_without_inputs_is_unknown(encoder):
    tower, history = make_model(encoder).tower, histories(*[[3, 9, 17]] * 3)
    known, _ = tower.user_vectors(history, KNOWN)
    none, _ = tower.user_vectors(history)
    assert np.abs(known[0] - known[1]).max() > 1e-2
    np.testing.assert_allclose(known[2], none[2], atol=1e-6)
    if tower.encode_per_vector:
        wanted = tower.wanted_vectors(history, tf.ones([3, K], tf.bool), KNOWN)
        np.testing.assert_allclose(wanted, known, atol=1e-5)


@pytest.mark.parametrize("encoder", ["transformer", "hadamard_per_position"])
def test_where_all_values_are_like_unknown_ones_every_user_is_answered_as_an_unknown_one(encoder):
    tower, history = make_model(encoder).tower, histories(*[[3, 9, 17]] * 3)
    rows, direction, unknown = weights_of(tower)
    rows.assign(tf.broadcast_to(rows[:1], rows.shape))
    for variable in (direction, unknown):
        variable.assign(tf.zeros_like(variable))
    for known, none in zip(tower.user_vectors(history, KNOWN), tower.user_vectors(history), strict=True):
        np.testing.assert_allclose(known, none, atol=1e-6)


@pytest.mark.parametrize("encoder", ["transformer", "hadamard_per_position"])
def test_a_window_trains_in_a_batch_of_longer_ones_as_it_does_alone(encoder):
    model = make_model(encoder)
    together = model.training_states(windows(SEQUENCES, KNOWN), None)
    assert together.retrieval.shape == (*batch_of(SEQUENCES)["history"].shape, D)  # no state is of the user token
    losses = []
    for row, sequence in enumerate(SEQUENCES):
        batch = windows([sequence], {key: values[row : row + 1] for key, values in KNOWN.items()})
        alone, length = model.training_states(batch, None), len(sequence) - 1
        np.testing.assert_allclose(together.retrieval[row, :length], alone.retrieval[0], atol=2e-5)
        losses.append((float(model.compute_loss(batch)), length))
    mean = sum(loss * length for loss, length in losses) / sum(length for _, length in losses)
    assert float(model.compute_loss(windows(SEQUENCES, KNOWN))) == pytest.approx(mean, rel=1e-5)


def test_a_window_that_begins_in_the_middle_of_a_sequence_has_it_too():
    items = np.arange(1, 16, dtype=np.int32)
    country = np.repeat([1, 2], [10, 5]).astype(np.int32)
    nothing = np.zeros([15, 0], np.int32)
    parts = items, items * 0, nothing, np.array([0, 10, 15]), np.arange(2, dtype=np.int32), {COUNTRY.key: country}
    records = TrainingRecords(*parts)
    batches = TrainingBatches(records, NoNegatives(), TrainConfig(random_window=1.0, batch_tokens=100), 3, seed=2)
    [batch] = batches.epoch(0)
    assert (batch["history"][:, 0] > np.array([1, 11])[batch["user"]]).any()
    token = make_model().tower.inputs.user_token({COUNTRY.key: batch[COUNTRY.key], AGE.key: batch[COUNTRY.key] * 1.0})
    np.testing.assert_array_equal(batch[COUNTRY.key][:, 0], batch["user"] + 1)
    assert token.shape == [2, 1, D]


def test_the_weights_of_a_seed_are_those_of_a_model_with_users_in_every_token():
    own, every = (make_model(user_token=flag).tower for flag in (True, False))
    assert [one.name for one in own.variables] == [one.name for one in every.variables]
    for one, two in zip(own.variables, every.variables, strict=True):
        np.testing.assert_array_equal(one, two)
    history = histories(*[[3, 9, 17]] * 3)
    assert np.abs(own.user_vectors(history, KNOWN)[0] - every.user_vectors(history, KNOWN)[0]).max() > 1e-2


def test_the_inputs_of_users_learn():
    model = make_model("hadamard_state")
    model.compile(optimizer=tf.keras.optimizers.legacy.SGD(0.1))
    before = [variable.numpy() for variable in weights_of(model.tower)]
    model.train_step(windows(random_sequences(3), KNOWN))
    for old, new in zip(before, weights_of(model.tower), strict=True):
        assert (old != new.numpy()).any(axis=-1).all()


def test_it_needs_inputs_of_users_and_an_encoder_that_reads_it():
    with pytest.raises(UserError, match=r"features of data\.users with model\.user_token, got none"):
        parse_config({"name": "x", "model": {"user_token": True}})
    with pytest.raises(UserError, match=r"model\.user_token only with an encoder on a Transformer, comirec is none"):
        make_model("comirec")
