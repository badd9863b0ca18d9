"""Bundles on disk: version folders, manifests of other versions, broken SavedModels."""

import importlib
import json
import logging
import shutil

import numpy as np
import pytest
import serving_models  # noqa: F401 - Keras 2 before TensorFlow
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving import servable
from serving.bundles import bundle
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.errors import UserError


def touch(path):
    path.mkdir(parents=True)
    (path / bundle.SAVED_MODEL).touch()
    return path


def manifest(path, **content):
    file = path / contract.MANIFEST_ASSET
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"bundle_format": contract.BUNDLE_FORMAT, **content}))


def test_numbered_folders_are_versions_and_others_are_ignored(tmp_path):
    for name in ("1", "00000012", "3"):
        touch(tmp_path / name)
    for name in ("tmp-4", "5.part", "-6", "७", str(2**63)):
        touch(tmp_path / name)
    (tmp_path / "8").touch()  # a file
    assert bundle.find_versions(tmp_path) == {1: tmp_path / "1", 3: tmp_path / "3", 12: tmp_path / "00000012"}


def test_version_folder_is_taken_by_itself(tmp_path, monkeypatch):
    numbered, named = touch(tmp_path / "17"), touch(tmp_path / "bundle")
    assert bundle.find_versions(numbered) == {17: numbered}
    assert bundle.find_versions(named) == {bundle.UNNUMBERED_VERSION: named}
    monkeypatch.chdir(numbered)
    assert list(bundle.find_versions(".")) == [17]


def test_nothing_to_serve(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(UserError, match="Expected the folder of a bundle"):
            bundle.find_versions(path)
    with pytest.raises(UserError, match="Expected numbered version folders"):
        bundle.find_versions(tmp_path)


def test_version_without_saved_model(tmp_path):
    (tmp_path / "1").mkdir()
    with pytest.raises(UserError, match=r"Expected saved_model\.pb in version folder"):
        bundle.check(tmp_path / "1")


@pytest.mark.parametrize("content", [b"not a saved model", b""])
def test_broken_saved_model(tmp_path, content):
    (tmp_path / bundle.SAVED_MODEL).write_bytes(content)
    with pytest.raises(UserError, match="Expected a SavedModel"):
        servable.Servable.load("m", 1, tmp_path)


def test_truncated_variables(tmp_path, half_plus_two):
    version = shutil.copytree(half_plus_two / "1", tmp_path / "1")
    data = next(version.glob("variables/variables.data*"))
    data.write_bytes(data.read_bytes()[:3])
    with pytest.raises(UserError, match="loading failed"):
        servable.Servable.load("m", 1, version)


def test_manifest_of_this_version_passes(tmp_path):
    libraries = {"tensorflow": tf.__version__, "scann": bundle.installed_version("scann")}
    manifest(tmp_path, libraries=libraries, uses_scann=bool(libraries["scann"]))
    bundle.check_manifest(tmp_path)
    manifest(tmp_path)
    bundle.check_manifest(tmp_path)


def test_plain_saved_model_has_no_manifest(tmp_path):
    bundle.check_manifest(tmp_path)


@pytest.mark.parametrize("bundle_format", [contract.BUNDLE_FORMAT + 1, 0, "1", None])
def test_unknown_bundle_format(tmp_path, bundle_format):
    manifest(tmp_path, bundle_format=bundle_format)
    with pytest.raises(UserError, match=f"Expected bundle format {contract.BUNDLE_FORMAT}, found {bundle_format}"):
        bundle.check_manifest(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"text"', '{"bundle_format": 1, "libraries": 3}'])
def test_broken_manifest(tmp_path, text):
    manifest(tmp_path)
    (tmp_path / contract.MANIFEST_ASSET).write_text(text)
    with pytest.raises(UserError, match="Expected a JSON object with bundle_format"):
        bundle.check_manifest(tmp_path)


@pytest.mark.parametrize(
    ("libraries", "library"),
    [({"tensorflow": "2.11.0", "scann": "1.4.2"}, "tensorflow 2.11"), ({"scann": "0.9.1"}, "scann 0.9")],
)
def test_scann_bundle_of_other_libraries_is_refused(tmp_path, libraries, library):
    manifest(tmp_path, libraries=libraries, uses_scann=True)
    with pytest.raises(UserError, match=f"Expected {library}, which the bundle .* was exported with, found "):
        bundle.check_manifest(tmp_path)


def test_scann_bundle_without_scann(tmp_path, monkeypatch):
    manifest(tmp_path, libraries={"scann": "1.4.2"}, uses_scann=True)
    monkeypatch.setattr(bundle, "installed_version", lambda library: "")
    with pytest.raises(UserError, match=r"Expected scann 1\.4, .* found none"):
        bundle.check_manifest(tmp_path)


def test_exact_bundle_of_other_tensorflow_is_only_logged(tmp_path, caplog):
    manifest(tmp_path, libraries={"tensorflow": "2.11.0", "scann": "0.1"}, uses_scann=False)
    with caplog.at_level(logging.WARNING):
        bundle.check_manifest(tmp_path)
    assert "exported with tensorflow 2.11.0" in caplog.text


def scann_graph(in_function):
    proto = saved_model_pb2.SavedModel()
    graph = proto.meta_graphs.add().graph_def
    nodes = graph.library.function.add().node_def if in_function else graph.node
    nodes.add(name="index", op="Scann>TensorsToScann")
    return proto.SerializeToString()


@pytest.mark.parametrize("in_function", [False, True])
def test_scann_ops_are_found_and_missing_scann_is_explained(tmp_path, monkeypatch, in_function):
    file = tmp_path / bundle.SAVED_MODEL
    file.write_bytes(scann_graph(in_function))
    assert bundle.uses_scann_ops(file)

    def missing(name):
        raise ImportError(f"No module named {name}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"Expected ScaNN's ops.*pip install"):
        bundle.check(tmp_path)


def test_the_letters_alone_are_not_an_op(tmp_path):
    proto = saved_model_pb2.SavedModel()
    proto.meta_graphs.add().graph_def.node.add(name="Scann>x", op="NoOp")
    (tmp_path / bundle.SAVED_MODEL).write_bytes(proto.SerializeToString())
    assert not bundle.uses_scann_ops(tmp_path / bundle.SAVED_MODEL)


def test_rare_sets_of_outputs_share_the_graph_of_all(half_plus_two, monkeypatch):
    monkeypatch.setattr(servable, "MAX_PLANS", 1)
    model = servable.Servable.load("m", 1, half_plus_two / "1")
    made = []
    monkeypatch.setattr(model, "_make_plan", lambda *asked: made.append(asked[1]) or make(*asked))
    make = type(model)._make_plan.__get__(model)
    every = sorted(model.signature("serving_default").outputs)
    x = np.ones([1, 1], np.float32)
    for outputs in (every[:1], every[1:], every, every[1:], every[:1]):
        assert set(model.run("serving_default", {"x": x}, outputs)) == set(outputs)
    assert made == [tuple(every[:1]), tuple(every)]
    model.close()
