"""Runs from Python: run up to a station, and read the outputs of the stations.

Only records, batches, tower and retriever import TensorFlow.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import pyarrow as pa
import rich

from tfdnc.api.report import Report
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExperimentConfig, load_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable, read_columns
from tfdnc.contracts.plugins import import_plugins
from tfdnc.contracts.station_names import StationName
from tfdnc.pipeline import outputs, runner
from tfdnc.pipeline.engine import Outcome, Station
from tfdnc.pipeline.manifests import read_manifest
from tfdnc.pipeline.working import show_work

if TYPE_CHECKING:
    from serving.bundles.in_process import Bundle
    from tfdnc.backend import tf
    from tfdnc.model.retriever import Retriever
    from tfdnc.model.tower import Tower
    from tfdnc.training.batches import Batch, TrainingBatches
    from tfdnc.training.records import HeldOutRecords, TrainingRecords

_log = logging.getLogger(__name__)


def run(
    config: ExperimentConfig, until: str | None = None, *, runs: str | PathLike[str] = "runs", force: bool = False
) -> "Run":
    """Runs the stations of an experiment in the folder `runs`/NAME, and returns that run.

    As on the command line, a station with unchanged inputs is skipped, a result of another run in `runs` is adopted,
    and a killed training resumes. Progress is a bar on a terminal; elsewhere every station and epoch is a log record of
    `tfdnc`, at INFO.

    Args:
        config: the experiment.
        until: name of the last station: generate, prepare, cluster, judge, examples, train, evaluate or export; None
            for all of them.
        runs: folder of all runs.
        force: run the last station, or all, although nothing changed.

    Raises:
        UserError: the config has no such station, a plug-in cannot be imported, another process works in the run,
            or a station refuses its input.
    """
    if until is not None and until not in list(StationName):
        raise UserError(f"Expected `until` to be a station of {', '.join(StationName)}, or None, got {until!r}.")
    folder = Path(runs) / config.name
    runner.run_stations(config, folder, until, force, _Progress())
    return Run(folder, config)


def open_run(folder: str | PathLike[str]) -> "Run":
    """Returns an existing run of the command line or of `run`, such as `runs/mine`.

    Raises:
        UserError: the folder is no run.
    """
    path = Path(folder) / schema.RUN_CONFIG
    if not path.is_file():
        raise UserError(f"Expected a run at {folder}, a folder made by `tfdnc run`; found no {path.name} there.")
    return Run(Path(folder), load_config(path))


class Run:
    """A run: its config, and the outputs of its finished stations, read on demand.

    Items and training records are read once. The output of an unfinished station raises a `UserError`, which names the
    station to run.

    Args:
        folder: folder of the run.
        config: config of the run.
    """

    def __init__(self, folder: Path, config: ExperimentConfig) -> None:
        self.folder = folder
        self.config = config

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def figures(self, station: str) -> dict[str, Any]:
        """Returns the figures of a finished station, from its manifest.

        Raises:
            UserError: the station is unknown, it has not finished, or its files are damaged.
        """
        if station not in list(StationName):
            raise UserError(f"Expected a station among {', '.join(StationName)}, got {station!r}.")
        manifest = read_manifest(self.folder / StationName(station).folder)
        if manifest is None:
            raise UserError(
                f"Expected {self.folder} with a finished station {station}, found none: run the experiment at least "
                f"until '{station}' first."
            )
        return manifest["figures"]

    @cached_property
    def items(self) -> ItemTable:
        """Items with their clusters; row i is item i + 1."""
        self.figures(StationName.CLUSTER)
        return outputs.item_table(self.folder)

    def item_table(self) -> pa.Table:
        """Returns the items as an Arrow table of `schema.ITEM_SCHEMA`, one row per item."""
        self.figures(StationName.CLUSTER)
        names = schema.ITEM_SCHEMA.names
        return read_columns(self.folder / StationName.CLUSTER.folder / schema.ITEMS, names).select(names)

    @overload
    def records(self, split: Literal["train"]) -> "TrainingRecords": ...

    @overload
    def records(self, split: Literal["validation", "test"]) -> "HeldOutRecords": ...

    def records(self, split: str) -> "TrainingRecords | HeldOutRecords":
        """Returns the records of a split as flat arrays: row u is events splits[u] .. splits[u + 1] - 1.

        Args:
            split: train, the training part of every user; validation or test, the held-out target of every user who has
                one, with all events before it.
        """
        if split not in (schema.TRAIN, schema.VALIDATION, schema.TEST):
            raise UserError(f"Expected train, validation or test, got {split!r}.")
        self.figures(StationName.EXAMPLES)
        if split == schema.TRAIN:
            return self._training_records
        return outputs.held_out_records(self.config, self.folder, split)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch, the same for every epoch."""
        return self._training_batches.steps_per_epoch

    def batches(self, epoch: int = 0) -> "Iterator[Batch]":
        """Yields the batches of an epoch in their order, as NumPy arrays by name.

        They are the batches of the train station: windows, order and negatives are functions of the seed and the epoch.
        `TrainingBatches.epoch` documents names and shapes.

        Args:
            epoch: 0, 1, ...
        """
        yield from self._training_batches.epoch(epoch)

    def training_dataset(self, epochs: int = 1, first_epoch: int = 0) -> "tf.data.Dataset":
        """Returns the same batches of one or several consecutive epochs, for `retriever.fit`.

        Args:
            epochs: number of epochs. With more than one, `fit` needs `steps_per_epoch`.
            first_epoch: number of the first epoch.
        """
        return self._training_batches.dataset(first_epoch, first_epoch + epochs)

    def tower(self) -> "Tower":
        """Returns the tower with the weights of the train station; its `user_vectors` encodes users."""
        self.figures(StationName.TRAIN)
        import_plugins(self.config.plugins)
        return outputs.trained_tower(self.config, self.folder, self.items)

    def retriever(self) -> "Retriever":
        """Returns a new retriever, a Keras model that trains its `tower`.

        It is compiled as in the train station; another `compile` replaces that.
        """
        records = self.records("train")
        import_plugins(self.config.plugins)
        from tfdnc.training.train import assemble

        popularity = outputs.popularity(self.config, self.folder, self.items)
        return assemble(self.config, self.items, records, popularity=popularity)[0]

    def validate(self, tower: "Tower") -> dict[str, float]:
        """Returns the figures of a tower's lists on the validation targets, as in training after an epoch."""
        from tfdnc.evaluation.validation import Validator

        return Validator(self.config, self.records("validation"))(tower)

    @property
    def history(self) -> list[dict[str, float]]:
        """Epochs of the train station: losses and, for validated epochs, `val_` figures."""
        self.figures(StationName.TRAIN)
        return json.loads((self.folder / StationName.TRAIN.folder / schema.HISTORY_FILE).read_text())

    @property
    def report(self) -> Report:
        """Figures of the evaluate station, a dict with typed keys."""
        # The manifest is JSON, and the evaluate station writes this type.
        return self.figures(StationName.EVALUATE)  # type: ignore[return-value]

    def bundle(self) -> "Bundle":
        """Returns the run's latest bundle, loaded into this process."""
        from serving.bundles.in_process import load_bundle

        self.figures(StationName.EXPORT)
        return load_bundle(self.folder / StationName.EXPORT.folder)

    def refresh(
        self,
        items: str | PathLike[str],
        *,
        keep_missing: bool = False,
        keep: int | None = None,
        vectors: Mapping[str, tuple[str, str]] | None = None,
    ) -> dict[str, Any]:
        """Writes a new version of the run's bundle with the items of a newer item file, without training.

        Args:
            items: the item file, read as `data.items` of the bundle's config says; the whole catalogue.
            keep_missing: items that the file lacks do not leave, so that a file of new items is enough.
            keep: most refreshed versions to keep; older ones are removed. None removes none.
            vectors: feature of kind vector -> array and file of its ids, in place of those of `data.items.vectors`.

        Returns:
            Figures of the version; `tfdnc.operations.refresh.refresh` documents them.

        Raises:
            UserError: no bundle, one of an earlier training, or an item file that cannot be used.
        """
        from tfdnc.operations.refresh import refresh

        return refresh(self.folder, os.fspath(items), keep_missing, keep, vectors or {})

    @cached_property
    def _training_records(self) -> "TrainingRecords":
        return outputs.training_records(self.config, self.folder)

    @cached_property
    def _training_batches(self) -> "TrainingBatches":
        records = self.records("train")
        import_plugins(self.config.plugins)
        from tfdnc.training.train import make_batches

        return make_batches(self.config, self.items, records)[0]


class _Progress(runner.Observer):
    """Log records of the stations, and bars on a terminal."""

    def working(self, station: Station) -> AbstractContextManager[object]:
        return show_work(station.name) if rich.get_console().is_terminal else nullcontext()

    def ended(self, station: Station, outcome: Outcome) -> None:
        _log.info("%s: %s, %s", station.name, outcome.effort, station.headline(outcome.figures))
