"""Runs as the page reads them: manifests, report, training history, clusters; and groups of seeds."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.station_names import StationName
from tfdnc.pipeline.manifests import MANIFEST, read_manifest

STATIONS = tuple(name for name in StationName if name not in (StationName.JUDGE, StationName.EXPORT))
_SEED = re.compile(r"^(?P<name>.+)-seed\d+$")


OWN_CLUSTERS = "own clusters"
"""Value of `judged_by` in a report, where a model is judged by the clusters in which it retrieves."""


@dataclass(frozen=True)
class Run:
    """One evaluated run.

    Attributes:
        label: name of the run on the page.
        path: folder of the run.
        manifests: station -> manifest, of the finished stations that still exist; `evaluate` is among them.
        report: content of `report.json`.
        history: one dict per epoch; empty where the train station was removed.
        clusters: content of `clusters.json`; empty where the cluster station was removed.
    """

    label: str
    path: Path
    manifests: dict[str, dict[str, Any]]
    report: dict[str, Any]
    history: list[dict[str, Any]]
    clusters: list[dict[str, Any]]

    @cached_property
    def settings(self) -> dict[str, object]:
        """Settings of the stations by dotted key, from their manifests.

        `config.yaml` may differ: it is rewritten at the start of every command, a manifest together with the result.
        """
        merged: dict[str, object] = {}
        for manifest in self.manifests.values():
            merged |= _flat(manifest["inputs"]["settings"])
        return merged

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.manifests[StationName.EVALUATE]["inputs"]["seed"]

    @property
    def judges(self) -> str:
        """Name of the clusters in which the report measures recall; empty where there is only one."""
        several = len(self.report["within_cluster_by_cluster"]) > 1
        return self.report.get("judged_by", OWN_CLUSTERS if several else None) or ""

    @property
    def num_clusters(self) -> int:
        """Number K of the model's own clusters."""
        return len(self.report["within_cluster_by_cluster"]) if self.judges == OWN_CLUSTERS else 1

    @property
    def evaluated(self) -> str:
        """Day on which the evaluate station finished."""
        written = (self.path / StationName.EVALUATE / MANIFEST).stat().st_mtime
        return datetime.fromtimestamp(written, UTC).strftime("%Y-%m-%d")

    @property
    def split(self) -> str:
        """Hash of the split; the run's own path where the prepare station was removed, as the split is not known."""
        return self.known_split or str(self.path)

    @property
    def known_split(self) -> str | None:
        """Hash of the split; None where the prepare station was removed."""
        return self.figures(StationName.PREPARE).get("split_sha256")

    def figures(self, station: str) -> dict[str, Any]:
        """Returns the figures of a station's manifest; empty where the station was removed."""
        return self.manifests.get(station, {}).get("figures", {})


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only, in order of the seed."""

    name: str
    color: int
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """First run of the group, shown where a mean makes no sense."""
        return self.runs[0]

    @property
    def split(self) -> str:
        """Split of its runs, see `Run.split`; figures of different splits cannot be compared."""
        return self.first.split


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Reads run folders, each once; raises as `read_run`."""
    paths = list({folder.resolve(): folder for folder in folders}.values())
    names = [path.resolve().name for path in paths]
    labels = [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]
    return [read_run(path, label) for path, label in zip(paths, labels, strict=True)]


def read_run(path: Path, label: str) -> Run:
    """Reads one run.

    Raises:
        UserError: the folder is no run, or its model has not been evaluated, or was trained again since.
    """
    if not (path / schema.RUN_CONFIG).is_file():
        raise UserError(f"Expected a run at {path}, a folder made by `tfdnc run`; found no {schema.RUN_CONFIG} there.")
    read = {str(station): read_manifest(path / station) for station in STATIONS}
    manifests = {station: manifest for station, manifest in read.items() if manifest}
    again = f"run `tfdnc evaluate {path / schema.RUN_CONFIG}` first."
    if _holds_nothing_out(manifests):
        raise UserError(
            f"Expected an evaluated run at {path}, but its model is trained on every event and has no test figures. "
            f"Name the run that its epochs come from, train.epochs_from in {path / schema.RUN_CONFIG}."
        )
    if StationName.EVALUATE not in manifests:
        raise UserError(f"Expected an evaluated run at {path}, found no finished {path / 'evaluate'}: {again}")
    trained = manifests.get(StationName.TRAIN, {}).get("fingerprint")
    if trained and manifests[StationName.EVALUATE]["inputs"]["stations"].get(StationName.TRAIN) != trained:
        raise UserError(f"Expected an evaluation of the model in {path / 'train'}, found one of another model: {again}")
    return Run(
        label=label,
        path=path,
        manifests=manifests,
        report=json.loads((path / StationName.EVALUATE / schema.REPORT).read_text()),
        history=_read_json(path / StationName.TRAIN / schema.HISTORY_FILE) if StationName.TRAIN in manifests else [],
        clusters=_read_json(path / StationName.CLUSTER / schema.CLUSTERS) if StationName.CLUSTER in manifests else [],
    )


def _holds_nothing_out(manifests: dict[str, dict[str, Any]]) -> bool:
    prepared = manifests.get(StationName.PREPARE, {}).get("inputs", {}).get("settings", {})
    return prepared.get("data", {}).get("split") == "none"


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Groups the runs NAME-seedS of one NAME, if only their seeds differ and they are tested on one split."""
    members: dict[str, list[Run]] = {}
    for run in runs:
        members.setdefault(_stem(run.label), []).append(run)
    named: list[tuple[str, tuple[Run, ...]]] = []
    for stem, found in members.items():
        one_experiment = all(
            (run.settings, run.known_split) == (found[0].settings, found[0].known_split) for run in found
        )
        if len(found) > 1 and one_experiment and len({run.seed for run in found}) == len(found):
            named.append((stem, tuple(sorted(found, key=lambda run: run.seed))))
        else:
            named += [(run.label, (run,)) for run in found]
    return [Group(name, color, found) for color, (name, found) in enumerate(named)]


def _stem(label: str) -> str:
    match = _SEED.match(label)
    return match["name"] if match else label


def _read_json(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.is_file() else []


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """Returns nested settings by dotted keys."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
