"""The cluster of every history item in its token, in windows and requests alike."""

import numpy as np
import pytest

from tests.tfdnc.model.small_model import CLUSTERS, D, K, N, batch_of, histories, make, random_sequences
from tfdnc.backend import tf
from tfdnc.contracts.errors import UserError

HISTORY = histories([3, 9, 17, 1], [6, 20])


def with_clusters(encoder="transformer"):
    """A model whose embeddings of clusters are as large as those of items in tokens."""
    model = make(encoder, model={"history_clusters": True, "dropout": 0.0})
    model.tower.history_clusters.rows.assign(np.random.default_rng(0).normal(size=[K, D]))
    return model


def test_a_token_is_its_item_and_its_cluster():
    tower = with_clusters().tower
    tokens = tower.tokens(tower.item_vectors(), HISTORY).numpy()
    for row, length in enumerate((4, 2)):
        for position in range(length):
            item = int(HISTORY[row, position]) - 1
            expected = (
                tower.item_embeddings.numpy()[item] * D**0.5 + tower.history_clusters.rows.numpy()[CLUSTERS[item]]
            )
            np.testing.assert_allclose(tokens[row, position], expected, rtol=1e-5)


def test_the_other_weights_of_a_seed_are_those_of_a_model_without():
    plain, other = make("transformer").tower, make("transformer", model={"history_clusters": True}).tower
    assert len(other.variables) == len(plain.variables) + 1
    for one, two in zip(plain.variables, other.variables, strict=False):
        np.testing.assert_array_equal(one, two)


def test_a_request_is_encoded_as_the_window_was_trained():
    model, sequence = with_clusters(), [3, 9, 17, 1, 6]
    states = model.training_states(batch_of([sequence]), None)
    vectors, _ = model.tower.user_vectors(histories(sequence[:-1]))
    np.testing.assert_allclose(vectors[0, 0], states.retrieval[0, -1], atol=1e-5)


def test_an_item_that_has_left_keeps_its_cluster():
    """A refresh gives the items that stay other numbers; those that left come after all clusters."""
    tower = with_clusters().tower
    left = [2, 8, 16]  # rows of items 3, 9, 17
    stay = [row for row in range(N) if row not in left]
    vectors = tower.item_embeddings.numpy()[stay + left]
    sizes = np.bincount(CLUSTERS[stay])
    after = tower.with_items((0, *np.cumsum(sizes).tolist()), tower.counts[stay], vectors, CLUSTERS[left])
    number_of = {row: number for number, row in enumerate(stay + left, 1)}
    renumbered = tf.constant([[number_of[item - 1] if item else 0 for item in row] for row in HISTORY.numpy().tolist()])
    np.testing.assert_allclose(after.user_vectors(renumbered)[0], tower.user_vectors(HISTORY)[0], atol=1e-5)


def test_the_embeddings_of_clusters_learn():
    model = make("hadamard_state", model={"history_clusters": True})
    before = model.tower.history_clusters.rows.numpy()
    model.train_step(batch_of(random_sequences(8)))
    assert (before != model.tower.history_clusters.rows.numpy()).any(axis=1).all()


def test_an_encoder_that_reads_no_order_refuses_them():
    with pytest.raises(UserError, match=r"model\.history_clusters only with an encoder that reads order, item_counts"):
        make("item_counts", model={"history_clusters": True})
