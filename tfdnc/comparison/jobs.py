"""Runs commands, a few at a time; they end with this process, and a failure does not stop the others."""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

from tfdnc.contracts.children import ending_with_parent

POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0
_LAST_LINES = 8

ONE_THREAD = {name: "1" for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")}
"""Environment of a training that uses one thread, so that several run side by side.

Models of this size do not use a second thread well: on two cores, two trainings of one thread each finish 1.7 times
sooner than one after the other. The last training alone uses one thread too: sums over another number of threads round
differently, and no result may depend on the other experiments of the grid.
"""


@dataclass(frozen=True, eq=False)
class Job:
    """One command.

    Attributes:
        name: name on the screen, that of the experiment's run.
        task: the work, in a few words.
        command: program and arguments.
        log: file to which the output is appended.
        environment: variables added to those of this process.
    """

    name: str
    task: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    """End of a job: its duration in seconds, its exit status (-N: killed by signal N) and its last lines."""

    job: Job
    seconds: float
    status: int
    last_lines: tuple[str, ...]

    @property
    def failure(self) -> str | None:
        """Reason of a failure, in a few words; None for a job that did not fail."""
        if self.status == 0:
            return None
        return f"exit status {self.status}" if self.status > 0 else f"killed by {signal.Signals(-self.status).name}"


class Observer(Protocol):
    """Shows the progress of jobs."""

    def started(self, job: Job) -> None:
        """Receives a job that has started."""

    def ended(self, ending: Ending) -> None:
        """Receives the end of a job, failed or not."""

    def tick(self, running: Sequence[tuple[Job, float]]) -> None:
        """Receives, from time to time, the running jobs and the seconds since they started."""


@dataclass(frozen=True, eq=False)
class _Child:
    job: Job
    process: subprocess.Popen[bytes]
    began: float
    offset: int  # start of its own output in the log


def run_jobs(
    jobs: Sequence[Job], lanes: int, observer: Observer, on_end: Callable[[Ending], None] = lambda ending: None
) -> list[Ending]:
    """Runs jobs in their order, at most `lanes` at a time; returns their ends, in the order of ending.

    One thread starts and watches all jobs, so that an interrupt always reaches this function. No child is left running
    when it returns or raises.

    Args:
        jobs: to run.
        lanes: largest number of jobs at a time, at least 1.
        observer: shows the progress.
        on_end: called after every job.
    """
    waiting = deque(jobs)
    running: list[_Child] = []
    endings: list[Ending] = []
    try:
        while waiting or running:
            while waiting and len(running) < lanes:
                child = _start(waiting.popleft())
                running.append(child)
                observer.started(child.job)
            for child in [child for child in running if child.process.poll() is not None]:
                running.remove(child)
                endings.append(_ending(child))
                observer.ended(endings[-1])
                on_end(endings[-1])
            observer.tick([(child.job, time.monotonic() - child.began) for child in running])
            if running:
                time.sleep(POLL_SECONDS)
    finally:
        _stop(running)
    return endings


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Makes SIGTERM an interrupt like Ctrl-C, so that it leaves no child running either."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(job: Job) -> _Child:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        log.write(f"$ {shlex.join(job.command)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            ending_with_parent(job.command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **job.environment},
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops its children
        )
        return _Child(job, process, time.monotonic(), log.tell())


def _ending(child: _Child) -> Ending:
    with child.job.log.open("rb") as log:
        log.seek(child.offset)
        lines = log.read().decode(errors="replace").splitlines()
    last = tuple(line.rstrip() for line in lines if line.strip())[-_LAST_LINES:]
    return Ending(child.job, time.monotonic() - child.began, child.process.returncode, last)


def _stop(children: Sequence[_Child]) -> None:
    """Interrupts children, so that they remove their temporary files, and kills those that do not end in time."""
    try:
        _signal(children, signal.SIGINT)
        deadline = time.monotonic() + GRACE_SECONDS
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, deadline - time.monotonic()))
    finally:  # also when a second interrupt ends the wait
        _signal(children, signal.SIGKILL)
        for child in children:
            child.process.wait()


def _signal(children: Sequence[_Child], number: signal.Signals) -> None:
    """Signals whole process groups, because a child may have children of its own."""
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, number)
