"""A run with a bundle of plain files, and a refresh of it that writes such files instead of a SavedModel."""

import json
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

from developer_benchmarks.refresh import Size, finish, make_run
from serving.bundles.bundle import SAVED_MODEL
from tfdnc.contracts import bundle
from tfdnc.contracts.config import load_config
from tfdnc.contracts.schema import RUN_CONFIG
from tfdnc.export import bundle as export_bundle
from tfdnc.operations.refresh import refresh
from tfdnc.pipeline import stations
from tfdnc.training.records import HeldOutRecords

SIZE = Size(items=12, clusters=2, dim=4, users=3)


def make_plain_run(folder: Path, **changes: object) -> Path:
    """Makes a run with version 1, and `items.csv` beside it."""
    run = make_run(folder, Size(**{**vars(SIZE), **changes}))
    config = load_config(run / RUN_CONFIG)
    write_plain(run / stations.EXPORT.folder / "1", config, {})
    finish(run, stations.EXPORT, {"version": 1})
    return run


def write_plain(folder, config, manifest):
    """Writes a version of plain files."""
    content = {
        **{"bundle_format": bundle.BUNDLE_FORMAT, "config": config.model_dump(mode="json")},
        **{"index": [], "uses_scann": False, "joint_recovery": 1.0},
        **manifest,
    }
    (folder / bundle.MANIFEST_ASSET).parent.mkdir(parents=True)
    (folder / SAVED_MODEL).write_text("graph")
    (folder / bundle.MANIFEST_ASSET).write_text(json.dumps(content))
    return content


def plain_refresh(run: Path, items: str, **options: object) -> dict:
    """Refreshes without TensorFlow, so that a fork of this process can; all other files are written as always."""

    def export(tower, items, vectors, config, manifest, output, version, histories, start, past_ids, complete):
        return export_bundle.export_bundle(
            tower, items, vectors, config, manifest, output, version, None, past_ids, complete
        )

    def write(folder, tower, items, vectors, config, manifest, users, past_ids):
        return write_plain(folder, config, manifest)

    nothing = np.zeros(0, np.int32)
    tower = SimpleNamespace(items=None, with_items=lambda *_: None)
    with ExitStack() as stack:
        for name, replacement in {
            "tfdnc.operations.refresh.export_checked": export,
            "tfdnc.operations.refresh.item_vectors": lambda *_: None,
            "tfdnc.operations.refresh.known_features": lambda _: {f"tag=t{tag}" for tag in range(30)},
            "tfdnc.pipeline.outputs.histories": lambda *_: HeldOutRecords(*[nothing] * 4),
            "tfdnc.training.checkpoint.load_tower": lambda *_: tower,
            "serving.bundles.recorded.recorded_cold_start": lambda _: None,
            "tfdnc.export.bundle._write": write,
            "tfdnc.export.bundle._check": lambda *_: None,
        }.items():
            stack.enter_context(mock.patch(name, replacement))
        return refresh(run, items, **options)
