"""One contract for every user encoder, and what tells them apart."""

import numpy as np
import pytest

from tfdnc.backend import keras, tf
from tfdnc.config import ModelConfig, TrainConfig
from tfdnc.errors import UserError
from tfdnc.model.encoder import USER_ENCODERS
from tfdnc.model.losses import LOSSES
from tfdnc.model.retriever import Retriever

OFFSETS = (0, 5, 15, 20)
K, N, D = 3, 20, 16
CLUSTERS = np.repeat(np.arange(K), np.diff(OFFSETS))
DRAWING = ("sampled_softmax", "in_cluster_sampled_softmax", "gbce", "in_cluster_gbce")  # losses with their own draws
EXPECTED_VECTORS = {"transformer": 1, "hadamard_per_position": K, "hadamard_literal": K}


def make(encoder, loss="in_cluster_softmax", offsets=OFFSETS, dropout=0.1, counts=None, **train):
    model = Retriever(
        ModelConfig(encoder=encoder, dim=D, max_length=10, dropout=dropout),
        # Fewer draws than a cluster, or the catalogue, has items: losses that can draw do.
        TrainConfig(loss=loss, precision="float32", num_negatives=4 if loss.startswith("in_cluster") else 12, **train),
        offsets,
        seed=1,
        counts=counts,
    )
    model.compile(optimizer=keras.optimizers.Adam(0.02))
    return model


def batch_of(sequences):
    """Windows of whole sequences, padded; the negatives of a target are the next four items of its cluster."""
    length = max(len(sequence) for sequence in sequences) - 1
    batch = {name: np.zeros([len(sequences), length], np.int32) for name in ("history", "target", "target_cluster")}
    for row, sequence in enumerate(sequences):
        batch["history"][row, : len(sequence) - 1] = sequence[:-1]
        batch["target"][row, : len(sequence) - 1] = sequence[1:]
        batch["target_cluster"][row, : len(sequence) - 1] = CLUSTERS[np.array(sequence[1:]) - 1]
    start = np.array(OFFSETS)[batch["target_cluster"]][:, :, None]
    size = np.diff(OFFSETS)[batch["target_cluster"]][:, :, None]
    target = batch["target"][:, :, None]
    batch["negatives"] = np.where(target > 0, start + (target - start + np.arange(4)) % size + 1, 0).astype(np.int32)
    return {name: tf.constant(value) for name, value in batch.items()}


def random_sequences(count, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, N + 1, rng.integers(2, 11)).tolist() for _ in range(count)]


def histories(*rows):
    width = max(len(row) for row in rows)
    return tf.constant([row + [0] * (width - len(row)) for row in rows], tf.int32)


@pytest.mark.parametrize("encoder", sorted(USER_ENCODERS))
class TestEveryConditioning:
    def test_shapes(self, encoder):
        model = make(encoder)
        vectors, log_intent = model.user_vectors(histories([1, 2, 3], [4]))
        assert vectors.shape == [2, EXPECTED_VECTORS[encoder], D]
        assert log_intent.shape == [2, K]
        np.testing.assert_allclose(np.exp(log_intent).sum(axis=1), 1, rtol=1e-5)

    def test_an_empty_history_gives_finite_values(self, encoder):
        for rows in (histories([0, 0]), histories([1, 2], [0, 0])):
            for values in make(encoder).user_vectors(rows):
                assert np.all(np.isfinite(values))

    def test_padding_and_company_change_nothing(self, encoder):
        model = make(encoder)
        alone = model.user_vectors(histories([3, 9, 17]))
        in_company = model.user_vectors(histories([3, 9, 17], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [5]))
        for single, many in zip(alone, in_company, strict=True):
            np.testing.assert_allclose(single[0], many[0], atol=1e-5)

    def test_order_matters(self, encoder):
        vectors, _ = make(encoder).user_vectors(histories([3, 9, 17], [9, 3, 17]))
        assert not np.allclose(vectors[0], vectors[1], atol=1e-4)

    def test_a_training_step_is_a_function_of_seed_and_step(self, encoder):
        def losses():
            model = make(encoder)
            return [float(model.train_step(batch_of(random_sequences(4)))["total_loss"]) for _ in range(3)]

        first = losses()
        assert first == losses()
        assert np.all(np.isfinite(first))

    @pytest.mark.parametrize("loss", sorted(LOSSES))
    def test_learns_a_log_with_two_disjoint_tastes(self, encoder, loss):
        # Taste A walks 1 2 3 4 5, taste B walks 16 17 18 19 20; the next item is certain in either.
        model = make(encoder, loss)
        batch = batch_of([[1, 2, 3, 4, 5], [16, 17, 18, 19, 20]] * 4)
        step = tf.function(model.train_step)
        # A few draws for a whole batch tell an item from its neighbours in some of the steps only.
        for _ in range(300 if loss in DRAWING else 100):
            step(batch)
        vectors, log_intent = model.user_vectors(histories([1, 2, 3], [16, 17, 18]))
        np.testing.assert_array_equal(np.argmax(log_intent, axis=1), [0, 2])
        for row, (cluster, item) in enumerate([(0, 4), (2, 19)]):
            vector = vectors[row, cluster if vectors.shape[1] > 1 else 0]
            start, stop = OFFSETS[cluster], OFFSETS[cluster + 1]
            scores = model.item_embeddings.numpy()[start:stop] @ vector.numpy()
            assert start + scores.argmax() + 1 == item

    def test_every_variable_learns(self, encoder):
        model = make(encoder)
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch_of(random_sequences(30)), training=True)
        gradients = tape.gradient(loss, model.trainable_variables)
        silent = [
            variable.name
            for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
            if gradient is None or not np.any(tf.convert_to_tensor(gradient))
        ]
        assert silent == []


@pytest.mark.parametrize("loss", DRAWING)
def test_a_resumed_step_draws_the_items_it_would_have_drawn(loss):
    def loss_at(step):
        model = make("transformer", loss, dropout=0.0)
        model.optimizer.iterations.assign(step)
        return float(model.compute_loss(batch_of(random_sequences(4)), training=True))

    assert loss_at(5) == loss_at(5)
    assert loss_at(5) != loss_at(6)


def test_the_counts_of_the_items_reach_the_loss():
    def loss_with(counts):
        model = make("transformer", "sampled_softmax", dropout=0.0, counts=counts, negative_exponent=1.0)
        return float(model.compute_loss(batch_of(random_sequences(4)), training=True))

    assert loss_with(None) == loss_with(np.full(N, 7))
    assert loss_with(None) != loss_with(np.arange(N))


def test_per_position_training_states_equal_what_a_request_computes():
    """Teacher-forced prompts of a history are the prompts that a request gives its prefix."""
    model = make("hadamard_per_position")
    sequence = [3, 9, 17, 1, 6]
    batch = batch_of([sequence])
    tokens, positions = model._embed(batch["history"])
    states = model._encoder.training_states(
        model._trunk, tokens, positions, batch["target_cluster"], batch["target"] > 0, seed=None
    )
    for length in range(1, len(sequence)):
        vectors, log_intent = model.user_vectors(histories(sequence[:length]))
        asked = CLUSTERS[sequence[length] - 1]
        np.testing.assert_allclose(vectors[0, asked], states.retrieval[0, length - 1], atol=1e-5)
        intent = tf.nn.log_softmax(model._intent_head(states.intent[:, length - 1]))
        np.testing.assert_allclose(log_intent, intent, atol=1e-5)


def test_the_intent_of_a_position_does_not_know_the_answer():
    """The prompt of position j names the target's cluster; the intent query of position j must not read it."""
    model = make("hadamard_per_position")
    one, other = batch_of([[3, 9, 1]]), batch_of([[3, 9, 20]])  # targets in clusters 0 and 2
    tokens, positions = model._embed(one["history"])
    intents = [
        model._encoder.training_states(
            model._trunk, tokens, positions, batch["target_cluster"], batch["target"] > 0, seed=None
        ).intent
        for batch in (one, other)
    ]
    np.testing.assert_array_equal(*intents)


def test_literal_prompts_multiply_every_position_by_the_same_task_embedding():
    """Eq. 5: e_k = Transformer([s_1 * t_k, ..., s_L * t_k])."""
    model = make("hadamard_literal")
    history = histories([3, 9, 17])
    vectors, _ = model.user_vectors(history)
    tokens, positions = model._embed(history)
    for cluster in range(K):
        prompted = tokens * model._encoder._task_embeddings[cluster] + positions
        np.testing.assert_allclose(vectors[:, cluster], model._trunk(prompted).prefix[:, -1], atol=1e-5)


def test_literal_training_trains_one_cluster_per_sequence():
    model = make("hadamard_literal")
    batch = batch_of(random_sequences(50))
    tokens, positions = model._embed(batch["history"])
    states = model._encoder.training_states(
        model._trunk, tokens, positions, batch["target_cluster"], batch["target"] > 0, seed=tf.constant([1, 2])
    )
    trained = states.trained.numpy()
    assert trained.any(axis=1).all()
    for row in range(50):
        clusters = batch["target_cluster"].numpy()[row]
        chosen = set(clusters[trained[row]])
        assert len(chosen) == 1
        # Every position of the drawn cluster is trained, none beyond the end of the sequence.
        expected = (clusters == chosen.pop()) & (batch["target"].numpy()[row] > 0)
        np.testing.assert_array_equal(trained[row], expected)


def test_a_single_cluster_has_no_intent_to_learn():
    model = make("transformer", "softmax", offsets=(0, N))
    batch = batch_of(random_sequences(4))
    batch["target_cluster"] = tf.zeros_like(batch["target_cluster"])
    assert np.isfinite(float(model.compute_loss(batch, training=True)))
    _, log_intent = model.user_vectors(histories([1, 2]))
    np.testing.assert_array_equal(log_intent, [[0.0]])


def test_unknown_names_are_listed():
    with pytest.raises(UserError, match="known: hadamard_literal, hadamard_per_position, transformer"):
        make("hadamar")
