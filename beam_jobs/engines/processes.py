"""Processes of an engine: started, checked while waiting for them, and stopped together."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tfdnc.contracts.children import ending_with_parent

_LAST_LINES = 15  # lines of its log in the error for a process that has ended


class Processes:
    """A context that stops all of its processes at its end, also after an error.

    Each process has its own session, so that its children are stopped with it and Ctrl-C reaches only the parent. Linux
    kills the processes if the parent is killed.

    Attributes:
        folder: working folder of the processes, and folder of their logs, `NAME.log`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Processes":
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._running.values()):
            # SIGINT first: a worker pool then ends its workers, and a task manager removes its files.
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
            name: name of the process and of its log.
            command: program and arguments.
            environment: variables to set, or to remove if empty; the others are inherited.
        """
        variables = {key: value for key, value in {**os.environ, **(environment or {})}.items() if value}
        with open(self.log(name), "wb") as log:
            self._running[name] = subprocess.Popen(
                ending_with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=variables,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        """Returns the path of the log of a process."""
        return self.folder / f"{name}.log"

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Waits for a condition.

        Raises:
            RuntimeError: a process has ended, or the time is over; the message has the end of the log.
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
    """Returns a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port: int) -> bool:
    """Returns whether a process on this machine accepts connections at a port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _signal_group(process: subprocess.Popen[bytes], signal_number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal_number)
