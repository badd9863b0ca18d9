"""Warm start: weights of an earlier run by item id, feature name and variable name; new items take an average place."""

import dataclasses
import shutil

import numpy as np
import pytest

from tests.tfdnc.training.small_runs import NEW, OLD, fit, killed_in_the_second_epoch, make_config, make_items
from tfdnc.backend import keras, tf
from tfdnc.contracts import schema
from tfdnc.contracts.config import ClusterConfig, dump_config, parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import Kind, event_feature
from tfdnc.model.item_tower import FeatureMatrix
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower
from tfdnc.training.checkpoint import (
    Checkpoint,
    named_variables,
    optimizer_moments,
    read_checkpoint,
    read_moments,
    write_checkpoint,
)
from tfdnc.training.warm_start import (
    fitting,
    item_embeddings,
    moments_for,
    refuse_other_clusters,
    weights_for,
)

EMBEDDINGS = np.array([[1, 0], [3, 0], [0, 5], [0, 7]], np.float32)
INITIAL = Checkpoint(
    item_ids=["a", "b", "c", "d"],
    clusters=np.array([0, 0, 1, 1], np.int32),
    cluster_names=["one", "two"],
    counts=np.array([4, 4, 4, 0]),
    embeddings=EMBEDDINGS,
    features=None,
    feature_rows=None,
    variables={"encoder/task_embeddings": np.arange(6, dtype=np.float32).reshape(3, 2), "intent/bias": np.ones(2)},
)
COLOURS = FeatureMatrix.of([["hue=red"], ["hue=blue"], ["hue=red"], ["hue=blue"]], ["hue=blue", "hue=red"])
ROWS = np.array([[10, 20], [30, 40]], np.float32)
FEATURED = dataclasses.replace(INITIAL, features=COLOURS, feature_rows=ROWS)


class TestValues:
    """Rows of a category's values: the logs of two days number them otherwise."""

    NAME = "inputs/readers/event_action/rows"
    ROWS = np.array([[9, 9], [1, 0], [2, 0]], np.float32)
    BEFORE = dataclasses.replace(
        INITIAL, variables={NAME: ROWS, **INITIAL.variables}, values={"action": ["buy", "view"]}
    )
    ACTION = event_feature("action", Kind.VALUE).with_values({"action": ["add", "view"]})
    ITEMS = make_items(["a", "b", "c", "d"], [0, 0, 1, 1])

    def shapes(self):
        own = {name: value.shape for name, value in INITIAL.variables.items()}
        return {self.NAME: (3, 2), "items/embeddings": (4, 2), **own}

    def test_a_known_value_keeps_its_row_and_a_new_one_starts_as_an_unknown_one(self):
        weights, new = weights_for(self.BEFORE, self.ITEMS, None, self.shapes(), {self.NAME: self.ACTION})
        np.testing.assert_array_equal(weights[self.NAME], [[9, 9], [9, 9], [2, 0]])
        assert not new
        moments = moments_for(self.NAME, self.ROWS, self.BEFORE, self.ITEMS, None, {self.NAME: self.ACTION})
        np.testing.assert_array_equal(moments, [[9, 9], [0, 0], [2, 0]])

    def test_an_input_that_the_initial_run_does_not_read_starts_as_a_new_one(self):
        weights, new = weights_for(INITIAL, self.ITEMS, None, self.shapes(), {self.NAME: self.ACTION})
        assert self.NAME not in weights
        assert new == [self.NAME]


class TestItems:
    ITEMS = make_items(["new", "b", "a", "d", "newer", "c"], [0, 0, 0, 1, 1, 1])

    def test_a_known_item_keeps_its_embedding_and_a_new_one_has_the_mean_of_its_cluster(self):
        found = item_embeddings(INITIAL, self.ITEMS, with_features=False)
        np.testing.assert_array_equal(found, [[2, 0], [3, 0], [1, 0], [0, 7], [0, 6], [0, 5]])

    def test_in_a_cluster_without_known_items_it_has_the_mean_of_all(self):
        items = make_items(["a", "b", "c", "d", "new"], [0, 0, 1, 1, 2], num_clusters=3)
        np.testing.assert_array_equal(item_embeddings(INITIAL, items, with_features=False)[-1], [1, 3])

    def test_with_features_a_new_item_starts_at_their_share_alone(self):
        found = item_embeddings(FEATURED, self.ITEMS, with_features=True)
        trained = [[3, 0], [1, 0], [0, 0], [0, 0], [0, 5]]  # d had no event: its embedding is noise
        np.testing.assert_array_equal(found, [[0, 0], *trained])

    def test_a_model_that_no_longer_has_features_takes_whole_vectors(self):
        [own] = item_embeddings(FEATURED, make_items(["b"], [0]), with_features=False)
        np.testing.assert_array_equal(own, [3 + 10, 0 + 20])


class TestClusters:
    def test_the_same_numbers_fit_and_new_items_do_not_count(self):
        refuse_other_clusters(INITIAL, make_items(["a", "new", "c", "newer"], [0, 0, 1, 1]), "runs/a")

    @pytest.mark.parametrize(
        ("clusters", "num_clusters", "found"),
        [
            ([0, 0, 0, 1], 2, "only 75% of the 4 common items have the same cluster number in both"),
            ([0, 0, 1, 1], 3, "that run has 2 clusters, this one 3"),
        ],
    )
    def test_others_are_refused_with_the_way_to_keep_them(self, tmp_path, clusters, num_clusters, found):
        with pytest.raises(UserError, match=found) as refused:
            refuse_other_clusters(INITIAL, make_items("abcd", clusters, num_clusters), tmp_path)
        assert f"Set cluster.method: previous and cluster.previous: {tmp_path / 'cluster' / schema.ITEMS}" in str(
            refused.value
        )

    def test_a_run_on_other_items_is_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"found none of 2 in .*: name a run on the same items"):
            refuse_other_clusters(INITIAL, make_items(["x", "y"], [0, 1]), tmp_path)


OWN = {name: value.shape for name, value in INITIAL.variables.items()}


class TestVariables:
    def test_by_name_where_the_shapes_are_equal(self):
        taken, new = fitting(INITIAL.variables, OWN | {"intent/bias": (4,), "inputs/dwell/direction": (2,)})
        assert taken.keys() == {"encoder/task_embeddings"}
        assert new == ["inputs/dwell/direction", "intent/bias"]

    def test_rows_of_users_are_of_another_log(self):
        """The users of a newer log have other numbers, so a table of the same shape is of other users."""
        users = {"encoder/users": np.ones([5, 2], np.float32)}
        taken, new = fitting(INITIAL.variables | users, OWN | {"encoder/users": (5, 2)})
        assert new == ["encoder/users"]
        assert "encoder/users" not in taken

    @pytest.mark.parametrize("own", [{"encoder/task_embeddings": (3, 4)}, {}, OWN | {"encoder/positions": (9, 2)}])
    def test_an_encoder_of_other_sizes_is_refused(self, own):
        with pytest.raises(ValueError, match=r"^encoder/(task_embeddings \(3, 2\)|positions None) -> "):
            fitting(INITIAL.variables, own)

    def test_rows_of_features_by_name(self):
        """A feature that the initial run does not have starts at 0 and changes no vector."""
        features = FeatureMatrix.of([["hue=red"], ["hue=green"]], ["hue=green", "hue=red"])
        shapes = OWN | {"items/embeddings": (2, 2), "items/feature_rows": (2, 2)}
        for initial, red in ((FEATURED, [30, 40]), (INITIAL, [0, 0])):
            weights, _ = weights_for(initial, make_items("ab", [0, 1]), features, shapes)
            np.testing.assert_array_equal(weights["items/feature_rows"], [[0, 0], red])

    def test_moments_of_new_rows_are_0(self):
        items, features = make_items(["new", "c"], [0, 1]), FeatureMatrix.of([[], []], ["hue=red", "size=1"])
        found = moments_for("items/embeddings", EMBEDDINGS + 1, FEATURED, items, features)
        np.testing.assert_array_equal(found, [[0, 0], [1, 6]])
        np.testing.assert_array_equal(
            moments_for("items/feature_rows", ROWS, FEATURED, items, features), [[30, 40], [0, 0]]
        )


class TestConfig:
    def test_the_clusters_are_those_of_the_initial_run(self):
        config = parse_config({"name": "b", "train": {"initial": "runs/a"}})
        assert config.cluster == ClusterConfig(method="previous", previous="runs/a/cluster/items.parquet")
        assert "runs/a/cluster/items.parquet" in dump_config(config)
        assert parse_config({"name": "b"}).cluster.method == "word2vec_kmeans"

    def test_what_the_config_says_of_clusters_wins(self):
        train = {"initial": "runs/a"}
        assert parse_config({"name": "b", "train": train, "cluster": {"method": "single"}}).cluster.previous is None
        other = {"method": "previous", "previous": "other.parquet"}
        assert str(parse_config({"name": "b", "train": train, "cluster": other}).cluster.previous) == "other.parquet"


# trainings --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def old_run(tmp_path_factory):
    """A finished training on ten items, with the config that a run's folder has."""
    run = tmp_path_factory.mktemp("old") / "a"
    fit(run, OLD, make_config())
    (run / schema.RUN_CONFIG).write_text(dump_config(make_config()))
    return run


def test_a_warm_model_without_training_is_the_old_one(old_run, tmp_path):
    old, new = read_checkpoint(old_run / "train"), fit(tmp_path, NEW, make_config(old_run, epochs=0))
    rows = new.rows(old.item_ids)
    np.testing.assert_array_equal(new.embeddings[rows], old.embeddings)
    np.testing.assert_allclose(new.embeddings[5], old.embeddings[:5].mean(axis=0), rtol=1e-6)
    assert new.variables.keys() == old.variables.keys()
    for name, value in old.variables.items():
        np.testing.assert_array_equal(new.variables[name], value)


def test_adam_goes_on_with_its_moments_and_begins_a_schedule_of_its_own(old_run, tmp_path):
    fit(tmp_path, NEW, make_config(old_run, epochs=0))
    old, new = (read_moments(run / "train") for run in (old_run, tmp_path))
    assert old.keys() == new.keys() >= {"items/embeddings", "encoder/task_embeddings"}
    for name, moments in old.items():
        for one, other in zip(moments, new[name], strict=True):
            assert one.any()
            if name == "items/embeddings":
                assert not other[5].any()
                other = np.delete(other, 5, axis=0)
            np.testing.assert_array_equal(one, other)
    reader = tf.train.load_checkpoint(str(tmp_path / "train" / schema.WEIGHTS))
    assert reader.get_tensor("optimizer/_iterations/.ATTRIBUTES/VARIABLE_VALUE") == 0


@pytest.mark.parametrize(
    ("before", "after"), [("adam", "rowwise_adam"), ("rowwise_adam", "adam"), ("rowwise_adam",) * 2]
)
def test_numbers_per_row_go_on_with_their_items(tmp_path, before, after):
    """By row an optimiser has only the mean square of the gradients, over the row, as a logarithm with the step."""
    fit(tmp_path / "a", OLD, make_config(optimizer=before))
    (tmp_path / "a" / schema.RUN_CONFIG).write_text(dump_config(make_config(optimizer=before)))
    fit(tmp_path / "b", NEW, make_config(tmp_path / "a", optimizer=after, epochs=0))
    old, new = (read_moments(run / "train") for run in (tmp_path / "a", tmp_path / "b"))
    assert old.keys() == new.keys()
    first, second = new["items/embeddings"]
    if before == "rowwise_adam":
        assert first is None or not first.any()
    assert not second[5].any()  # a new item
    expected = old["items/embeddings"].second.mean(axis=1)
    np.testing.assert_allclose(np.delete(second.mean(axis=1), 5), expected, rtol=1e-5)
    assert (expected > 0).all()
    for one, other in zip(old["encoder/task_embeddings"], new["encoder/task_embeddings"], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("encoder", ["hadamard_per_position", "ple"])
def test_names_of_variables_and_moments_are_those_of_the_checkpoint(tmp_path, encoder):
    config = make_config(encoder=encoder)
    tower = Tower.make(config.model, config.train, OLD.offsets, 1, OLD.counts)
    model = Retriever(tower, config.train, seed=1)
    model.compile(optimizer=keras.optimizers.Adam())
    model.optimizer.build(model.trainable_variables)
    names = named_variables(tower)
    for place, (name, (first, second)) in enumerate(optimizer_moments(model).items()):
        first.assign(tf.fill(first.shape, float(place)))
        second.assign(tf.fill(second.shape, place + 0.5))
        assert first.shape == names[name].shape
    write_checkpoint(tmp_path, model, OLD)
    found = read_checkpoint(tmp_path)
    assert names.keys() == {*found.variables, "items/embeddings"}
    for name, value in found.variables.items():
        np.testing.assert_array_equal(names[name].numpy(), value)
    for place, (first, second) in enumerate(read_moments(tmp_path).values()):
        assert {place} == set(first.ravel())
        assert {place + 0.5} == set(second.ravel())
    assert list(read_moments(tmp_path)) == list(optimizer_moments(model))


def test_other_sizes_are_refused_with_the_key_to_set(old_run, tmp_path):
    with pytest.raises(UserError, match=r"Expected a model of the sizes of train\.initial, .* Set model\.dim: 4\.$"):
        fit(tmp_path, OLD, make_config(old_run, dim=8))


def test_an_encoder_that_learns_no_items_is_refused(old_run, tmp_path):
    with pytest.raises(UserError, match=r"no train\.initial with model\.encoder item_counts"):
        fit(tmp_path, OLD, make_config(old_run, encoder="item_counts", epochs=0))


@pytest.mark.parametrize("optimizer", ["adam", "rowwise_adam"])
def test_a_killed_warm_training_goes_on_without_the_initial_run(old_run, tmp_path, optimizer):
    initial = shutil.copytree(old_run, tmp_path / "initial")
    config = make_config(initial, epochs=3, optimizer=optimizer)
    whole = fit(tmp_path / "whole", NEW, config)
    killed_in_the_second_epoch(tmp_path / "killed", NEW, config)
    shutil.rmtree(initial)
    resumed = fit(tmp_path / "killed", NEW, config)
    np.testing.assert_array_equal(resumed.embeddings, whole.embeddings)
    for name, value in whole.variables.items():
        np.testing.assert_array_equal(resumed.variables[name], value)
