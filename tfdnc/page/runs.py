"""What the page knows of a run: manifests, report, training history, clusters; and which runs are seeds of one."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.station_names import StationName
from tfdnc.pipeline.engine import MANIFEST, read_manifest

STATIONS = tuple(name for name in StationName if name not in (StationName.JUDGE, StationName.EXPORT))
_SEED = re.compile(r"^(?P<name>.+)-seed\d+$")


OWN_CLUSTERS = "own clusters"
"""What a report says where a model is judged by the clusters it retrieves in."""


@dataclass(frozen=True)
class Run:
    """One evaluated run.

    Attributes:
        label: what the page calls it.
        path: its folder.
        manifests: station -> manifest, of the stations that are still whole; `evaluate` always is.
        report: `report.json`.
        history: one dict per epoch; empty where the train station is gone.
        clusters: `clusters.json`; empty where the cluster station is gone.
    """

    label: str
    path: Path
    manifests: dict[str, dict]
    report: dict
    history: list[dict]
    clusters: list[dict]

    @cached_property
    def settings(self) -> dict[str, object]:
        """Dotted key -> value of everything the stations were run with, by their own word.

        `config.yaml` is rewritten at the start of every command; a manifest is written with the result.
        """
        merged = {}
        for manifest in self.manifests.values():
            merged |= _flat(manifest["inputs"]["settings"])
        return merged

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.manifests[StationName.EVALUATE]["inputs"]["seed"]

    @property
    def judges(self) -> str:
        """The clusters that the report measures within; empty where it has only one."""
        several = len(self.report["within_cluster_by_cluster"]) > 1
        return self.report.get("judged_by", OWN_CLUSTERS if several else None) or ""

    @property
    def num_clusters(self) -> int:
        """K, of the model itself."""
        return len(self.report["within_cluster_by_cluster"]) if self.judges == OWN_CLUSTERS else 1

    @property
    def evaluated(self) -> str:
        """Day on which the evaluate station finished."""
        written = (self.path / StationName.EVALUATE / MANIFEST).stat().st_mtime
        return datetime.fromtimestamp(written, UTC).strftime("%Y-%m-%d")

    def figures(self, station: str) -> dict:
        """Figures of a station's manifest; empty where the station is gone."""
        return self.manifests.get(station, {}).get("figures", {})


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only, in order of the seed."""

    name: str
    color: int
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The run that stands for the group where a mean makes no sense."""
        return self.runs[0]


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
    manifests = {station: read_manifest(path / station) for station in STATIONS}
    manifests = {station: manifest for station, manifest in manifests.items() if manifest}
    again = f"run `tfdnc evaluate {path / schema.RUN_CONFIG}` first."
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


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Puts the runs NAME-seedS of one NAME together, where they differ in nothing but the seed."""
    members: dict[str, list[Run]] = {}
    for run in runs:
        members.setdefault(_stem(run.label), []).append(run)
    named = []
    for stem, found in members.items():
        one_experiment = all(run.settings == found[0].settings for run in found)
        if len(found) > 1 and one_experiment and len({run.seed for run in found}) == len(found):
            named.append((stem, tuple(sorted(found, key=lambda run: run.seed))))
        else:
            named += [(run.label, (run,)) for run in found]
    return [Group(name, color, found) for color, (name, found) in enumerate(named)]


def _stem(label: str) -> str:
    match = _SEED.match(label)
    return match["name"] if match else label


def _read_json(path: Path) -> list[dict]:
    return json.loads(path.read_text()) if path.is_file() else []


def _flat(values: dict, prefix: str = "") -> dict[str, object]:
    """Nested settings as dotted keys."""
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
