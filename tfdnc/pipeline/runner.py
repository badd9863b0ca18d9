"""Runs the stations of one run, one after the other, and notifies an observer."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.tensorflow_paths import tensorflow_path
from tfdnc.pipeline import stations
from tfdnc.pipeline.engine import Outcome, Station, assist, changed_inputs, check_stations, lock_run, run_station
from tfdnc.training.workers import this_worker


class Observer:
    """A listener to the stations of a run; this one does nothing."""

    def started(self, station: Station) -> None:
        """Called when a station begins."""

    def again(self, station: Station, changes: Sequence[str]) -> None:
        """Called before a station makes or adopts a result, if it has one of other inputs; `changes` tells how."""

    def working(self, station: Station) -> AbstractContextManager[object]:
        """Returns a context that is open while the station works, such as a display."""
        del station
        return nullcontext()

    def ended(self, station: Station, outcome: Outcome) -> None:
        """Called when a station ended."""

    def followed(self, worked: bool) -> None:
        """Called when a worker that is not the chief has trained, or had nothing to do."""


def run_stations(
    config: ExperimentConfig,
    run: Path,
    last: str | None = None,
    force: bool = False,
    observer: Observer | None = None,
) -> None:
    """Runs the stations up to `last`, or all; the ones whose inputs are unchanged are skipped.

    Args:
        config: the experiment.
        run: folder of the run.
        last: name of a station.
        force: run `last`, or all stations, although nothing changed.
        observer: listener; None for none.

    Raises:
        UserError: the config has no such station, a plug-in cannot be imported, TensorFlow would not find files of the
            run, or a station refuses its input.
    """
    observer = observer or Observer()
    tensorflow_path(run)
    wanted = stations.stations_of(config)
    names = [station.name for station in wanted]
    if last is not None and last not in names:
        raise UserError(f"Expected a config with a section for {last}, this one has the stations {', '.join(names)}.")
    wanted = wanted[: names.index(last) + 1 if last else None]
    check_stations(wanted, config)
    if not this_worker().is_chief:
        _follow(config, run, last, force, observer)
        return
    with lock_run(run):
        _visit(wanted, config, run, last, force, observer)


def _follow(config: ExperimentConfig, run: Path, last: str | None, force: bool, observer: Observer) -> None:
    """Trains as a worker that is not the chief; the chief alone writes the folder of the run."""
    if last not in (None, stations.TRAIN.name):
        raise UserError(f"Expected several workers for {stations.TRAIN.name} only, not {last}: unset TF_CONFIG.")
    observer.started(stations.TRAIN)
    observer.followed(assist(stations.TRAIN, config, run, force))


def _visit(
    wanted: Sequence[Station],
    config: ExperimentConfig,
    run: Path,
    last: str | None,
    force: bool,
    observer: Observer,
) -> None:
    for station in wanted:
        observer.started(station)
        if changes := changed_inputs(station, config, run):
            observer.again(station, changes)
        with observer.working(station):
            outcome = run_station(station, config, run, force and last in (None, station.name))
        if station is wanted[0]:  # after its work, so that a run with a refused input leaves nothing
            stations.write_config(config, run)
        observer.ended(station, outcome)
