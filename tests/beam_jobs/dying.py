"""Commands that are killed by themselves exactly at a chosen change of the file system."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

_CHANGES = {
    "open",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "shutil.rmtree",
}  # audit events of Python


def run(command: str, arguments: Sequence[str], folder: Path, die_at: int, note: Path) -> None:
    """Runs a command in a session of its own, and ends the process with its status.

    Args:
        command: module whose `main` it is.
        arguments: of `main`.
        folder: whose changes count.
        die_at: the number of the change, from 1 on, before which the session is killed with SIGKILL; 0: never.
        note: file that gets one line per change.
    """
    os.setsid()
    sys.stdout = sys.stderr = open(note.with_suffix(".screen"), "w")  # noqa: SIM115 - until the process ends
    main: Callable = import_module(command).main
    changes: list[str] = []

    def watch(event: str, arguments: tuple) -> None:
        if not changes_disk(event, arguments, folder):
            return
        changes.append(f"{event} {arguments[0]}")
        if len(changes) == die_at:
            os.killpg(0, signal.SIGKILL)

    sys.addaudithook(watch)
    status = main(list(arguments))
    note.write_text("\n".join(changes))
    sys.exit(status)


def changes_disk(event: str, arguments: tuple, folder: Path) -> bool:
    """Returns whether an audit event of Python is a change below the folder."""
    if event not in _CHANGES or not isinstance(arguments[0], str | os.PathLike):
        return False
    reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
    changed = arguments[1] if event == "os.link" else arguments[0]
    return not reads and Path(changed).is_relative_to(folder)
