"""Goes up the road of one run, station by station, and shows what happens."""

import contextlib
from pathlib import Path

from tfdnc import schema
from tfdnc.cli import hints, road, screen
from tfdnc.cli.working import last_log_line
from tfdnc.config import ExperimentConfig
from tfdnc.errors import UserError
from tfdnc.stations import Station, assist, lock_run, run_station
from tfdnc.tensorflow_paths import tensorflow_path
from tfdnc.training.workers import this_place


def travel(config: ExperimentConfig, run: Path, last: str | None = None, force: bool = False) -> None:
    """Runs the stations up to `last`, or all; the ones whose inputs are unchanged are skipped.

    Args:
        config: the experiment.
        run: folder of the run.
        last: name of a station.
        force: run `last`, or all stations, although nothing changed.

    Raises:
        UserError: the config has no such station, TensorFlow would not find files of the run, or a station refuses its
            input.
    """
    tensorflow_path(run)
    stations = road.stations_of(config)
    names = [station.name for station in stations]
    if last is not None and last not in names:
        raise UserError(f"Expected a config with a section for {last}, this one has the stations {names}.")
    stations = stations[: names.index(last) + 1 if last else None]
    for station in stations:
        station.check(config)
    if not this_place().is_chief:
        _follow(config, run, force, last)
        return
    with lock_run(run):
        _visit(stations, config, run, force, last)


def _follow(config: ExperimentConfig, run: Path, force: bool, last: str | None) -> None:
    """What a worker does that is not the chief: it trains with the others, and leaves the run's folder to the chief."""
    if last not in (None, road.TRAIN.name):
        raise UserError(f"Expected several workers for {road.TRAIN.name} only, not {last}: unset TF_CONFIG.")
    screen.station_started(road.TRAIN)
    worked = assist(road.TRAIN, config, run, force)
    screen.console.print("trained with the others" if worked else "nothing to do: the chief's training stands")


def _visit(stations: list[Station], config: ExperimentConfig, run: Path, force: bool, last: str | None) -> None:
    for station in stations:
        screen.station_started(station)
        # Training shows its epochs by itself, and a terminal has room for one live display at a time.
        with contextlib.nullcontext() if station is road.TRAIN else last_log_line(station.name):
            outcome = run_station(station, config, run, force and last in (None, station.name))
        if station is stations[0]:  # not before: a run whose input is refused leaves nothing
            road.write_config(config, run)
        screen.station_ended(station, outcome)
        if station is road.EVALUATE:
            curves = None if station.name == last else hints.evaluate_command(run)
            screen.show_report(outcome.figures, run / station.folder / schema.REPORT, curves)
        if station is road.EXPORT:
            screen.console.print(hints.next_steps(run), soft_wrap=True)
