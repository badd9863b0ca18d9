"""Runs the stations of one run, one after the other, and shows their progress."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tfdnc.cli import hints, screen
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExperimentConfig
from tfdnc.pipeline import runner, stations
from tfdnc.pipeline.changes import in_a_line
from tfdnc.pipeline.engine import Outcome, Station
from tfdnc.pipeline.working import show_work


def run_stations(config: ExperimentConfig, run: Path, last: str | None = None, force: bool = False) -> None:
    """Runs the stations up to `last`, or all, as `runner.run_stations`, and shows their figures."""
    runner.run_stations(config, run, last, force, _Screen(run, last))


class _Screen(runner.Observer):
    """The screen of `tfdnc run` and `tfdnc STATION`.

    Args:
        run: folder of the run.
        last: name of the requested station; None for all.
    """

    def __init__(self, run: Path, last: str | None) -> None:
        self._run, self._last = run, last

    def started(self, station: Station) -> None:
        screen.station_started(station)

    def again(self, station: Station, changes: Sequence[str]) -> None:
        screen.console.print(f"    changed since its last result: {in_a_line([*changes])}", soft_wrap=True)

    def working(self, station: Station) -> AbstractContextManager[object]:
        return show_work(station.name)

    def ended(self, station: Station, outcome: Outcome) -> None:
        screen.station_ended(station, outcome)
        if station is stations.EVALUATE:
            curves = None if station.name == self._last else hints.evaluate_command(self._run)
            screen.show_report(outcome.figures, self._run / station.folder / schema.REPORT, curves)
        if station is stations.EXPORT:
            screen.console.print(hints.next_steps(self._run), soft_wrap=True)

    def followed(self, worked: bool) -> None:
        screen.console.print("trained with the others" if worked else "nothing to do: the chief's training stands")
