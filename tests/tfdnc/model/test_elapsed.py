"""Times of events and of the request, from elapsed time to user vectors."""

import numpy as np
import pytest

from tests.tfdnc.model.small_model import intent_of
from tfdnc.backend import tf
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.model_config import ModelConfig, TrainConfig
from tfdnc.export.checks import check_times
from tfdnc.export.recent import elapsed_times, last_items, widen
from tfdnc.model.elapsed import NUM_BUCKETS, elapsed_buckets
from tfdnc.model.encoders import USER_ENCODERS
from tfdnc.model.randomness import Stream
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower

OFFSETS = (0, 5, 15, 20)
READING = [name for name, encoder in USER_ENCODERS.items() if encoder.reads_order]
HISTORY = tf.constant([[1, 7, 3, 20, 9], [4, 6, 0, 0, 0]])
ELAPSED = tf.constant([[5, 0, 3, 10**6, 2], [1, 70, 0, 0, 0]], tf.int64)


def make(encoder="hadamard_per_position", hidden_times=0.0, **model):
    config = ModelConfig(encoder=encoder, dim=16, heads=2, max_length=10, dropout=0.0, distance_bias=True, **model)
    train = TrainConfig(precision="float32", hidden_times=hidden_times)
    tower = Tower.make(config, train, OFFSETS, seed=1)
    for variable in tower.trainable_variables:  # biases start at 0, where they would change nothing
        if "bias" in variable.name or "rows" in variable.name:
            variable.assign(tf.random.stateless_normal(variable.shape, seed=[1, 2]))
    return Retriever(tower, train, seed=1)


@pytest.mark.parametrize(
    ("elapsed", "bucket"),
    [
        *[(-1, 0), (-(2**62), 0), (0, 1), (1, 2), (2, 3), (3, 3), (4, 4), (2**24 - 1, 25), (2**40, 42), (2**62, 64)],
        # As float32 these are the next powers of two, the last one of a bucket that there is not.
        *[(2**25 - 1, 26), (2**53 - 1, 54), (2**63 - 1, 64)],
    ],
)
def test_there_is_a_bucket_for_unknown_for_none_and_for_every_power_of_two(elapsed, bucket):
    assert int(elapsed_buckets(tf.constant(elapsed, tf.int64))) == bucket < NUM_BUCKETS


def test_a_share_of_the_windows_is_trained_without_times():
    elapsed = tf.ones([1000, 3], tf.int64)
    inputs, train = make(times=True).tower.inputs, TrainConfig(hidden_times=0.25)
    hidden = inputs.hide({"elapsed": elapsed}, train, Stream.at(1, 1))["elapsed"].numpy()
    rows = hidden.min(axis=1)
    assert set(rows) == {-1, 1}
    np.testing.assert_array_equal(hidden, np.repeat(rows[:, None], 3, axis=1))
    assert 0.2 < np.mean(rows < 0) < 0.3
    np.testing.assert_array_equal(inputs.hide({"elapsed": elapsed}, train, None)["elapsed"], elapsed)


@pytest.mark.parametrize("encoder", READING)
def test_a_request_is_encoded_as_the_last_position_of_a_window_was_trained(encoder):
    """The target of position j asks with the time up to it; a request at that time must get the same state."""
    model = make(encoder, times=True)
    tower = model.tower
    targets = tf.constant([[7, 3, 20, 9, 2], [6, 8, 0, 0, 0]])
    rows = tf.reshape(tf.maximum(targets - 1, 0), [-1])
    clusters = tf.reshape(tf.searchsorted(OFFSETS[1:], rows, side="right"), [2, 5])
    inputs = {"user": tf.range(2), "history": HISTORY, "target": targets, "target_cluster": clusters}
    states = model.training_states(inputs | {"elapsed": ELAPSED}, None)
    vectors, log_intent = tower.user_vectors(HISTORY, {"elapsed": ELAPSED})
    for row, last in enumerate([4, 1]):
        if not bool(states.trained[row, last]):
            continue  # of another cluster than the one that is drawn for its sequence
        state = states.retrieval[row, last].numpy()
        asked = vectors[row, int(clusters[row, last])] if tower.vectors_per_cluster else vectors[row]
        assert np.abs(asked - state).max(axis=-1).min() < 1e-5
        trained_intent = intent_of(tower, states.intent[row : row + 1, last])
        np.testing.assert_allclose(trained_intent[0], log_intent[row], atol=1e-5)


@pytest.mark.parametrize("encoder", READING)
def test_times_matter_and_none_are_as_good_as_unknown_ones(encoder):
    tower = make(encoder, times=True).tower
    known, _ = tower.user_vectors(HISTORY, {"elapsed": ELAPSED})
    later, _ = tower.user_vectors(
        HISTORY, {"elapsed": ELAPSED + tf.constant([[0, 0, 0, 0, 10**6], [0, 0, 0, 0, 0]], tf.int64)}
    )
    assert not np.allclose(known[0], later[0], atol=1e-3)
    np.testing.assert_allclose(known[1], later[1], atol=1e-6)
    none, _ = tower.user_vectors(HISTORY)
    unknown, _ = tower.user_vectors(HISTORY, {"elapsed": -tf.ones_like(ELAPSED)})
    np.testing.assert_array_equal(none, unknown)
    assert not np.allclose(none[0], known[0], atol=1e-3)


def test_without_times_in_the_config_they_change_nothing():
    tower = make().tower
    np.testing.assert_array_equal(tower.user_vectors(HISTORY, {"elapsed": ELAPSED})[0], tower.user_vectors(HISTORY)[0])
    assert not tower.reads_times


@pytest.mark.parametrize("encoder", sorted(set(USER_ENCODERS) - set(READING)))
def test_encoders_that_read_no_order_refuse_times(encoder):
    with pytest.raises(UserError, match=f"model.times only with an encoder that reads order, {encoder} does not"):
        make(encoder, times=True)


def test_a_request_gives_times_and_the_graph_the_time_that_went_by():
    items = tf.constant([[0, 4, 0, 6, 9], [7, 0, 0, 0, 0], [0, 0, 0, 0, 0]])  # 0: padding, or an unknown id
    times = tf.constant([[-1, 10, 15, 15, 40], [100, -1, -1, -1, -1], [-1, -1, -1, -1, -1]], tf.int64)
    recent, when = last_items(items, 2, times)
    np.testing.assert_array_equal(recent, [[6, 9], [7, 0], [0, 0]])
    elapsed = elapsed_times(recent, when, tf.constant([45, 99, 5], tf.int64))
    np.testing.assert_array_equal(elapsed[:2], [[25, 5], [0, 0]])  # a clock that went backwards stands still
    unknown = elapsed_times(recent, when, tf.constant([-1, -1, -1], tf.int64))
    np.testing.assert_array_equal(unknown[:2, 0], [25, -1])
    np.testing.assert_array_equal(unknown[0, 1], -1)


def test_a_request_from_before_its_zero_point_is_refused():
    """Times before now, -30 and -7 days, were taken for unknown ones."""
    check_times(tf.constant([[-1, 0, 5]], tf.int64), tf.constant([-1], tf.int64))
    for times in ([[-30, -7]], [0, -2]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="history_times and request_time from 0 up, or -1"):
            check_times(tf.constant(times, tf.int64))


def test_inputs_are_cut_or_filled_up_to_the_width_of_the_history():
    times = tf.constant([[1, 2, 3]], tf.int64)
    np.testing.assert_array_equal(widen(times, 2, -1), [[1, 2]])
    np.testing.assert_array_equal(widen(times, 5, -1), [[1, 2, 3, -1, -1]])
