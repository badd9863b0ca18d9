"""Runs the stations of one run, one after the other, and shows their progress."""

import contextlib
from pathlib import Path

from tfdnc.cli import hints, screen
from tfdnc.cli.working import last_log_line
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.tensorflow_paths import tensorflow_path
from tfdnc.pipeline import stations
from tfdnc.pipeline.engine import Station, assist, lock_run, run_station
from tfdnc.training.workers import this_place


def run_stations(config: ExperimentConfig, run: Path, last: str | None = None, force: bool = False) -> None:
    """Runs the stations up to `last`, or all, except those whose inputs are unchanged.

    Args:
        config: the experiment.
        run: folder of the run.
        last: name of a station.
        force: runs `last`, or all stations, even if their inputs are unchanged.

    Raises:
        UserError: the config has no such station, TensorFlow cannot open the path of the run, or a station refuses its
            input.
    """
    tensorflow_path(run)
    wanted = stations.stations_of(config)
    names = [station.name for station in wanted]
    if last is not None and last not in names:
        raise UserError(f"Expected a config with a section for {last}, this one has the stations {', '.join(names)}.")
    wanted = wanted[: names.index(last) + 1 if last else None]
    for station in wanted:
        station.check(config)
    if not this_place().is_chief:
        _follow(config, run, force, last)
        return
    with lock_run(run):
        _run_each(wanted, config, run, force, last)


def _follow(config: ExperimentConfig, run: Path, force: bool, last: str | None) -> None:
    """Trains as a worker that is not the chief; only the chief writes the run's folder."""
    if last not in (None, stations.TRAIN.name):
        raise UserError(f"Expected several workers for {stations.TRAIN.name} only, not {last}: unset TF_CONFIG.")
    screen.station_started(stations.TRAIN)
    worked = assist(stations.TRAIN, config, run, force)
    screen.console.print("trained with the others" if worked else "nothing to do: the chief's training stands")


def _run_each(wanted: list[Station], config: ExperimentConfig, run: Path, force: bool, last: str | None) -> None:
    for station in wanted:
        screen.station_started(station)
        # Training shows its epochs by itself, and a terminal has one live display at a time.
        with contextlib.nullcontext() if station is stations.TRAIN else last_log_line(station.name):
            outcome = run_station(station, config, run, force and last in (None, station.name))
        if station is wanted[0]:  # after the first station, so that a run whose input is refused leaves no file
            stations.write_config(config, run)
        screen.station_ended(station, outcome)
        if station is stations.EVALUATE:
            curves = None if station.name == last else hints.evaluate_command(run)
            screen.show_report(outcome.figures, run / station.folder / schema.REPORT, curves)
        if station is stations.EXPORT:
            screen.console.print(hints.next_steps(run), soft_wrap=True)
