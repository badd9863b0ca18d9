"""Refresh: a new version of a run's bundle with the items of a newer item file, without training.

The tower stays. An item vector is its trained embedding plus the shares of its present features and content vectors, so
a new item has those alone. Items that have left stay in the vocabulary: histories hold them, lists do not.
"""

import logging
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs.item_accounts import ItemAccounts, item_figures, refuse_malformed_items
from beam_jobs.item_details import Details, DetailsFile, find_new_details, read_catalogue
from beam_jobs.item_features import ranges_of
from beam_jobs.logs.log_rows import dead_letter, dead_letter_line
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.plugins import import_plugins
from tfdnc.operations.renewed_tower import item_vectors, known_content, known_features, read_content
from tfdnc.operations.version_items import Changes, listed_items, read_version_items, renew
from tfdnc.operations.version_vectors import write_version_vectors
from tfdnc.pipeline import outputs, stations
from tfdnc.pipeline.checked_export import export_checked
from tfdnc.pipeline.dependencies import resolve_data
from tfdnc.pipeline.engine import finished_manifest, lock_run
from tfdnc.pipeline.learned import LAST_LEARNED

_log = logging.getLogger(__name__)

_REMOVING = "removing-"  # no number, so no server loads it
_OF_TRAINING = ("split_sha256", "files", "metrics", "epochs_from", LAST_LEARNED)  # entries that a refresh keeps
_SHOWN = 3  # malformed rows in a message


class _Before(NamedTuple):
    """The version before, with the outputs of the run that it was made of."""

    version: int
    manifest: dict[str, Any]
    config: ExperimentConfig
    folder: Path
    trained: ItemTable  # the items that the tower was trained on


class ItemFiles(NamedTuple):
    """The newer files of a refresh: path of the item file, and vectors as `refresh` has them."""

    path: str
    vectors: Mapping[str, tuple[str, str]]


def refresh(
    run: Path,
    items: str,
    keep_missing: bool = False,
    keep: int | None = None,
    vectors: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Writes a new version of the run's bundle, with the items of a file, and returns its figures.

    The version is written under a name that is no number, loaded, asked, compared with the tower, and renamed. A
    refresh that is killed leaves nothing that a server reads; the next refresh removes its remains.

    Args:
        run: folder of a run with a bundle. The latest version in it is the version before.
        items: path of the item file, with the columns and values that the config of the bundle names. It is the whole
            catalogue: an item that it lacks leaves.
        keep_missing: items that the file lacks do not leave, so that a file of new items is enough. They have no
            attributes (`export.attributes`) then, because these are read from the file.
        keep: most refreshed versions to keep; older ones are removed. None removes none.
        vectors: feature of kind vector -> array and file of its ids, in place of those of `data.items.vectors`. An item
            without a vector in them keeps the one that it had.

    Returns:
        `version`, `from_version`; `items`: listed items; `history_only`: items that histories hold and lists do not;
        `new`, `returned`, `left`, `replaced` and `left_out`: see `version_items.Changes`; `megabytes`, `index`,
        `uses_scann`, `joint_recovery`, `recorded_requests`; `seconds`.

    Raises:
        UserError: no bundle, one of an earlier training, an item file that cannot be read or describes none of the
            items, or another process works in the run.
    """
    started = time.perf_counter()
    if not (run / schema.RUN_CONFIG).is_file():
        raise UserError(f"Expected a run at {run}, a folder made by `tfdnc run`; found no {schema.RUN_CONFIG} there.")
    with lock_run(run):
        bundle = run / stations.EXPORT.folder
        before = _find_before(run, bundle)
        _remove_leftovers(bundle)
        figures = _write_version(run, before, ItemFiles(items, vectors), keep_missing)
        if keep is not None:
            _remove_oldest(run, bundle, keep)
    return figures | {"seconds": time.perf_counter() - started}


def _find_before(run: Path, bundle: Path) -> _Before:
    from serving.bundles.bundle import models_in, read_manifest

    _refuse_other_training(run)
    versions = models_in(bundle)
    if not versions:
        raise UserError(f"Expected versions of a bundle in {bundle}, found none: run `tfdnc export` with --force.")
    version = max(versions)
    manifest = read_manifest(versions[version])
    config = ExperimentConfig.model_validate(manifest["config"])
    return _Before(version, manifest, config, versions[version], outputs.item_table(run))


def _refuse_other_training(run: Path) -> None:
    """Raises a `UserError` if a station of the run is newer than the bundle, or has not finished."""
    needed = [stations.EXPORT]
    for station in needed:  # grows
        made_of = finished_manifest(station, run)["inputs"]["stations"]
        for other in station.needs:
            if finished_manifest(other, run)["fingerprint"] != made_of[other.name]:
                raise UserError(
                    f"Expected a bundle of the present {other.name} in {run}, found one of an earlier one: run `tfdnc "
                    "export` on its config first."
                )
        needed += [other for other in station.needs if other not in needed]


def _write_version(run: Path, before: _Before, items: ItemFiles, keep_missing: bool) -> dict[str, Any]:
    from serving.bundles.recorded import recorded_cold_start
    from tfdnc.training.checkpoint import load_tower

    config, trained = before.config, before.trained
    import_plugins(config.plugins)
    table = read_version_items(before.folder, run / stations.CLUSTER.folder / schema.ITEMS)
    details = find_new_details(resolve_data(config, run), items.path, items.vectors)
    found, file = _read_file(details, config, run, trained, table, keep_missing), details.file.path
    _log.info("Read %d items of %s", len(found.item_ids), file)
    tower = load_tower(config, trained, run / stations.TRAIN.folder)
    if unread := items.vectors.keys() - known_content(tower).keys():
        raise UserError(
            f"Expected --vectors of features that the model reads, got {', '.join(unread)}; it reads none of kind "
            "vector, because it was trained without model.item_features. Leave them out."
        )
    content = read_content(tower, details, table, found, trained, before.folder)
    table, changes = renew(table, found, known_features(tower), keep_missing, content)
    listed = listed_items(table, trained.cluster_names)
    past = table.filter(pc.invert(table["listed"]))
    about = {
        "from_version": before.version,
        **changes._asdict(),
        "history_only": past.num_rows,
    }
    _tell(changes, len(listed.item_ids), config, file)
    refreshed = tower.with_items(
        listed.offsets, listed.counts, item_vectors(tower, trained, table, content), past["cluster"].to_numpy()
    )
    histories = outputs.histories(config, run)
    histories = histories._replace(items=_new_indices(trained, table)[histories.items])
    entries = {key: before.manifest.get(key) for key in _OF_TRAINING}
    now = datetime.now(UTC).isoformat(timespec="seconds")

    def complete(folder: Path) -> None:
        pq.write_table(table, folder / schema.VERSION_ITEMS)
        if content is not None:
            write_version_vectors(content, table["item_id"].to_pylist(), folder / schema.VERSION_VECTORS)

    figures = export_checked(
        refreshed,
        listed,
        recorded_cold_start(before.folder),
        config,
        entries | {"refreshed": {**about, "time": now, "item_file": file}},
        run / stations.EXPORT.folder,
        before.version + 1,
        histories,
        start=finished_manifest(stations.PREPARE, run)["figures"]["times"][0],
        attributes=outputs.attributes(config, run, listed.item_ids, file),
        past_ids=past["item_id"].to_pylist(),
        complete=complete,
    )
    return {**figures, **about, "items": len(listed.item_ids)}


def _read_file(
    details: DetailsFile, config: ExperimentConfig, run: Path, trained: ItemTable, table: pa.Table, all_new: bool
) -> Details:
    """Returns the items of the item file, with the ranges of numbers of the training."""
    data = resolve_data(config, run)
    ranges = ranges_of(trained.features or (), details.features)
    accounts = ItemAccounts()
    found = read_catalogue(details, table["item_id"].to_pylist(), ranges, accounts, all_new)
    figures = item_figures(dict(accounts.counts), details.file.name)
    dead_letters = [dead_letter_line(details.file.name, dead_letter(*row)) for row in accounts.malformed[:_SHOWN]]
    refuse_malformed_items(figures, data, dead_letters)
    if dead_letters:
        _log.warning(
            "%d rows of %s are malformed, and their items are taken as missing: %s",
            *(len(accounts.malformed), details.file.path, "".join(dead_letters).rstrip()),
        )
    return found


def _new_indices(trained: ItemTable, table: pa.Table) -> np.ndarray:
    """Returns the index in the table of every item index of the training, `[N + 1]` int32; no item is missing there."""
    index_of = {item_id: index for index, item_id in enumerate(table["item_id"].to_pylist(), 1)}
    return np.array([0, *(index_of[item_id] for item_id in trained.item_ids)], np.int32)


def _tell(changes: Changes, listed: int, config: ExperimentConfig, file: str) -> None:
    """Logs the changes, and a warning for new items that the model knows nothing about."""
    _log.info("%d items: %s", listed, ", ".join(f"{number} {name}" for name, number in changes._asdict().items()))
    if not changes.left_out:
        return
    if config.model.item_features:
        reason = "none of their features is known to the model: it was trained on no two items with one of them"
    else:
        reason = (
            "the model has no item features, so it knows nothing about an item without events: train it with "
            "model.item_features, or train again when they have events"
        )
    _log.warning("%d new items of %s are left out: %s", changes.left_out, file, reason)


def _remove_leftovers(bundle: Path) -> None:
    from tfdnc.export.bundle import UNFINISHED

    for prefix in (UNFINISHED, _REMOVING):
        for folder in bundle.glob(f"{prefix}*"):
            shutil.rmtree(folder)


def _remove_oldest(run: Path, bundle: Path, keep: int) -> None:
    """Removes refreshed versions; that of the export stays, because the manifest of its station lists its files."""
    from serving.bundles.bundle import models_in

    exported = finished_manifest(stations.EXPORT, run)["figures"]["version"]
    refreshed = sorted(version for version in models_in(bundle) if version != exported)
    for version in refreshed[: max(0, len(refreshed) - keep)]:
        # First a rename: a server must not find a version with half of its files.
        removing = bundle / f"{_REMOVING}{version}"
        (bundle / str(version)).rename(removing)
        shutil.rmtree(removing)
