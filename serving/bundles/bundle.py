"""Bundles on disk: the versions under a base path, their manifests, and the custom ops of their graphs."""

import importlib
import importlib.metadata
import json
import logging
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from tfdnc.contracts import bundle as contract
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.tensorflow_paths import tensorflow_path

_LOG = logging.getLogger(__name__)

SAVED_MODEL = "saved_model.pb"

UNNUMBERED_VERSION = 1
"""Version number of a SavedModel in a folder whose name is no number."""

_SCANN_PREFIX = "Scann>"
_SCANN_OPS = "scann.scann_ops.py.scann_ops"


def find_versions(base_path: Path) -> dict[int, Path]:
    """Returns the versions under a model base path, at least one; see `versions_in`.

    Raises:
        UserError: Not a folder, or no version in it.
    """
    versions = versions_in(base_path)
    if not versions:
        raise UserError(
            f"Expected numbered version folders (such as 1/{SAVED_MODEL}) or a {SAVED_MODEL} in {base_path}, "
            f"found neither. Point to the folder that an export wrote."
        )
    return versions


def versions_in(base_path: Path) -> dict[int, Path]:
    """Returns the versions under a model base path, by number.

    A folder that itself holds `saved_model.pb` is one version, numbered by its name if that is a number, else
    `UNNUMBERED_VERSION`. Otherwise every sub-folder with a number for a name is a version, as in TF Serving; others,
    such as the temporary name of a copy in progress, are ignored.

    Raises:
        UserError: Not a folder.
    """
    base_path = Path(base_path)
    if not base_path.is_dir():
        raise UserError(
            f"Expected the folder of a bundle, found nothing at {base_path}. Export one, or check the path."
        )
    if (base_path / SAVED_MODEL).is_file():
        name = base_path.resolve().name
        return {int(name) if _is_number(name) else UNNUMBERED_VERSION: base_path}
    return {int(child.name): child for child in sorted(base_path.iterdir()) if _is_version(child)}


def models_in(base_path: Path) -> dict[int, Path]:
    """Returns the versions of `versions_in` that hold a SavedModel; a numbered folder without one is no model."""
    return {number: path for number, path in versions_in(base_path).items() if (path / SAVED_MODEL).is_file()}


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and int(name) < 2**63  # versions are int64 in TF Serving's messages


def _is_version(path: Path) -> bool:
    return _is_number(path.name) and path.is_dir()


def check(path: Path) -> None:
    """Checks that this process can serve the version at `path`, and registers ScaNN's ops if its graph has any.

    Raises:
        UserError: No readable SavedModel, or a path that TensorFlow reads as a pattern; an unknown bundle format, other
            versions of libraries, or ScaNN's ops without ScaNN.
    """
    tensorflow_path(path)
    saved_model = path / SAVED_MODEL
    if not saved_model.is_file():
        raise UserError(f"Expected {SAVED_MODEL} in version folder {path}, found none. Export the version again.")
    check_manifest(path)
    if uses_scann_ops(saved_model):
        register_scann_ops(path)


def read_manifest(path: Path) -> dict[str, Any]:
    """Returns the manifest of the version at `path`, or {} for a SavedModel that is no tfdnc bundle.

    Raises:
        UserError: It cannot be read, or this server does not know its bundle format.
    """
    file = path / contract.MANIFEST_ASSET
    if not file.is_file():
        return {}
    try:
        manifest = json.loads(file.read_text())
        bundle_format, _ = manifest["bundle_format"], dict(manifest.get("libraries") or {})
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"Expected a JSON object with bundle_format in {file}, could not read one ({error!r}). Export again."
        ) from error
    if bundle_format != contract.BUNDLE_FORMAT:
        raise UserError(
            f"Expected bundle format {contract.BUNDLE_FORMAT}, found {bundle_format} in {path}. "
            "Export the bundle again with this version of tfdnc, or serve it with the version that wrote it."
        )
    return manifest


def check_manifest(path: Path) -> None:
    """Checks the manifest of the version at `path`; a SavedModel without one passes.

    ScaNN's ops are compiled for one minor version of TensorFlow, and the format of its index is not stable. So for a
    bundle with ScaNN both libraries must have the recorded versions. TensorFlow's own ops are portable, so without
    ScaNN another version is only logged.

    Raises:
        UserError: As for `check`.
    """
    manifest = read_manifest(path)
    libraries = manifest.get("libraries") or {}
    uses_scann = bool(manifest.get("uses_scann"))
    for library in ("tensorflow", "scann") if uses_scann else ("tensorflow",):
        _check_library(path, library, str(libraries.get(library, "")), strict=uses_scann)


def _check_library(path: Path, library: str, recorded: str, strict: bool) -> None:
    installed = installed_version(library)
    if not recorded or _minor(recorded) == _minor(installed):
        return
    if strict:
        raise UserError(
            f"Expected {library} {_minor(recorded)}, which the bundle in {path} was exported with, "
            f"found {installed or 'none'}. ScaNN's ops and indexes work only with the versions they were made by: "
            f"install {library}~={_minor(recorded)}.0, or export the bundle again here."
        )
    _LOG.warning("%s was exported with %s %s and is served with %s", path, library, recorded, installed)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def installed_version(library: str) -> str:
    """Returns the version of an installed library, or "" if it is not installed."""
    if library == "tensorflow":
        return tf.__version__  # TensorFlow's package may be called tensorflow, tensorflow-cpu, tf-nightly, ...
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""


def uses_scann_ops(saved_model: Path) -> bool:
    """Returns whether any graph in a `saved_model.pb` has one of ScaNN's ops.

    Raises:
        UserError: The file is not a SavedModel.
    """
    content = saved_model.read_bytes()
    proto = saved_model_pb2.SavedModel()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        raise UserError(
            f"Expected a SavedModel in {saved_model}, could not read it. Export the version again."
        ) from error
    if _SCANN_PREFIX.encode() not in content:  # faster than a walk over a large graph in Python
        return False
    graphs = [graph.graph_def for graph in proto.meta_graphs]
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for graph in graphs for function in graph.library.function for node in function.node_def]
    return any(node.op.startswith(_SCANN_PREFIX) for node in nodes)


def register_scann_ops(path: Path) -> None:
    """Registers ScaNN's ops with TensorFlow, for the bundle at `path`.

    Raises:
        UserError: ScaNN is not installed, or does not fit the installed TensorFlow.
    """
    try:
        importlib.import_module(_SCANN_OPS)
    except (ImportError, tf.errors.OpError) as error:
        raise UserError(
            f"Expected ScaNN's ops, which the bundle in {path} needs, could not load them ({error}). "
            'Run `pip install "scann[tf]"` in the version that fits this TensorFlow, or export with the exact index.'
        ) from error
