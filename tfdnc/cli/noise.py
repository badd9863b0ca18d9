"""Hides log lines of libraries in a normal run; a run that fails shows them, and so does `--verbose`."""

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, TextIO

from tfdnc.cli import library_log
from tfdnc.cli.streams import LenientStream
from tfdnc.contracts.errors import UserError

_OURS = {"tfdnc", "beam_jobs", "serving"}

_WAIT_SECONDS = 5.0
"""Longest wait for the last lines of the filter process."""


def set_up_logging(verbose: bool) -> None:
    """Sends log records and warnings to stderr: ours from WARNING up, those of libraries from ERROR up.

    Args:
        verbose: sends both from INFO up, and the log of TensorFlow's native code.
    """
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(format="%(levelname)s %(message)s")
    logging.captureWarnings(True)
    logging.getLogger().setLevel(level)
    for handler in logging.getLogger().handlers:
        handler.setLevel(level)
        handler.addFilter(_is_no_user_error if verbose else _is_relevant)
    if verbose:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"


def _is_no_user_error(record: logging.LogRecord) -> bool:
    """Returns False for a `UserError`, which Beam logs with a traceback and which `main` prints by itself."""
    return not (record.exc_info and isinstance(record.exc_info[1], UserError))


def _is_relevant(record: logging.LogRecord) -> bool:
    """Returns False also for records of libraries below ERROR, which are of no use to the user."""
    ours = record.name.partition(".")[0] in _OURS
    return _is_no_user_error(record) and (ours or record.levelno >= logging.ERROR)


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Sends the output of native code to descriptor 2 through `library_log`, but not that of Python's `sys.stderr`.

    The kept lines are shown if the block raises, or if the process ends inside it.
    """
    with contextlib.ExitStack() as stack:
        try:
            direct = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding)
            command = [sys.executable, "-I", "-S", library_log.__file__]
            log = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=direct, bufsize=0)
        except (OSError, AttributeError):  # there is no stderr, or no further process can be started
            yield
            return
        assert log.stdin  # it is a pipe
        stack.callback(_finish, log, log.stdin, direct, sys.stderr)
        os.dup2(log.stdin.fileno(), 2)
        sys.stderr = LenientStream(direct)
        yield
        with contextlib.suppress(OSError):
            os.write(2, library_log.WENT_WELL)


def _finish(log: subprocess.Popen[bytes], pipe: IO[bytes], direct: TextIO, stderr: TextIO) -> None:
    """Restores descriptor 2, and waits for the filter to end; not forever, as a child may still hold its input."""
    os.dup2(direct.fileno(), 2)
    sys.stderr = stderr
    pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        log.wait(_WAIT_SECONDS)
