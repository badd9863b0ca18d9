"""Declared inputs: which of them a config has, and what a number adds to the token of its item."""

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.config import ModelConfig, TrainConfig, parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import (
    TIME,
    WEIGHT,
    Feature,
    Kind,
    Of,
    event_feature,
    log_features,
    model_features,
    training_features,
)
from tfdnc.contracts.schema import UNKNOWN_NUMBER
from tfdnc.export.recent import recent_inputs
from tfdnc.export.values import ValueNumbers
from tfdnc.model.inputs import Numbers, TokenInputs, Values, moments_of, pool_moments
from tfdnc.model.randomness import Stream
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower

DWELL, PRICE = (event_feature(name, Kind.NUMBER) for name in ("dwell", "price"))
UNKNOWN = np.float32(UNKNOWN_NUMBER)
KNOWN = {"device": ["app", "web"], "country": ["DE"]}
OWN, ASKED, COUNTRY = (
    Feature(name, of, Kind.VALUE).with_values(KNOWN)
    for name, of in [("device", Of.EVENT), ("device", Of.REQUEST), ("country", Of.USER)]
)
HOUR = Feature("hour", Of.REQUEST, Kind.HOUR).with_values({})
OFFSETS = (0, 5, 15, 20)
HISTORY = tf.constant([[1, 7, 3], [4, 6, 0]])


def test_a_model_reads_what_it_names_and_the_training_the_weights_too():
    data = {"columns": {"weight": "stars"}, "events": {"dwell": "number", "price": "number"}}
    config = parse_config({"name": "x", "data": data, "model": {"inputs": ["price"]}})
    assert log_features(config.data) == (TIME, WEIGHT, DWELL, PRICE)
    assert model_features(config) == (PRICE,)
    assert training_features(config) == (PRICE, WEIGHT)
    timed = parse_config({"name": "x", "data": data, "model": {"times": True, "inputs": ["price", "dwell"]}})
    assert model_features(timed) == (TIME, DWELL, PRICE)  # in the order in which they are declared


@pytest.mark.parametrize("format_", ["movielens", "kuairand"])
def test_logs_that_bring_their_columns_have_no_weight(format_):
    config = parse_config({"name": "x", "data": {"format": format_, "columns": {"weight": "stars"}}})
    assert log_features(config.data) == (TIME,)


def test_an_input_that_is_not_declared_is_refused_with_those_that_are():
    values = {"name": "x", "data": {"events": {"dwell": "number"}}, "model": {"inputs": ["price"]}}
    with pytest.raises(UserError, match=r"data\.users\.features, got price; these declare dwell"):
        parse_config(values)


def numbers(*moments):
    layer = Numbers(DWELL, 2)
    layer.measure(np.array(moments, np.float64))
    direction, unknown = (variable.numpy() for variable in layer.trainable_variables)
    return layer, direction, unknown


def test_a_number_counts_in_standard_deviations_and_an_unknown_one_has_its_own_embedding():
    layer, direction, unknown = numbers(4, 10, 16)  # a mean of 10, a deviation of 2
    added = layer(tf.constant([[12.0, 10, 9, 1e9, UNKNOWN, np.nan]]))[0]
    np.testing.assert_allclose(added[:4], np.outer([1, 0, -0.5, 8], direction), atol=1e-6)
    np.testing.assert_array_equal(added[4:], [unknown, unknown])
    assert np.abs(direction - unknown).max() > 1e-3


def test_numbers_that_are_all_equal_are_their_own_mean():
    layer, _, _ = numbers(3, 7, 0)
    np.testing.assert_array_equal(layer(tf.constant([[7.0]])), [[[0, 0]]])


def test_unknown_numbers_leave_gradients_finite():
    layer, _, _ = numbers(2, 0, 2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.constant([[UNKNOWN, np.nan, 1.0]])))
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert np.isfinite(gradient).all()


def test_moments_of_the_shards_of_all_workers_are_those_of_the_log():
    values = np.random.default_rng(0).normal(1.7e9, 30, 100).astype(np.float32)
    values[::7] = UNKNOWN
    parts = np.stack([moments_of(part) for part in (values[:30], values[30:30], values[30:])])
    known = values[values != UNKNOWN].astype(np.float64)
    expected = [len(known), known.mean(), known.var() * len(known)]
    np.testing.assert_allclose(pool_moments(parts), expected, rtol=1e-9)
    assert pool_moments(np.zeros([2, 3])).tolist() == [0, 0, 0]


def test_a_column_without_a_number_is_refused():
    with pytest.raises(UserError, match=r"numbers in the column of data\.events\.dwell, found none in the training"):
        numbers(0, 0, 0)


def test_each_input_is_hidden_in_windows_of_its_own():
    """Inputs are hidden one by one, because requests may lack them one by one."""
    inputs = TokenInputs((TIME, DWELL, PRICE), 4)
    shape = [2000, 2]
    values = {"elapsed": tf.ones(shape, tf.int64), "event_dwell": tf.ones(shape), "event_price": tf.ones(shape)}
    train = TrainConfig(hidden_times=0.2, hidden_inputs=0.4)
    hidden = {key: of.numpy() < 0 for key, of in inputs.hide(values, train, Stream.at(1, 1)).items()}
    for key, share in {"elapsed": 0.2, "event_dwell": 0.4, "event_price": 0.4}.items():
        assert abs(hidden[key].mean() - share) < 0.05
        np.testing.assert_array_equal(hidden[key][:, 0], hidden[key][:, 1])
    both = (hidden["event_dwell"] & hidden["event_price"]).mean()
    assert abs(both - 0.16) < 0.05
    assert not any((of.numpy() < 0).any() for of in inputs.hide(values, train, None).values())


def make_tower(encoder="hadamard_per_position", **model):
    config = ModelConfig(encoder=encoder, dim=16, max_length=10, dropout=0.0, **model)
    tower = Tower.make(config, TrainConfig(precision="float32"), OFFSETS, seed=1, inputs=[DWELL])
    tower.inputs.measure(lambda feature: np.array([2, 0, 2e-4]))  # so that a number of 1 is far away
    return tower


def test_a_request_is_encoded_as_the_last_position_of_a_window_was_trained():
    tower = make_tower("transformer")
    dwell = tf.constant([[0.1, UNKNOWN, -0.3], [0.2, 0.05, 0]])
    inputs = {"user": tf.range(2), "history": HISTORY, "event_dwell": dwell}
    inputs |= {"target": tf.constant([[7, 3, 2], [6, 8, 0]]), "target_cluster": tf.constant([[1, 0, 0], [1, 1, 0]])}
    states = Retriever(tower, TrainConfig(precision="float32", hidden_inputs=0), seed=1).training_states(inputs, None)
    vectors, _ = tower.user_vectors(HISTORY, {"event_dwell": dwell})
    np.testing.assert_allclose(vectors[:, 0], [states.retrieval[0, 2], states.retrieval[1, 1]], atol=1e-5)


def test_a_number_matters_and_none_is_as_good_as_an_unknown_one():
    tower = make_tower()
    unknown, _ = tower.user_vectors(HISTORY, {"event_dwell": tf.fill([2, 3], UNKNOWN)})
    known, _ = tower.user_vectors(HISTORY, {"event_dwell": tf.constant([[UNKNOWN, UNKNOWN, 0.02], [UNKNOWN] * 3])})
    np.testing.assert_array_equal(tower.user_vectors(HISTORY)[0], unknown)
    assert not np.allclose(known[0], unknown[0], atol=1e-3)
    np.testing.assert_allclose(known[1], unknown[1], atol=1e-6)


def test_an_encoder_that_reads_no_order_refuses_inputs():
    with pytest.raises(UserError, match=r"model\.inputs only with an encoder that reads order, item_counts does not"):
        make_tower("item_counts")


def test_a_request_is_cut_to_its_last_items_with_what_is_known_of_each():
    items = tf.constant([[0, 4, 0, 6, 9], [7, 0, 0, 0, 0]])  # 0: padding, or an id that is not known
    given = {"history_dwell": tf.constant([[UNKNOWN, 1, 2, 3], [5, 6, 7, 8]])}  # a column less than items
    recent, read = recent_inputs(items, 2, (DWELL,), given, ValueNumbers((DWELL,)))
    np.testing.assert_array_equal(recent, [[6, 9], [7, 0]])
    np.testing.assert_array_equal(read["event_dwell"][:, 0], [3, 5])
    assert read["event_dwell"][0, 1] == UNKNOWN


def test_an_input_of_the_context_is_two_inputs_and_a_kind_of_targets_may_be_asked_for():
    data = {"context": {"device": "value"}, "events": {"action": "value"}, "users": {"features": {"country": "value"}}}
    data |= {"format": "kuairand"}
    config = parse_config({"name": "x", "data": data, "model": {"inputs": ["device", "action", "country"]}})
    action = event_feature("action", Kind.VALUE)
    assert model_features(config) == (action, OWN, ASKED, COUNTRY)
    targets = parse_config(
        {"name": "x", "data": data | {"targets": {"action": ["buy"]}}, "model": {"inputs": ["action"]}}
    )
    assert model_features(targets) == (action, Feature("action", Of.REQUEST, Kind.VALUE))
    assert training_features(targets)[-1] == WEIGHT


def test_every_value_has_an_embedding_and_unknown_ones_share_another():
    layer = Values(OWN, 3)
    [rows] = layer.trainable_variables
    assert rows.shape == [3, 3]
    np.testing.assert_array_equal(layer(tf.constant([[0, 2, 1]]))[0], rows.numpy()[[0, 2, 1]])
    assert Values(HOUR, 2).trainable_variables[0].shape == [25, 2]


def test_a_category_without_a_known_value_is_refused():
    with pytest.raises(UserError, match=r"at least twice in the training part of data\.context\.device, found none"):
        Values(Feature("device", Of.REQUEST, Kind.VALUE), 2)


def test_inputs_of_a_user_are_hidden_together_and_a_request_may_lack_its_own_context_alone():
    age = Feature("age", Of.USER, Kind.NUMBER)
    inputs, shape = TokenInputs((OWN, ASKED, COUNTRY, age), 4), [3000, 2]
    values = {one.key: tf.ones(shape, one.form.dtype) for one in inputs.features}
    hidden = inputs.hide(values, TrainConfig(hidden_inputs=0.4), Stream.at(1, 1))
    of_users = [hidden[COUNTRY.key].numpy() == 0, hidden["user_age"].numpy() == UNKNOWN]
    np.testing.assert_array_equal(*of_users)
    assert abs(of_users[0].mean() - 0.4) < 0.05
    own, asked = (hidden[one.key].numpy() == 0 for one in (OWN, ASKED))
    np.testing.assert_array_equal(own[:, 0], own[:, 1])
    assert abs((asked[:, 0] & ~asked[:, 1]).mean() - 0.8 * 0.8 * 0.2) < 0.04


def test_a_request_with_context_and_user_is_encoded_as_a_window_was_trained():
    config = ModelConfig(encoder="transformer", dim=16, max_length=10, dropout=0.0)
    features = (OWN, ASKED, HOUR, COUNTRY)
    tower = Tower.make(config, TrainConfig(precision="float32"), OFFSETS, seed=1, inputs=features)
    device, hour = np.array([[1, 2, 0], [2, 1, 0]]), np.array([[5, 24, 0], [1, 2, 0]])  # of the events, 0: unknown
    window = {OWN.key: device, ASKED.key: [[2, 0, 1], [1, 2, 0]], HOUR.key: [[24, 0, 7], [2, 9, 0]]}
    window |= {COUNTRY.key: [[1, 1, 1], [0, 0, 0]]}
    window = {key: tf.constant(of, tf.int32) for key, of in window.items()}
    inputs = {"user": tf.range(2), "history": HISTORY, **window}
    inputs |= {"target": tf.constant([[7, 3, 2], [6, 8, 0]]), "target_cluster": tf.constant([[1, 0, 0], [1, 1, 0]])}
    states = Retriever(tower, TrainConfig(precision="float32", hidden_inputs=0), seed=1).training_states(inputs, None)
    texts = np.array([b"", b"app", b"web"])
    hours = Feature("hour", Of.EVENT, Kind.HOUR).with_values({})
    given = {
        "history_device": tf.constant(texts[device]),
        "request_device": tf.constant([b"app", b"web"]),
        "history_hour": tf.constant(hour - 1, tf.int32),
        "request_hour": tf.constant([6, 8]),
        "user_country": tf.constant([b"DE", b"a new one"]),
    }
    recent, read = recent_inputs(HISTORY, 10, (*features, hours), given, ValueNumbers(features))
    vectors, _ = tower.user_vectors(recent, read)
    np.testing.assert_allclose(vectors[:, 0], [states.retrieval[0, 2], states.retrieval[1, 1]], atol=1e-5)
