"""Results of finished experiments, read from their runs if these are up to date for their config."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfdnc.comparison.grid import Experiment, Variant, experiment, seeds_in
from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.schema import HISTORY_FILE
from tfdnc.contracts.station_names import StationName
from tfdnc.pipeline.engine import Station, standing

StationsOf = Callable[[ExperimentConfig], list[Station]]
"""config -> its stations in order; passed by the command line, because only `tfdnc.pipeline.stations` knows them."""


@dataclass(frozen=True)
class Measurement:
    """Figures of one finished experiment.

    Attributes:
        label: label of its variant.
        seed: seed of its run.
        report: figures of the evaluate station (`report.json`).
        training: figures of the train station.
        split: hash of the held-out split.
    """

    label: str
    seed: int
    report: dict[str, Any]
    training: dict[str, Any]
    split: str

    @property
    def clustered(self) -> bool:
        """True if figures by cluster have a meaning: the method has K > 1, or other clusters judge its lists."""
        return self.report["judged_by"] is not None


@dataclass(frozen=True)
class Result(Measurement):
    """One finished experiment of a run that is up to date.

    Attributes:
        config: config of its run.
        made: provenance of its train and its evaluate station; without those of runs from before it was recorded.
        epochs: of every validated epoch its number `epoch`, the `cpu_seconds` of training up to its end, and its
            figures `val_*`.
    """

    config: ExperimentConfig
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    epochs: list[dict[str, float]] = field(default_factory=list)


def finished_stations(one: Experiment, runs: Path, stations_of: StationsOf) -> dict[str, dict[str, Any]]:
    """Returns the manifests of an experiment's up-to-date stations by name, at most up to `evaluate`."""
    stations = stations_of(one.config)
    names = [station.name for station in stations]
    return standing(stations[: names.index(StationName.EVALUATE) + 1], one.config, runs / one.name)


def read_result(one: Experiment, runs: Path, stations_of: StationsOf) -> Result | None:
    """Returns the result of an experiment, or None if it did not finish, or not with this config on this data."""
    found = finished_stations(one, runs, stations_of)
    if StationName.EVALUATE not in found:
        return None
    return Result(
        label=one.label,
        seed=one.config.seed,
        config=one.config,
        report=found[StationName.EVALUATE]["figures"],
        training=found[StationName.TRAIN]["figures"],
        split=found["prepare"]["figures"]["split_sha256"],
        made={name: found[name]["made"] for name in (StationName.TRAIN, StationName.EVALUATE) if "made" in found[name]},
        epochs=validated_epochs(runs / one.name / StationName.TRAIN.folder / HISTORY_FILE),
    )


def validated_epochs(history: Path) -> list[dict[str, float]]:
    """Returns `Result.epochs` from the history of a training."""
    epochs, seconds = [], 0.0
    for entry in json.loads(history.read_text()):
        seconds += entry["cpu_seconds"]
        if figures := {name: value for name, value in entry.items() if name.startswith("val_")}:
            epochs.append({"epoch": entry["epoch"], "cpu_seconds": round(seconds, 1), **figures})
    return epochs


def read_results(
    variants: Sequence[Variant], seeds: Iterable[int], runs: Path, stations_of: StationsOf
) -> list[Result]:
    """Returns every up-to-date result of the variants: with `seeds`, and with any other seed that ran earlier."""
    wanted = set(seeds)
    every = [
        experiment(variant, seed) for variant in variants for seed in sorted(wanted | set(seeds_in(runs, variant)))
    ]
    return [result for one in every if (result := read_result(one, runs, stations_of))]
