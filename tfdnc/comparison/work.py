"""Runs a grid of experiments: first the stations that experiments share, then the trainings side by side."""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tfdnc.comparison.grid import Experiment
from tfdnc.comparison.jobs import ONE_THREAD, Ending, Job, run_jobs, terminable
from tfdnc.comparison.progress import LineLog, LiveTable
from tfdnc.comparison.results import StationsOf, finished_stations
from tfdnc.contracts.station_names import StationName
from tfdnc.contracts.tensorflow_paths import tensorflow_path
from tfdnc.pipeline.engine import check_stations

LOG = "compare.log"
"""File in the folder of a run: the output of its stations, when a grid ran them."""

PREPARING, TRAINING = "prepare to examples", "train and evaluate"


def check(experiments: Sequence[Experiment], runs: Path, stations_of: StationsOf) -> None:
    """Raises a `UserError` for a name in a config, or of a folder, that a station would refuse later."""
    for one in experiments:
        tensorflow_path(runs / one.name)
        check_stations(stations_of(one.config), one.config)


def run_grid(
    experiments: Sequence[Experiment],
    runs: Path,
    lanes: int | None,
    stations_of: StationsOf,
    console: Console,
    on_finished: Callable[[], None],
) -> list[Ending]:
    """Runs the unfinished experiments; a failure does not stop the others.

    First every experiment runs up to `examples`, one after the other: Beam and gensim use all cores, and experiments
    adopt each other's stations. Then the trainings run, `lanes` at a time.

    Args:
        experiments: the experiments, in the order of work.
        runs: folder of all runs.
        lanes: number of trainings side by side; None for one per core.
        stations_of: config -> its stations.
        console: shows the progress.
        on_finished: called after every experiment that finishes.

    Returns:
        The ends of the jobs that failed.
    """
    done = {one.name: finished_stations(one, runs, stations_of) for one in experiments}
    finished = {name for name, stations in done.items() if StationName.EVALUATE in stations}
    todo = [one for one in experiments if one.name not in finished]
    if not todo:
        console.print(f"All {len(experiments)} experiments are finished and up to date.")
        return []
    lanes = min(lanes or len(os.sched_getaffinity(0)), len(todo))
    observer: LineLog = LineLog(console, len(experiments), len(finished), TRAINING)
    shown: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if console.is_terminal:
        pace = _pace(experiments, done)
        table = LiveTable(console, experiments, finished, TRAINING, stations_of, runs, lanes, pace)
        observer, shown = table, table.shown()

    def tell(ending: Ending) -> None:
        if not ending.failure:
            on_finished()

    with terminable(), shown:
        unprepared = [one for one in todo if StationName.EXAMPLES not in done[one.name]]
        first = [_job(one, runs, PREPARING, StationName.EXAMPLES) for one in unprepared]
        failures = [ending for ending in run_jobs(first, 1, observer) if ending.failure]
        failed = {ending.job.name for ending in failures}
        prepared = [one for one in todo if one.name not in failed]
        second = [_job(one, runs, TRAINING, StationName.EVALUATE, ONE_THREAD) for one in prepared]
        return failures + [ending for ending in run_jobs(second, lanes, observer, tell) if ending.failure]


def show_failures(failures: Sequence[Ending], console: Console) -> None:
    """Prints the failed jobs, each with the last lines of its output."""
    for ending in failures:
        job = ending.job
        console.print(
            f"\n{job.name}: {job.task} failed ({ending.failure}); {job.log} ends with", style="bold red", soft_wrap=True
        )
        for line in ending.last_lines:
            console.print(f"    {line}", soft_wrap=True)


def _job(one: Experiment, runs: Path, task: str, station: str, environment: Mapping[str, str] | None = None) -> Job:
    command = (sys.executable, "-m", "tfdnc.cli.main", station, *one.arguments(runs))
    return Job(one.name, task, command, runs / one.name / LOG, environment or {})


def _pace(experiments: Sequence[Experiment], done: Mapping[str, dict[str, Any]]) -> dict[str, float]:
    """Returns the CPU seconds of an epoch by label, as measured in the finished trainings."""
    pace = {}
    for one in experiments:
        training = done[one.name].get(StationName.TRAIN, {}).get("figures", {})
        if training.get("epochs"):
            pace[one.label] = training.get("cpu_seconds", 0.0) / training["epochs"]
    return pace
