"""Processes of an engine: started together, watched while they are waited for, and stopped together."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# Asks Linux (PR_SET_PDEATHSIG) to kill the process when we end, then becomes the program. As `preexec_fn` it would run
# between fork and exec in our own process, together with gRPC's fork handlers; a child once died there (SIGSEGV).
_END_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.execvp(sys.argv[1], sys.argv[1:])
"""
_LAST_LINES = 15  # of a log that are shown when its process has ended


class Processes:
    """A context in which processes run; all of them are stopped at its end, however that comes.

    Each has a session of its own, so that what it starts is stopped with it and Ctrl-C reaches only us. Linux ends them
    when we are killed.

    Attributes:
        folder: where they run and where their logs, `NAME.log`, are written.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._running: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Processes":
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_):
        for process in reversed(self._running.values()):
            # Asked first: a worker pool ends its workers, a task manager removes its files.
            _signal_group(process, signal.SIGINT)
        for process in reversed(self._running.values()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            _signal_group(process, signal.SIGKILL)
            process.wait()
        self._running.clear()

    def start(self, name: str, command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
        """Starts a process.

        Args:
            name: of the process and its log.
            command: program and arguments.
            environment: variables beside ours; an empty one is taken away.
        """
        variables = {key: value for key, value in {**os.environ, **(environment or {})}.items() if value}
        with open(self.log(name), "wb") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _END_WITH_PARENT, *(str(part) for part in command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=variables,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        """Returns where a process writes what it says."""
        return self.folder / f"{name}.log"

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Waits for a condition.

        Raises:
            RuntimeError: a process has ended, or the time is over; with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            for name, process in self._running.items():
                if process.poll() is not None:
                    raise RuntimeError(
                        f"Expected {what}, but {name} ended with status {process.returncode}:\n{self._tail(name)}"
                    )
            if time.monotonic() > deadline:
                tails = "\n".join(f"{name}:\n{self._tail(name)}" for name in self._running)
                raise RuntimeError(f"Expected {what} within {seconds:g} seconds, waited in vain.\n{tails}")
            time.sleep(0.05)

    def _tail(self, name: str) -> str:
        return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-_LAST_LINES:])


def free_port() -> int:
    """Returns a port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port: int) -> bool:
    """Returns whether somebody on this machine accepts connections at a port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _signal_group(process: subprocess.Popen, signal_number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal_number)
