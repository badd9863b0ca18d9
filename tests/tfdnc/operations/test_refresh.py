"""Refresh of a run: vectors of its items, its versions, and what it refuses."""

import json
import logging
import shutil

import numpy as np
import pyarrow as pa
import pytest

from serving.bundles.bundle import models_in
from tests.tfdnc.operations.plain_run import make_plain_run, plain_refresh
from tfdnc.contracts import bundle, schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.model_config import ModelConfig, TrainConfig
from tfdnc.model.item_tower import feature_matrix
from tfdnc.model.tower import Tower
from tfdnc.operations.refresh import refresh
from tfdnc.operations.renewed_tower import item_vectors, known_features
from tfdnc.pipeline import stations
from tfdnc.pipeline.manifests import MANIFEST

FEATURES = [["tag=x"], ["tag=x", "tag=y"], ["tag=y"], ["tag=y"]]  # the last item is cold
ITEMS = ItemTable(
    item_ids=list("abcd"),
    counts=np.array([5, 4, 3, 0]),
    clusters=np.array([0, 0, 1, 1], np.int32),
    offsets=(0, 2, 4),
    sequence_indices=np.arange(1, 5),
    titles=list("abcd"),
    cluster_names=["A", "B"],
    features=FEATURES,
)


def make_tower(with_features=True):
    features = feature_matrix(FEATURES, ITEMS.counts) if with_features else None
    config = ModelConfig(encoder="transformer", dim=4, blocks=1)
    return Tower.make(config, TrainConfig(), ITEMS.offsets, 1, ITEMS.counts, features=features)


def table(**features):
    columns = {"item_id": list(features), "features": list(features.values())}
    return pa.table(columns, schema=pa.schema([schema.VERSION_ITEM_SCHEMA.field(name) for name in columns]))


def test_a_vector_is_the_trained_part_and_the_present_features():
    tower = make_tower()
    found = item_vectors(tower, ITEMS, table(d=["tag=x"], new=["tag=y", "tag=unknown"], a=["tag=x"], c=["tag=x"]))
    own, served = tower.item_embeddings.numpy(), tower.item_vectors().numpy()
    x, y = tower.items.feature_rows.numpy()
    np.testing.assert_array_equal(found[2], served[0])  # nothing of it has changed
    np.testing.assert_allclose(found, [x, y, own[0] + x, own[2] + x], rtol=1e-6)
    assert known_features(tower) == {"tag=x", "tag=y"}


def test_without_features_in_the_model_vectors_are_those_of_the_training():
    tower = make_tower(with_features=False)
    found = item_vectors(tower, ITEMS, table(c=["tag=x"], a=[]))
    np.testing.assert_array_equal(found, tower.item_embeddings.numpy()[[2, 0]])
    assert known_features(tower) == set()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_plain_run(tmp_path_factory.mktemp("made"))


@pytest.fixture
def run(made, tmp_path):
    shutil.copy2(made.with_name("items.csv"), tmp_path)
    return shutil.copytree(made, tmp_path / "run")


def rows_of(run):
    return run.with_name("items.csv").read_text().splitlines()


def write(run, *rows):
    file = run.with_name("newer.csv")
    file.write_text("\n".join(["item_id,title,brand,tag,price", *rows]))
    return str(file)


def test_a_refresh_starts_from_the_latest_version(run):
    first, second, *others = rows_of(run)[1:]
    figures = plain_refresh(run, write(run, *others, "n,new,b,t1,5"))
    assert (figures["version"], figures["new"], figures["left"], figures["items"]) == (2, 1, 2, 11)
    figures = plain_refresh(run, write(run, second, "m,newer,b,t2,5"), keep_missing=True)
    assert (figures["version"], figures["from_version"], figures["items"]) == (3, 2, 13)
    assert (figures["new"], figures["returned"], figures["left"], figures["history_only"]) == (1, 1, 0, 1)
    manifest = json.loads((run / stations.EXPORT.folder / "3" / bundle.MANIFEST_ASSET).read_text())["refreshed"]
    assert manifest["item_file"].endswith("newer.csv")
    assert (manifest["from_version"], manifest["new"], manifest["time"][:2]) == (2, 1, "20")
    assert first.partition(",")[0] == "i0"


def test_a_file_of_new_items_alone_is_enough_if_no_item_leaves(run):
    """It was refused for a file of another log, against the documentation."""
    file = write(run, "n,new,b,t1,5")
    with pytest.raises(UserError, match="found none of them"):
        plain_refresh(run, file)
    assert plain_refresh(run, file, keep_missing=True)["items"] == 13


def test_the_version_of_the_export_is_never_removed(run):
    file = write(run, *rows_of(run)[1:])
    for _ in range(3):
        plain_refresh(run, file, keep=2)
    assert sorted(models_in(run / stations.EXPORT.folder)) == [1, 3, 4]


def test_new_items_that_the_model_knows_nothing_about_are_left_out_with_a_warning(run, caplog):
    caplog.set_level(logging.WARNING)
    figures = plain_refresh(run, write(run, *rows_of(run)[1:], "odd,x,unseen,unseen,"))
    assert (figures["new"], figures["left_out"]) == (0, 1)
    assert "1 new items of" in caplog.text
    assert "none of their features is known to the model" in caplog.text


def test_vectors_that_the_model_does_not_read_are_refused(run, tmp_path):
    """They were left unread without a word."""
    (tmp_path / "look.txt").write_text("m")
    np.save(tmp_path / "look.npy", np.ones([1, 2]))
    files = {"path": str(tmp_path / "look.npy"), "ids": str(tmp_path / "look.txt")}
    place = run / stations.EXPORT.folder / "1" / bundle.MANIFEST_ASSET
    manifest = json.loads(place.read_text())
    items = manifest["config"]["data"]["items"]
    items |= {"features": items["features"] | {"look": "vector"}, "vectors": {"look": files}}
    place.write_text(json.dumps(manifest))
    file = run / stations.EXPORT.folder / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | {"files": {}}))  # of another size now
    with pytest.raises(UserError, match=r"got look; it reads none .* trained without model\.item_features"):
        plain_refresh(run, str(run.parent / "items.csv"), vectors={"look": tuple(files.values())})


def test_malformed_rows_are_shown_and_many_are_refused(run, caplog):
    caplog.set_level(logging.WARNING)
    rows = rows_of(run)[1:]
    with pytest.raises(UserError, match="malformed"):
        plain_refresh(run, write(run, *rows[:-1], "broken"))
    assert sorted(models_in(run / stations.EXPORT.folder)) == [1]
    many = [f"n{number},x,b,t1,5" for number in range(2000)]
    assert plain_refresh(run, write(run, *rows[:-1], *many, "broken"))["left"] == 1
    assert "1 rows of" in caplog.text
    assert "their items are taken as missing" in caplog.text


@pytest.mark.parametrize("station", [stations.TRAIN, stations.CLUSTER])
def test_a_bundle_of_an_earlier_training_is_refused(run, station):
    file = run / station.folder / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fingerprint": "of a later run"}))
    with pytest.raises(UserError, match=f"Expected a bundle of the present {station.name} .* run `tfdnc export`"):
        refresh(run, "newer.csv")


def test_a_folder_without_a_run_or_a_bundle_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="Expected a run at"):
        refresh(tmp_path, "items.csv")
    shutil.rmtree(run / stations.EXPORT.folder)
    with pytest.raises(UserError, match=r"Expected a finished .*bundle, found none: run `tfdnc export` first"):
        refresh(run, "items.csv")
