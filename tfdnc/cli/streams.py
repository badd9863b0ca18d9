"""Standard output and error that never raise: letters that cannot be encoded are replaced, a closed pipe is ignored."""

import codecs
import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

_REPLACE = "tfdnc.replace"

_READER_GONE = {errno.EPIPE, errno.EIO}
"""Errors of a stream whose reader is gone: a pipe into `head`, a terminal that was closed."""


class LenientStream:
    """A text stream whose `write` and `flush` raise nothing; all other attributes are those of the stream.

    After the first failure the descriptor leads to /dev/null, also for the output that the interpreter flushes at exit.

    Args:
        stream: the stream to write to.

    Attributes:
        lost: error by which output was lost, although the stream had a reader; None if no output was lost.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_REPLACE)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes text, as far as the encoding and the descriptor allow."""
        with self._giving_up():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Writes buffered text, as far as the descriptor allows."""
        with self._giving_up():
            self._stream.flush()

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _READER_GONE:
                self.lost = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def lenient_streams() -> Iterator[list[LenientStream]]:
    """Makes `sys.stdout` and `sys.stderr` lenient; yields those that exist."""
    kept = sys.stdout, sys.stderr
    made = [stream and LenientStream(stream) for stream in kept]  # None if the descriptor was closed at start
    sys.stdout, sys.stderr = made
    try:
        yield [stream for stream in made if stream]
    finally:
        for stream in filter(None, made):
            stream.flush()
        sys.stdout, sys.stderr = kept


def _replace(error: UnicodeError) -> tuple[bytes | str, int]:
    """Returns one question mark per letter; bytes that Python decoded from a file name are restored."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return b"".join(bytes([ord(one) - 0xDC00]) if "\udc80" <= one <= "\udcff" else b"?" for one in letters), error.end


codecs.register_error(_REPLACE, _replace)
