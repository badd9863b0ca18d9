"""Item vectors with features: what cold items are known by, in training and after it."""

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.model_config import ModelConfig, TrainConfig
from tfdnc.model.catalogue import Catalogue, Targets
from tfdnc.model.item_tower import FeaturedItems, FeatureMatrix, TrainedItems, feature_matrix
from tfdnc.model.losses import LOSSES
from tfdnc.model.randomness import Stream
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower

OFFSETS = (0, 4, 7)
COUNTS = np.array([9, 5, 0, 2, 4, 0, 1])
FEATURES = [
    ["genre=a", "genre=b", "year=1"],
    ["genre=a"],
    ["genre=a", "year=1", "year=9"],  # cold
    [],
    ["genre=b", "year=1", "maker=x"],
    ["year=9", "genre=b"],  # cold
    ["genre=c"],
]
MATRIX = np.zeros([7, 3], np.float32)  # of genre=a, genre=b, year=1
MATRIX[0] = [0.5**0.5, 0.5**0.5, 1]
MATRIX[1] = [1, 0, 0]
MATRIX[2] = [1, 0, 1]
MATRIX[4] = [0, 1, 1]
MATRIX[5] = [0, 1, 0]


def make(hidden_items=0.0, encoder="transformer", loss="in_cluster_softmax", counts=COUNTS, **features):
    config = ModelConfig(encoder=encoder, dim=8, max_length=5, blocks=1, dropout=0.0)
    train = TrainConfig(precision="float32", loss=loss, hidden_items=hidden_items)
    model = Retriever(Tower.make(config, train, OFFSETS, 1, counts, **features), train, seed=1)
    model.compile(optimizer="sgd")
    return model


def make_batch():
    """Two windows of trained items."""
    history, target = tf.constant([[1, 2, 5], [7, 4, 0]]), tf.constant([[2, 5, 4], [4, 1, 0]])
    negatives = tf.constant([[[3], [6], [1]], [[3], [2], [0]]])  # 3 and 6 are cold
    clusters = tf.cast(target > 4, tf.int32)
    return {"user": tf.range(2), "history": history, "target": target} | {
        "target_cluster": clusters,
        "negatives": negatives,
    }


def test_features_of_two_trained_items_count_and_columns_of_several_values_are_scaled():
    matrix = feature_matrix(FEATURES, COUNTS)
    assert matrix.names == ["genre=a", "genre=b", "year=1"]
    dense = np.zeros_like(MATRIX)
    dense[tuple(matrix.positions.T)] = matrix.weights
    np.testing.assert_allclose(dense, MATRIX, rtol=1e-6)


def test_the_lists_of_a_matrix_make_it_again():
    matrix = feature_matrix(FEATURES, COUNTS)
    again = FeatureMatrix.of(matrix.lists(), matrix.names)
    np.testing.assert_array_equal(again.positions, matrix.positions)
    np.testing.assert_array_equal(again.weights, matrix.weights)


@pytest.mark.parametrize("features", [None, [[]] * 7, [["id=1"], ["id=2"], ["new=1"], [], [], ["new=1"], []]])
def test_nothing_that_items_share_is_refused(features):
    with pytest.raises(UserError, match=r"features that several items share .* name columns in data.items.features"):
        feature_matrix(features, COUNTS)


class TestItemVectors:
    def make_layer(self, hidden):
        layer = FeaturedItems(8, feature_matrix(FEATURES, COUNTS), COUNTS, hidden)
        return layer, layer.embeddings.numpy()

    def test_are_the_sum_of_both_and_of_cold_items_that_of_their_features(self):
        layer, embeddings = self.make_layer(hidden=0.5)
        of_features = MATRIX @ layer.feature_rows.numpy()
        known = (COUNTS > 0)[:, None]
        np.testing.assert_allclose(layer.vectors(), known * embeddings + of_features, atol=1e-6)

    def test_a_training_step_knows_a_share_of_the_items_by_their_features_only(self):
        layer, embeddings = self.make_layer(hidden=0.25)
        of_features = MATRIX @ layer.feature_rows.numpy()
        hidden = []
        for step in range(200):
            vectors = layer.vectors(Stream.at(1, step)).numpy()
            alone = np.isclose(vectors, of_features, atol=1e-6).all(axis=1)
            np.testing.assert_allclose(vectors[~alone], (embeddings + of_features)[~alone], atol=1e-6)
            hidden.append(alone[COUNTS > 0])
        assert 0.2 < np.mean(hidden) < 0.3
        assert np.std(hidden, axis=0).min() > 0  # not the same items in every step

    def test_of_a_model_without_features_are_its_embeddings(self):
        model = make()
        np.testing.assert_array_equal(model.tower.item_vectors(Stream.at(1, 1)), model.tower.item_embeddings.numpy())


class TestTrainedItems:
    def test_the_catalogue_has_no_cold_items_and_targets_follow(self):
        trained = TrainedItems(COUNTS, OFFSETS)
        catalogue = trained.catalogue(tf.range(7)[:, None])
        assert catalogue.embeddings.numpy().ravel().tolist() == [0, 1, 3, 4, 6]
        assert catalogue.offsets == (0, 3, 5)
        assert catalogue.counts.tolist() == [9, 5, 2, 4, 1]
        targets = trained.targets(Targets(tf.constant([1, 4, 5, 7]), tf.constant([0, 0, 1, 1]), tf.constant([[3, 7]])))
        assert targets.items.numpy().tolist() == [1, 3, 4, 5]
        assert targets.negatives.numpy().tolist() == [[0, 5]]  # cold ones are padding

    def test_a_cluster_of_cold_items_keeps_one(self):
        catalogue = TrainedItems(np.array([1, 1, 1, 1, 0, 0, 0]), OFFSETS).catalogue(tf.range(7)[:, None])
        assert catalogue.offsets == (0, 4, 5)

    @pytest.mark.parametrize("loss", sorted(LOSSES))
    def test_every_loss_is_that_of_a_catalogue_without_them(self, loss):
        model = make(loss=loss, features=feature_matrix(FEATURES, COUNTS))
        rows = np.flatnonzero(COUNTS)
        states = tf.random.stateless_normal([4, 8], seed=[3, 4])
        clusters, negatives = tf.constant([0, 0, 1, 1]), tf.constant([[2], [3], [6], [5]])
        full = Targets(tf.constant([1, 4, 5, 7]), clusters, negatives)
        alone = Targets(tf.constant([1, 3, 4, 5]), clusters, tf.constant([[2], [0], [0], [4]]))
        items = model.tower.item_vectors()
        without = Catalogue(tf.gather(items, rows), (0, 3, 5), COUNTS[rows])
        stream, train = Stream.at(1, 1), model._train_config
        trained = model._trained_items
        found = LOSSES.resolve(loss)(states, trained.targets(full), trained.catalogue(items), train, tf.float32, stream)
        expected = LOSSES.resolve(loss)(states, alone, without, train, tf.float32, stream)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("loss", ["bce", "in_cluster_softmax", "softmax"])
def test_training_does_not_lower_the_scores_of_cold_items(loss):
    """As negatives of all positions they would lower the scores of "year=9"."""
    features = [[*own, "year=9"] if row in (1, 3) else own for row, own in enumerate(FEATURES)]
    model = make(loss=loss, features=feature_matrix(features, COUNTS))
    with tf.GradientTape() as tape:
        value = model.compute_loss(make_batch(), training=True)
    gradient = tf.convert_to_tensor(tape.gradient(value, model.tower.item_embeddings)).numpy()
    np.testing.assert_array_equal(gradient[COUNTS == 0], 0)
    assert np.abs(gradient[COUNTS > 0]).max(axis=1).min() > 0
    changed = make(
        loss=loss, features=feature_matrix([own if COUNTS[row] else [] for row, own in enumerate(features)], COUNTS)
    )
    for mine, others in zip(changed.trainable_variables, model.trainable_variables, strict=True):
        mine.assign(others)
    assert float(changed.compute_loss(make_batch(), training=True)) == pytest.approx(float(value), rel=1e-6)


def test_vectors_that_are_given_take_no_features():
    with pytest.raises(UserError, match=r"no model\.item_features with item_counts, whose item vectors are given"):
        make(encoder="item_counts", features=feature_matrix(FEATURES, COUNTS))


@pytest.mark.parametrize("encoder", ["hadamard_per_position", "user_embedding"])
def test_the_served_tower_has_the_sums_as_plain_embeddings(encoder):
    """Evaluation and serving know of no features."""
    tower = make(hidden_items=0.5, encoder=encoder, features=feature_matrix(FEATURES, COUNTS)).tower
    embeddings, served = tower.item_embeddings.numpy(), tower.served()
    np.testing.assert_array_equal(served.item_embeddings.numpy(), tower.item_vectors().numpy())
    np.testing.assert_array_equal(tower.item_embeddings.numpy(), embeddings)  # training goes on with its own
    history = tf.constant([[1, 3, 5], [6, 0, 0]])
    for found, expected in zip(served.user_vectors(history), tower.user_vectors(history), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert served.served() is served
    with pytest.raises(ValueError, match=r"plain item vectors, got one with features: take `served\(\)` of it"):
        _ = tower.serving_variables


class TestRows:
    def make_layer(self, hidden=0.0):
        return FeaturedItems(8, feature_matrix(FEATURES, COUNTS), COUNTS, hidden)

    @pytest.mark.parametrize("rows", [[3, 0, 0, 5], [[2, 4], [6, 2]], 1, np.arange(7)])
    def test_are_those_of_all_vectors(self, rows):
        layer = self.make_layer()
        np.testing.assert_allclose(layer.rows().gather(tf.constant(rows)), layer.vectors().numpy()[rows], atol=1e-6)
        np.testing.assert_allclose(tf.convert_to_tensor(layer.rows()), layer.vectors(), atol=1e-6)

    def test_hide_the_same_embeddings_wherever_a_step_reads_them(self):
        layer = self.make_layer(hidden=0.25)
        of_features, whole = MATRIX @ layer.feature_rows.numpy(), layer.vectors().numpy()
        hidden = []
        for step in range(200):
            rows = layer.rows(Stream.at(1, step))
            vectors = rows.gather(tf.range(7)).numpy()
            np.testing.assert_array_equal(rows.gather(tf.constant([6, 3, 3])), vectors[[6, 3, 3]])
            alone = np.isclose(vectors, of_features, atol=1e-6).all(axis=1)
            np.testing.assert_allclose(vectors[~alone], whole[~alone], atol=1e-6)
            hidden.append(alone[COUNTS > 0])
        assert 0.2 < np.mean(hidden) < 0.3
        assert np.std(hidden, axis=0).min() > 0.3
        assert np.abs(np.corrcoef(np.transpose(hidden)) - np.eye(5)).max() < 0.25  # items are hidden independently

    @pytest.mark.parametrize("loss", sorted(LOSSES))
    def test_losses_and_gradients_are_those_of_a_dense_read(self, loss):
        found = []
        for by_row in (False, True):
            model = make(loss=loss, features=feature_matrix(FEATURES, COUNTS))
            model._by_row = by_row
            tables = [model.tower.items.embeddings, model.tower.items.feature_rows]
            with tf.GradientTape() as tape:
                value = model.compute_loss(make_batch(), training=True)
            gradients = tape.gradient(value, tables)
            assert all(isinstance(one, tf.IndexedSlices) == by_row for one in gradients)
            found.append([value, *map(tf.convert_to_tensor, gradients)])
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
