"""Progress of a grid: a live table on a terminal, one line per event elsewhere."""

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
    """Returns the number of finished epochs of an unfinished training, and the CPU seconds they took."""
    try:
        lines = (folder / schema.EPOCH_LOG).read_text().splitlines()
        entries = [json.loads(line) for line in lines]
    except (OSError, ValueError):  # the training has not begun, has just finished, or is writing a line
        return 0, 0.0
    return len(entries), sum(entry.get("cpu_seconds", 0.0) for entry in entries)


def seconds_left(epochs_left: Sequence[tuple[str, int]], pace: Mapping[str, float], lanes: int) -> float | None:
    """Estimates the duration of the remaining trainings, side by side.

    Args:
        epochs_left: label and number of epochs, one pair per training.
        pace: seconds of one epoch, by label; an unknown label takes the mean of the known ones.
        lanes: number of trainings side by side.

    Returns:
        Seconds: the total divided by the lanes, at least the longest training; None while no pace is known.
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
        finished: number of experiments that were finished before.
        last_task: the task after which an experiment is finished.
    """

    def __init__(self, console: Console, total: int, finished: int, last_task: str) -> None:
        self._console = console
        self._total = total
        self._finished = finished
        self._failed = 0
        self._last_task = last_task
        self._began = time.monotonic()

    def started(self, job: Job) -> None:
        """Prints that a job has started."""
        self._print(f"{job.name}: {job.task} ...")

    def ended(self, ending: Ending) -> None:
        """Prints the end of a job, and the number of finished experiments."""
        job = ending.job
        self._finished += ending.failure is None and job.task == self._last_task
        self._failed += ending.failure is not None
        result = f"failed ({ending.failure}), see {job.log}" if ending.failure else "done"
        self._print(f"{job.name}: {job.task} {result} after {clock(ending.seconds)}; {self.score()}")

    def tick(self, running: Sequence[tuple[Job, float]]) -> None:
        """Prints nothing: time alone is no event."""

    def score(self) -> str:
        """Returns the numbers of finished and of failed experiments, as text."""
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._finished} of {self._total} finished{failed}"

    def elapsed(self) -> str:
        """Returns the time since the grid was started, h:mm:ss."""
        return clock(time.monotonic() - self._began)

    def _print(self, line: str) -> None:
        self._console.print(f"{self.elapsed()}  {line}", soft_wrap=True)


class LiveTable(LineLog):
    """Lines as of `LineLog`, and below them a table of the running experiments and an estimate of the time left.

    Args:
        console: a terminal.
        experiments: all experiments of the grid.
        finished: names of the experiments that were finished before.
        last_task: the task after which an experiment is finished.
        stations_of: config -> its stations, in order.
        runs: folder of all runs.
        lanes: number of trainings side by side.
        pace: seconds of one epoch by label, as measured in finished trainings.
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
    ) -> None:
        super().__init__(console, len(experiments), len(finished), last_task)
        self._unfinished = {one.name: one for one in experiments if one.name not in finished}
        self._stations = {one.name: stations_of(one.config) for one in experiments}
        self._runs = runs
        self._lanes = lanes
        self._pace = dict(pace)
        # `auto_refresh` would draw from a second thread, and children must be forked from a process of one thread.
        self._live = Live(console=console, auto_refresh=False, transient=True)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the table while the block runs, and removes it from the screen afterwards."""
        with self._live:
            yield

    def ended(self, ending: Ending) -> None:
        """Prints the end of a job, and removes a finished or failed experiment from the unfinished ones."""
        super().ended(ending)
        if ending.failure or ending.job.task == self._last_task:
            self._unfinished.pop(ending.job.name, None)

    def tick(self, running: Sequence[tuple[Job, float]]) -> None:
        """Draws the table anew."""
        self._live.update(self.picture(running), refresh=True)

    def picture(self, running: Sequence[tuple[Job, float]]) -> Group:
        """Returns a table of the running experiments with station, epoch and time, and the progress of the grid."""
        made = Table("experiment", "station", "epoch", "elapsed", box=box.SIMPLE_HEAD, pad_edge=False)
        finished = {}
        for job, seconds in running:
            one, station = self._unfinished[job.name], self._station_of(job)
            epoch = ""
            if station == StationName.TRAIN:
                finished[job.name] = self._finished_epochs(one)
                epoch = f"{finished[job.name]}/{one.config.train.epochs}"
            made.add_row(Text(job.name), station, epoch, clock(seconds))
        left = [(one.label, one.config.train.epochs - finished.get(name, 0)) for name, one in self._unfinished.items()]
        rest = seconds_left(left, self._pace, self._lanes)
        line = f"{self.score()}, {self.elapsed()} elapsed" + ("" if rest is None else f", about {clock(rest)} to go")
        return Group(made, Text(line))

    def _station_of(self, job: Job) -> str:
        run = self._runs / job.name
        at_work = [station.name for station in self._stations[job.name] if unfinished_folder(station, run).is_dir()]
        return at_work[0] if at_work else ""

    def _finished_epochs(self, one: Experiment) -> int:
        [train] = [station for station in self._stations[one.name] if station.name == StationName.TRAIN]
        epochs, seconds = read_epochs(unfinished_folder(train, self._runs / one.name))
        if epochs:
            self._pace[one.label] = seconds / epochs
        return epochs


def clock(seconds: float) -> str:
    """Returns a duration as h:mm:ss."""
    return str(datetime.timedelta(seconds=round(seconds)))
