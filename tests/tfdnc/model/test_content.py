"""Content vectors in item vectors: projected, unknown, and never in a checkpoint."""

import dataclasses

import numpy as np
import pytest

from tfdnc.backend import keras, tf
from tfdnc.contracts.config import parse_config
from tfdnc.contracts.items import ItemTable
from tfdnc.model import content as module
from tfdnc.model.content import content_of
from tfdnc.model.item_tower import FeaturedItems, features_of
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower
from tfdnc.training.checkpoint import load_trained, named_variables, read_checkpoint, write_checkpoint

VECTORS = np.random.default_rng(3).normal(2, 1, (6, 3)).astype("f4")  # in order of the sequences; item 3 has none
VECTORS[4] = np.nan
ROWS = [1, 0, 4, 3, 5]  # of the items 1 to 5; item 3 is cold
DIM, COUNTS = 4, np.array([7, 5, 0, 3, 2])
CONTENT = ItemTable(
    item_ids=["a", "b", "c", "d", "e"],
    counts=COUNTS,
    clusters=np.array([0, 0, 0, 1, 1], np.int32),
    offsets=(0, 3, 5),
    sequence_indices=np.array(ROWS, np.int32) + 1,
    titles=["a", "b", "c", "d", "e"],
    cluster_names=["one", "two"],
    vectors={"look": VECTORS},
)
CONFIG = parse_config(
    {
        "name": "x",
        "data": {"items": {"path": "items.parquet", "features": {"look": "vector"}}},
        "model": {"dim": DIM, "max_length": 3, "blocks": 1, "item_features": True},
        "train": {"precision": "float32", "hidden_items": 0.5},
    }
)


@pytest.fixture(params=[2, 100], ids=["in parts", "at once"])
def content(request, monkeypatch):
    monkeypatch.setattr(module, "_ROWS", request.param)
    [found] = content_of(CONTENT)
    return found


def test_vectors_are_in_the_order_of_the_items_with_moments_of_the_trained_ones(content):
    np.testing.assert_array_equal(content.vectors, np.where(np.isnan(VECTORS), 0, VECTORS)[ROWS])
    assert content.known.tolist() == [True, True, False, True, True]
    trained = VECTORS[[1, 0, 3, 5]]
    np.testing.assert_allclose(content.mean, trained.mean(axis=0), rtol=1e-6)
    distances = ((trained - trained.mean(axis=0)) ** 2).sum(axis=1)
    assert content.scale == pytest.approx(distances.mean() ** 0.5)


def test_a_share_is_the_projection_or_that_of_an_unknown_vector():
    items = FeaturedItems(DIM, features_of(CONTENT), COUNTS, hidden=0.0)
    projection = items.content["look"]
    projection.unknown.assign([1.0, 2.0, 3.0, 4.0])
    weights, mean, scale = (np.array(v) for v in (projection.projection, projection.mean, projection.scale))
    expected = (VECTORS[ROWS] - mean) / scale @ weights
    expected[2] = [1, 2, 3, 4]
    np.testing.assert_allclose(projection.share(), expected, atol=1e-6)
    embeddings = items.embeddings.numpy() * (COUNTS > 0)[:, None]
    np.testing.assert_allclose(items.vectors(), embeddings + expected, atol=1e-6)  # no named features beside them


def test_single_rows_are_those_of_all_items():
    """As `rowwise_adam` reads them; a feature of another kind is shared by two items."""
    table = dataclasses.replace(CONTENT, features=[["k=1"], ["k=1"], [], [], ["k=1"]])
    items = FeaturedItems(DIM, features_of(table), COUNTS, hidden=0.0)
    items.content["look"].unknown.assign([1.0, 2.0, 3.0, 4.0])
    rows = tf.constant([[2, 0], [4, 2]])
    np.testing.assert_allclose(items.rows().gather(rows), tf.gather(items.vectors(), rows), atol=1e-6)


def test_equal_vectors_have_no_scale_to_divide_by():
    [found] = content_of(dataclasses.replace(CONTENT, vectors={"look": np.ones_like(VECTORS)}))
    assert found.scale == 1


def untrained():
    """Returns the tower of a model with content vectors."""
    return Tower.make(CONFIG.model, CONFIG.train, CONTENT.offsets, 1, COUNTS, features=features_of(CONTENT))


def trained(folder):
    """Writes such a model after one step of training, and returns its tower."""
    tower = untrained()
    model = Retriever(tower, CONFIG.train, seed=1)
    model.compile(optimizer=keras.optimizers.Adam())
    model.optimizer.build(model.trainable_variables)
    batch = {"user": tf.range(1), "history": tf.constant([[1, 2, 4]]), "target": tf.constant([[2, 4, 5]])}
    batch |= {"target_cluster": tf.constant([[0, 1, 1]]), "negatives": tf.zeros([1, 3, 0], tf.int32)}
    model.train_step(batch)
    write_checkpoint(folder, model, CONTENT)
    return tower


def test_the_projection_is_trained_and_the_vectors_and_their_scale_are_not(tmp_path):
    before, after = untrained().items.content["look"], trained(tmp_path).items.content["look"]
    assert {variable.name.split(":")[0].split("/")[-1] for variable in after.trainable_variables} == {
        "projection",
        "unknown",
    }
    np.testing.assert_array_equal(after.mean, before.mean)
    assert (after.unknown.numpy() == 0).all()  # the only item without a vector is cold: a history never shows it
    assert np.abs(after.projection.numpy() - before.projection.numpy()).min() > 0


def test_a_checkpoint_holds_the_share_and_not_the_vectors(tmp_path):
    tower = trained(tmp_path)
    names = {name: tuple(variable.shape) for name, variable in named_variables(tower).items()}
    assert {name: shape for name, shape in names.items() if "content" in name} == {
        "items/content/look/projection": (3, DIM),
        "items/content/look/unknown": (DIM,),
        "items/content/look/mean": (3,),
        "items/content/look/scale": (),
    }
    found = read_checkpoint(tmp_path)
    np.testing.assert_allclose(found.item_vectors, tower.item_vectors(), atol=1e-6)
    loaded = load_trained(CONFIG, CONTENT, tmp_path)
    np.testing.assert_array_equal(loaded.item_embeddings, tower.item_vectors())
