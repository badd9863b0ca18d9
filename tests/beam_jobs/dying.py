"""Commands, and forks of a process, that are killed by themselves exactly at a chosen change of the file system."""

import os
import signal
import sys
import traceback
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


def fork(work: Callable[[Path], object], folder: Path, die_at: int) -> int:
    """Does work in a fork of this process, which kills itself before a change below the folder.

    Args:
        work: called with the folder.
        folder: whose changes count.
        die_at: the number of the change, from 1 on; 0: never.

    Returns:
        Exit code of the fork: 0 if it made fewer changes, -SIGKILL if it was killed, 1 after an exception.
    """
    child = os.fork()
    if child == 0:
        changes = 0

        def watch(event: str, arguments: tuple) -> None:
            nonlocal changes
            if changes_disk(event, arguments, folder):
                changes += 1
                if changes == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            work(folder)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
