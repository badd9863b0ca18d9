"""Keeps what libraries say about themselves out of a normal run; `--verbose` shows it, and so does a run that fails."""

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TextIO

from tfdnc.cli import library_log
from tfdnc.cli.streams import LenientStream
from tfdnc.contracts.errors import UserError

_OURS = {"tfdnc", "beam_jobs", "serving"}

_LAST_WORDS_SECONDS = 5.0


def set_up_logging(verbose: bool) -> None:
    """Sends log records and warnings to stderr: ours from WARNING up, those of libraries from ERROR up.

    Verbose: ours and theirs from INFO up, and what TensorFlow's native code logs.
    """
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(format="%(levelname)s %(message)s")
    logging.captureWarnings(True)
    logging.getLogger().setLevel(level)
    for handler in logging.getLogger().handlers:
        handler.setLevel(level)
        handler.addFilter(_is_news_to_all if verbose else _is_news)
    if verbose:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"


def _is_news_to_all(record: logging.LogRecord) -> bool:
    """False for an error of the user's, which Beam logs with a traceback and `main` is about to print."""
    return not (record.exc_info and isinstance(record.exc_info[1], UserError))


def _is_news(record: logging.LogRecord) -> bool:
    """False for what no reader of a run that goes well can act on."""
    ours = record.name.partition(".")[0] in _OURS
    return _is_news_to_all(record) and (ours or record.levelno >= logging.ERROR)


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Passes what native code writes to descriptor 2 through `library_log`; Python's own `sys.stderr` goes around it.

    A block that raises shows what was kept; so does a process that ends in the middle of it.
    """
    with contextlib.ExitStack() as stack:
        try:
            direct = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding)
            command = [sys.executable, "-I", "-S", library_log.__file__]
            log = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=direct, bufsize=0)
        except (OSError, AttributeError):  # no stderr, or no room for a process
            yield
            return
        stack.callback(_finish, log, direct, sys.stderr)
        os.dup2(log.stdin.fileno(), 2)
        sys.stderr = LenientStream(direct)
        yield
        with contextlib.suppress(OSError):
            os.write(2, library_log.WENT_WELL)


def _finish(log: subprocess.Popen, direct: TextIO, stderr: TextIO) -> None:
    """Gives descriptor 2 back and waits for the last words, unless a child that lives on still holds it."""
    os.dup2(direct.fileno(), 2)
    sys.stderr = stderr
    log.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        log.wait(_LAST_WORDS_SECONDS)
