"""Runs commands, a few at a time; none outlives this process, and one that fails stops no other."""

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0
_LAST_LINES = 8
_PR_SET_PDEATHSIG = 1

ONE_THREAD = {name: "1" for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")}
"""Environment of a training that leaves the other cores to others.

Models of this size keep no second thread busy: two trainings of one thread each finish 1.7 times sooner than one after
the other on two cores. The last training alone keeps to one as well: sums over another number of threads round
differently, and no result may depend on what else was in the grid.
"""


@dataclass(frozen=True, eq=False)
class Job:
    """One command.

    Attributes:
        name: what it is called on the screen; the experiment's run.
        task: what it does there, in a word.
        command: to execute.
        log: file that its output is appended to.
        environment: variables on top of this process's own.
    """

    name: str
    task: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    """How a job ended: after how many seconds, with which exit status (-N: by signal N) and which last lines."""

    job: Job
    seconds: float
    status: int
    last_lines: tuple[str, ...]

    @property
    def failure(self) -> str | None:
        """Why the job failed, in a few words; None if it did not."""
        if self.status == 0:
            return None
        return f"exit status {self.status}" if self.status > 0 else f"killed by {signal.Signals(-self.status).name}"


class Observer(Protocol):
    """Is told what happens, to show it."""

    def started(self, job: Job) -> None:
        """A job has begun."""

    def ended(self, ending: Ending) -> None:
        """A job has ended, well or not."""

    def tick(self, running: Sequence[tuple[Job, float]]) -> None:
        """Some time has passed; the running jobs, and for how many seconds they have been running."""


@dataclass(frozen=True, eq=False)
class _Child:
    job: Job
    process: subprocess.Popen
    began: float
    offset: int  # of its own output in the log


def run_jobs(
    jobs: Sequence[Job], lanes: int, observer: Observer, on_end: Callable[[Ending], None] = lambda ending: None
) -> list[Ending]:
    """Runs jobs in their order, at most `lanes` at a time; returns how each ended, in the order of ending.

    One thread starts and watches everything, so that there is one place an interrupt can reach. However this function
    is left, no child is left running.

    Args:
        jobs: to run.
        lanes: how many at a time, at least 1.
        observer: is told what happens.
        on_end: called after every job.
    """
    waiting, running, endings = deque(jobs), [], []
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
    """Makes SIGTERM an interrupt like Ctrl-C, so that whoever sends it leaves no child behind either."""

    def interrupt(number, frame):
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
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **job.environment},
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops its children
            preexec_fn=_dies_with(os.getpid()),
        )
        return _Child(job, process, time.monotonic(), log.tell())


def _dies_with(parent: int) -> Callable[[], None]:
    """Returns what a new child does first: asks Linux for SIGKILL when its parent dies, even by kill -9.

    SIGKILL, because a station can be killed at any time, and a training blocked inside TensorFlow heeds nothing else.
    """
    prctl = ctypes.CDLL(None).prctl  # looked up here: between fork and exec the less is done the better

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return tie


def _ending(child: _Child) -> Ending:
    with child.job.log.open("rb") as log:
        log.seek(child.offset)
        lines = log.read().decode(errors="replace").splitlines()
    last = tuple(line.rstrip() for line in lines if line.strip())[-_LAST_LINES:]
    return Ending(child.job, time.monotonic() - child.began, child.process.returncode, last)


def _stop(children: Sequence[_Child]) -> None:
    """Interrupts children, so that they remove their temporary files, and kills the ones that do not heed it."""
    try:
        _signal(children, signal.SIGINT)
        deadline = time.monotonic() + GRACE_SECONDS
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, deadline - time.monotonic()))
    finally:  # also when a second interrupt cuts the grace short
        _signal(children, signal.SIGKILL)
        for child in children:
            child.process.wait()


def _signal(children: Sequence[_Child], number: signal.Signals) -> None:
    """Signals the whole groups: a child may have children of its own."""
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, number)
