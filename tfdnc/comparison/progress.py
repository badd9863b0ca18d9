"""What is shown while a grid runs: a live table on a terminal, one line per event elsewhere."""

import contextlib
import datetime
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tfdnc.comparison.grid import Experiment
from tfdnc.comparison.jobs import Ending, Job
from tfdnc.comparison.results import StationsOf
from tfdnc.contracts import schema
from tfdnc.contracts.station_names import StationName
from tfdnc.pipeline.engine import unfinished_folder


def read_epochs(folder: Path) -> tuple[int, float]:
    """Returns how many epochs an unfinished training has behind it, and the CPU seconds they took."""
    try:
        lines = (folder / schema.EPOCH_LOG).read_text().splitlines()
        entries = [json.loads(line) for line in lines]
    except (OSError, ValueError):  # not begun, just finished, or in the middle of a line
        return 0, 0.0
    return len(entries), sum(entry.get("cpu_seconds", 0.0) for entry in entries)


def seconds_left(epochs_left: Sequence[tuple[str, int]], pace: Mapping[str, float], lanes: int) -> float | None:
    """Estimates how long the trainings that are left will take side by side.

    Args:
        epochs_left: label and number of epochs, one pair per training.
        pace: seconds of one epoch, by label; a label that is not known yet takes the mean of those that are.
        lanes: trainings side by side.

    Returns:
        Seconds: the total shared among the lanes, and no less than the longest training; None while no pace is known.
    """
    if not pace:
        return None
    usual = sum(pace.values()) / len(pace)
    each = [epochs * pace.get(label, usual) for label, epochs in epochs_left]
    return max(sum(each) / lanes, max(each, default=0.0))


class LineLog:
    """Prints one line per event; for logs and pipes.

    Args:
        console: to print on.
        total: number of experiments of the grid.
        finished: how many of them were finished before.
        last_task: the task after which an experiment is finished.
    """

    def __init__(self, console: Console, total: int, finished: int, last_task: str):
        self._console = console
        self._total = total
        self._finished = finished
        self._failed = 0
        self._last_task = last_task
        self._began = time.monotonic()

    def started(self, job: Job) -> None:
        """Prints that a job has begun."""
        self._print(f"{job.name}: {job.task} ...")

    def ended(self, ending: Ending) -> None:
        """Prints how a job has ended, and how far the grid is."""
        job = ending.job
        self._finished += ending.failure is None and job.task == self._last_task
        self._failed += ending.failure is not None
        how = f"failed ({ending.failure}), see {job.log}" if ending.failure else "done"
        self._print(f"{job.name}: {job.task} {how} after {clock(ending.seconds)}; {self.score()}")

    def tick(self, running: Sequence[tuple[Job, float]]) -> None:
        """Nothing: time alone is no event."""

    def score(self) -> str:
        """How many experiments are finished, and how many failed."""
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._finished} of {self._total} finished{failed}"

    def elapsed(self) -> str:
        """Since the grid was started, h:mm:ss."""
        return clock(time.monotonic() - self._began)

    def _print(self, line: str) -> None:
        self._console.print(f"{self.elapsed()}  {line}", soft_wrap=True)


class LiveTable(LineLog):
    """Adds a table of what runs now, and an estimate of the rest, below the lines.

    Args:
        console: a terminal.
        experiments: of the grid.
        finished: names of the experiments that were finished before.
        last_task: the task after which an experiment is finished.
        stations_of: config -> its stations, in order.
        runs: folder of all runs.
        lanes: trainings side by side.
        pace: seconds of one epoch by label, as far as finished trainings tell.
    """

    def __init__(
        self,
        console: Console,
        experiments: Sequence[Experiment],
        finished: set[str],
        last_task: str,
        stations_of: StationsOf,
        runs: Path,
        lanes: int,
        pace: Mapping[str, float],
    ):
        super().__init__(console, len(experiments), len(finished), last_task)
        self._open = {one.name: one for one in experiments if one.name not in finished}
        self._stations = {one.name: stations_of(one.config) for one in experiments}
        self._runs = runs
        self._lanes = lanes
        self._pace = dict(pace)
        # It draws when told to, not from a thread of its own: children are forked from a process of one thread.
        self._live = Live(console=console, auto_refresh=False, transient=True)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the table, and takes it off the screen again."""
        with self._live:
            yield

    def ended(self, ending: Ending) -> None:
        """Also strikes the experiment from what is left."""
        super().ended(ending)
        if ending.failure or ending.job.task == self._last_task:
            self._open.pop(ending.job.name, None)

    def tick(self, running: Sequence[tuple[Job, float]]) -> None:
        """Draws the table anew."""
        self._live.update(self.picture(running), refresh=True)

    def picture(self, running: Sequence[tuple[Job, float]]) -> Group:
        """The running experiments with station, epoch and elapsed time, and how far the grid is."""
        made = Table("experiment", "station", "epoch", "elapsed", box=box.SIMPLE_HEAD, pad_edge=False)
        behind = {}
        for job, seconds in running:
            one, station = self._open[job.name], self._station_of(job)
            epoch = ""
            if station == StationName.TRAIN:
                behind[job.name] = self._epochs_behind(one)
                epoch = f"{behind[job.name]}/{one.config.train.epochs}"
            made.add_row(Text(job.name), station, epoch, clock(seconds))
        left = [(one.label, one.config.train.epochs - behind.get(name, 0)) for name, one in self._open.items()]
        rest = seconds_left(left, self._pace, self._lanes)
        line = f"{self.score()}, {self.elapsed()} elapsed" + ("" if rest is None else f", about {clock(rest)} to go")
        return Group(made, Text(line))

    def _station_of(self, job: Job) -> str:
        run = self._runs / job.name
        at_work = [station.name for station in self._stations[job.name] if unfinished_folder(station, run).is_dir()]
        return at_work[0] if at_work else ""

    def _epochs_behind(self, one: Experiment) -> int:
        [train] = [station for station in self._stations[one.name] if station.name == StationName.TRAIN]
        epochs, seconds = read_epochs(unfinished_folder(train, self._runs / one.name))
        if epochs:
            self._pace[one.label] = seconds / epochs
        return epochs


def clock(seconds: float) -> str:
    """Returns h:mm:ss."""
    return str(datetime.timedelta(seconds=round(seconds)))
