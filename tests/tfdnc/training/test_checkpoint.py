"""Checkpoints: another run reads item vectors by id, the share of the features apart, and all else by name."""

import dataclasses

import numpy as np
import pytest

from tfdnc.backend import keras, tf
from tfdnc.contracts.config import ExperimentConfig, parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.schema import CHECKPOINT_ITEMS, WEIGHTS
from tfdnc.model import intent
from tfdnc.model.item_tower import feature_matrix
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower
from tfdnc.training.checkpoint import load_tower, load_trained, read_checkpoint, write_checkpoint

DIM, CLUSTERS = 4, np.array([0, 0, 0, 1, 1], np.int32)
ITEMS = ItemTable(
    item_ids=["film-9", "film-2", "neu \u00e9", "4", "5"],
    counts=np.array([7, 5, 0, 3, 2]),
    clusters=CLUSTERS,
    offsets=(0, 3, 5),
    sequence_indices=np.arange(1, 6),
    titles=["a", "b", "c", "d", "e"],
    cluster_names=['old, "quoted"', "new"],
    features=[["genre=x", "genre=y"], ["genre=x"], ["genre=y", "only=here"], ["genre=y", "year=1"], ["year=1"]],
)
HISTORY = tf.constant([[1, 2, 4], [5, 0, 0]])


def make_config(item_features: bool = False, **train) -> ExperimentConfig:
    train = {"precision": "float32", **train}
    data = {"items": {"path": "items.csv", "features": {"genre": "values"}}}
    model = {"dim": DIM, "max_length": 3, "blocks": 1, "item_features": item_features}
    return parse_config({"name": "x", "seed": 3, "data": data, "model": model, "train": train})


def written(folder, item_features=False, **train):
    """Writes a model as a training would leave it, and returns its tower."""
    config, features = make_config(item_features, **train), feature_matrix(ITEMS.features, ITEMS.counts)
    tower = Tower.make(
        config.model, config.train, ITEMS.offsets, 1, ITEMS.counts, features=features if item_features else None
    )
    model = Retriever(tower, config.train, seed=1)
    model.compile(optimizer=keras.optimizers.Adam())
    model.optimizer.build(model.trainable_variables)
    write_checkpoint(folder, model, ITEMS)
    return tower


@pytest.mark.parametrize("kind", ["head", "partition"])
def test_a_finished_run_keeps_its_intent_where_auto_would_choose_another_now(tmp_path, kind, monkeypatch):
    """`model.intent: auto` has another rule than earlier versions, and its weights stay readable."""
    other = "partition" if kind == "head" else "head"
    monkeypatch.setattr(intent, "auto_intent", lambda counts: kind)
    tower = written(tmp_path)
    assert tower.intent.kind == kind
    monkeypatch.setattr(intent, "auto_intent", lambda counts: other)
    found = load_tower(make_config(), ITEMS, tmp_path)
    assert found.intent.kind == kind
    np.testing.assert_allclose(found.user_vectors(HISTORY)[1], tower.user_vectors(HISTORY)[1], atol=1e-6)


@pytest.mark.parametrize("item_features", [False, True])
class TestRead:
    def test_item_vectors_by_id(self, tmp_path, item_features):
        tower, found = written(tmp_path, item_features), read_checkpoint(tmp_path)
        assert (found.item_ids, found.cluster_names) == (ITEMS.item_ids, ITEMS.cluster_names)
        np.testing.assert_array_equal(found.clusters, CLUSTERS)
        np.testing.assert_array_equal(found.counts, ITEMS.counts)
        np.testing.assert_array_equal(found.rows(["5", "film-2", "unheard of"]), [4, 1, -1])
        np.testing.assert_array_equal(found.embeddings, tower.item_embeddings.numpy())
        np.testing.assert_allclose(found.item_vectors, tower.item_vectors().numpy(), atol=1e-7)

    def test_the_share_of_the_features_is_apart(self, tmp_path, item_features):
        tower, found = written(tmp_path, item_features), read_checkpoint(tmp_path)
        if not item_features:
            assert (found.features, found.feature_rows) == (None, None)
            assert not found.feature_share.any()
            return
        x, y, year = tower.items.feature_rows.numpy()
        assert found.features.names == ["genre=x", "genre=y", "year=1"]
        np.testing.assert_array_equal(found.feature_rows, [x, y, year])
        expected = [(x + y) / 2**0.5, x, y, y + year, year]
        np.testing.assert_allclose(found.feature_share, expected, atol=1e-7)
        np.testing.assert_allclose(found.item_vectors[2], y, atol=1e-7)  # its own embedding was never trained

    def test_all_other_variables_by_name(self, tmp_path, item_features):
        tower, found = written(tmp_path, item_features), read_checkpoint(tmp_path)
        task_embeddings = next(v for v in tower.variables if "task_embeddings" in v.name)
        np.testing.assert_array_equal(found.variables["encoder/task_embeddings"], task_embeddings.numpy())
        assert found.variables["encoder/trunk/blocks/0/qkv/kernel"].shape == (DIM, 3 * DIM)
        apart = 2 if item_features else 1
        assert len(found.variables) == len(tower.variables) - apart

    def test_the_tower_for_evaluation_has_the_served_vectors(self, tmp_path, item_features):
        tower = written(tmp_path, item_features)
        loaded = load_trained(make_config(item_features), ITEMS, tmp_path)
        np.testing.assert_array_equal(loaded.item_embeddings.numpy(), tower.item_vectors().numpy())
        for one, other in zip(loaded.user_vectors(HISTORY), tower.user_vectors(HISTORY), strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_intent_that_is_not_learned_is_the_share_of_the_training_events(tmp_path):
    """It was the share of the items, because the tower was loaded without their counts."""
    written(tmp_path, intent_weight=0)
    _, log_intent = load_trained(make_config(intent_weight=0), ITEMS, tmp_path).user_vectors(HISTORY)
    np.testing.assert_allclose(np.exp(log_intent), [[12 / 17, 5 / 17]] * 2, atol=1e-3)


def test_a_training_can_be_continued(tmp_path):
    """Folded into the embeddings, the share of the features could not be trained any further."""
    config, matrix = make_config(True), feature_matrix(ITEMS.features, ITEMS.counts)
    tower = Tower.make(config.model, config.train, ITEMS.offsets, 1, ITEMS.counts, features=matrix)
    one, other = (Retriever(made, config.train, seed=1) for made in (tower, written(tmp_path, True)))
    one.compile(optimizer=keras.optimizers.Adam())
    one.optimizer.build(one.trainable_variables)
    restored = tf.train.Checkpoint(tower=one.tower, optimizer=one.optimizer).read(str(tmp_path / WEIGHTS))
    restored.assert_consumed()
    for mine, others in zip(one.tower.variables, other.tower.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), others.numpy())


@pytest.mark.parametrize("name", [CHECKPOINT_ITEMS, f"{WEIGHTS}.index", f"{WEIGHTS}.data-00000-of-00001"])
@pytest.mark.parametrize("content", [None, b"PAR1 half a file"])
def test_a_damaged_checkpoint_is_refused(tmp_path, name, content):
    written(tmp_path, item_features=True)
    (tmp_path / name).unlink()
    if content:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"^Expected weights and their items, {WEIGHTS} and .*Train again\.$"):
        read_checkpoint(tmp_path)


def test_a_table_of_other_items_is_refused(tmp_path):
    (tmp_path / "one").mkdir()
    written(tmp_path / "one", item_features=False)
    fewer = dataclasses.replace(
        ITEMS, item_ids=ITEMS.item_ids[:4], counts=ITEMS.counts[:4], clusters=CLUSTERS[:4], offsets=(0, 3, 4)
    )
    config = make_config(False)
    model = Retriever(Tower.make(config.model, config.train, fewer.offsets, 1, fewer.counts), config.train, seed=1)
    model.compile(optimizer="sgd")
    (tmp_path / "other").mkdir()
    write_checkpoint(tmp_path / "other", model, fewer)
    (tmp_path / "other" / CHECKPOINT_ITEMS).replace(tmp_path / "one" / CHECKPOINT_ITEMS)
    with pytest.raises(UserError, match=r"weights of \(5, None\) items and features, a table of \(4, None\)"):
        read_checkpoint(tmp_path / "one")
