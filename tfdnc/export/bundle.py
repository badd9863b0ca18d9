"""Writes a bundle version: SavedModel, warm-up requests and manifest, complete or not at all."""

import importlib.metadata
import json
import logging
import shutil
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts import bundle
from tfdnc.contracts.attributes import Attribute
from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.export.compact import compact_saved_model
from tfdnc.export.module import RetrievalModule
from tfdnc.export.recovery import ensure_joint_recovery
from tfdnc.export.signatures import signature_function
from tfdnc.export.warmup import write_warmup
from tfdnc.model.tower import Tower
from tfdnc.retrieval.index import INDEXES
from tfdnc.retrieval.index.users import Users
from tfdnc.retrieval.rules.planes import build_planes

_LOG = logging.getLogger(__name__)

UNFINISHED = "unfinished-"
"""Prefix of the name of a version until it is complete; a killed export leaves a folder of such a name."""


def export_bundle(
    tower: Tower,
    items: ItemTable,
    cold_start_vectors: np.ndarray,
    config: ExperimentConfig,
    manifest: dict[str, Any],
    output: Path,
    version: int = 1,
    users: Users | None = None,
    attributes: Sequence[Attribute] = (),
    past_ids: Sequence[str] = (),
    complete: Callable[[Path], object] | None = None,
) -> dict[str, Any]:
    """Writes `output`/`version`, a SavedModel that TF Serving can load.

    Args:
        tower: of the trained model.
        items: the item table it was trained on.
        cold_start_vectors: `[V, D]` user vectors for requests without a known item.
        config: of the experiment; `merge` and `export` decide what the bundle does.
        manifest: further entries of its manifest (data hash, metrics); those of the bundle take precedence.
        output: the model base path.
        version: number of the version, at least 1.
        users: users on which an approximate index is tuned and measured; None generates some.
        attributes: columns of the items, in order of the item table, by which requests may filter.
        past_ids: ids of the items of the tower that only histories hold, see `Tower`.
        complete: called with the written version before it gets its number: adds files, or refuses it by an exception.

    Returns:
        Figures: version, megabytes, index (number of clusters by kind of search), uses_scann, joint_recovery, seconds.

    Raises:
        UserError: the version exists, or the item table is not the model's.
    """
    started = time.perf_counter()
    final = Path(output) / str(version)
    _check(tower, items, cold_start_vectors, final)
    final.parent.mkdir(parents=True, exist_ok=True)
    # The name is no number, so a server that watches the base path does not take the unfinished folder for a version.
    partial = Path(tempfile.mkdtemp(prefix=f"{UNFINISHED}{version}-", dir=final.parent))
    try:
        written = _write(partial, tower, items, cold_start_vectors, config, manifest, users, attributes, past_ids)
        if complete is not None:
            complete(partial)
        partial.chmod(0o755)  # mkdtemp makes a private folder, and servers run as another user
        partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    size = sum(path.stat().st_size for path in final.rglob("*") if path.is_file())
    return {
        "version": version,
        "megabytes": size / 1e6,
        "index": ", ".join(f"{count} x {kind}" for kind, count in _kinds(written).items()),
        "uses_scann": written["uses_scann"],
        "joint_recovery": written["joint_recovery"],
        "seconds": time.perf_counter() - started,
    }


def _check(tower: Tower, items: ItemTable, cold_start_vectors: np.ndarray, final: Path) -> None:
    if final.exists():
        raise UserError(f"Expected no version at {final} yet, found one. Export under another version number.")
    if tuple(items.offsets) != tuple(tower.offsets):
        raise UserError(
            f"Expected the item table the model was trained on, with clusters at rows {tower.offsets}, got "
            f"{items.offsets}. Train again, or export with the matching table."
        )
    num_vectors, dim = np.shape(cold_start_vectors)
    expected = [
        items.num_clusters if tower.vectors_per_cluster else num_vectors,
        tower.item_embeddings.shape[1],
    ]
    if [num_vectors, dim] != expected:
        raise ValueError(f"cold_start_vectors: expected {expected}, got {[num_vectors, dim]}")


def _write(
    folder: Path,
    tower: Tower,
    items: ItemTable,
    cold_start_vectors: np.ndarray,
    config: ExperimentConfig,
    manifest: dict[str, Any],
    users: Users | None,
    attributes: Sequence[Attribute],
    past_ids: Sequence[str],
) -> dict[str, Any]:
    """Writes all files of the version into `folder` and returns the manifest."""
    _LOG.info("making the index of %d items in %d clusters", len(items.item_ids), items.num_clusters)
    index = INDEXES.resolve(config.export.index)(
        tower.item_embeddings,
        tower.offsets,
        name=f"tfdnc-{uuid.uuid4()}",  # resources of two versions in one server must not share a name
        max_k=config.export.max_candidates,
        users=users,
        recall=config.export.recall,
    )
    alpha = config.merge.alpha if config.merge.method == "joint" else 1.0
    recovery = ensure_joint_recovery(index, tower, users, config.export.max_candidates, alpha)
    planes = build_planes(attributes, items.offsets) if attributes else None
    with tempfile.TemporaryDirectory() as assets:
        parts = tower, items, index, cold_start_vectors, config.merge, config.export, Path(assets)
        module = RetrievalModule(*parts, config.data.seen, planes, past_ids)
        save_module(module, folder)
    write_warmup(folder, module, items, config.export.warmup_batch_sizes)
    content = manifest | _manifest(config, items, index.settings) | {"joint_recovery": recovery}
    if planes is not None:
        content |= {"attributes": planes.described(), "attribute_bytes_per_item": round(planes.bytes_per_item, 3)}
    (folder / bundle.MANIFEST_ASSET).write_text(json.dumps(content, indent=2))
    return content


def save_module(module: RetrievalModule, folder: Path) -> None:
    """Saves the module with the signatures of `contracts.bundle`."""
    # The functions are no attributes of the module, because saving traces every function among its attributes.
    _LOG.info("saving the graph of the signatures")
    signatures = {name: signature_function(module, name) for name in bundle.signatures_of(module.has_rules)}
    # A bundle is not trained, so it needs no gradients.
    options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"], experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), signatures=signatures, options=options)
    compact_saved_model(folder)


def _manifest(config: ExperimentConfig, items: ItemTable, settings: list[dict[str, Any]]) -> dict[str, Any]:
    libraries = {"tensorflow": tf.__version__}
    uses_scann = any(cluster["kind"].startswith("scann") for cluster in settings)
    if uses_scann:
        libraries["scann"] = importlib.metadata.version("scann")
    return {
        "bundle_format": bundle.BUNDLE_FORMAT,
        "libraries": libraries,
        "uses_scann": uses_scann,
        "index": settings,
        "items": len(items.item_ids),
        "cluster_names": items.cluster_names,
        "config": config.model_dump(mode="json"),
    }


def _kinds(manifest: dict[str, Any]) -> Counter[str]:
    """Number of clusters by kind of search."""
    return Counter(cluster["kind"] for cluster in manifest["index"])
