"""Every registered encoder fulfils the protocol that towers and trainings use encoders by."""

import inspect

import pytest

from tfdnc.backend import keras, tf
from tfdnc.contracts.model_config import ModelConfig
from tfdnc.model.encoders import USER_ENCODERS, Encoder, UserEncoder

METHODS = ["initial_items", "training_states", "user_vectors", "intent_state", "wanted_vectors"]


@pytest.mark.parametrize("name", sorted(USER_ENCODERS))
def test_every_encoder_fulfils_the_protocol(name):
    encoder = USER_ENCODERS.resolve(name)(ModelConfig(dim=4, blocks=1), 2, 3, tf.float32, name="encoder")
    assert isinstance(encoder, Encoder)
    for method in METHODS:
        asked, given = (inspect.signature(getattr(of, method)) for of in (Encoder, type(encoder)))
        assert given == asked, method
    for flag in ("vectors_per_cluster", "reads_order", "reads_user_token", "encode_per_vector"):
        assert type(getattr(encoder, flag)) is bool
    if encoder.encode_per_vector:
        for method in ("intent_state", "wanted_vectors"):
            assert getattr(type(encoder), method) is not getattr(UserEncoder, method)


def test_the_methods_of_the_protocol_are_those_above():
    public = {name for name, value in vars(Encoder).items() if not name.startswith("_") and callable(value)}
    assert public | {"initial_items"} == set(METHODS)


def test_a_layer_that_cannot_encode_is_no_encoder():
    assert not isinstance(keras.layers.Dense(4), Encoder)
