"""TFRecord files that follow one another: one is being written, under a name that readers of complete files ignore."""

import datetime
import itertools
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

SUFFIX = ".tfrecord"
"""Of complete files; their names sort by the time they were begun."""

UNFINISHED = ".unfinished"
"""Of the file that is being written, `.NAME.unfinished`. A killed process leaves it, with its whole records."""

MAX_BYTES = 64 << 20
MAX_SECONDS = 600.0

_NUMBERS = itertools.count(1)
"""In the names of files: no two files of a process have the same name."""


class RecordFiles:
    """The files of one prefix; used by one thread.

    Args:
        prefix: The paths of the files begin with it.
        max_bytes: A file of this many bytes is complete.
        max_seconds: A file is complete this many seconds after its first record.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        prefix: Path,
        max_bytes: int = MAX_BYTES,
        max_seconds: float = MAX_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prefix, self._max_bytes, self._max_seconds, self._clock = prefix, max_bytes, max_seconds, clock
        self._writer: tf.io.TFRecordWriter | None = None
        self._partial, self._bytes, self._due = Path(), 0, 0.0

    @property
    def due(self) -> float | None:
        """Time by `clock` at which the file in work is to be finished; None for no file."""
        return None if self._writer is None else self._due

    def write(self, record: bytes) -> None:
        """Appends a record, and finishes the file if it is large enough; after an error the next record begins another.

        Raises:
            tf.errors.OpError, OSError: The disk refused.
        """
        try:
            writer = self._writer or self._open()
            writer.write(record)
            self._bytes += len(record)
            if self._bytes >= self._max_bytes:
                self.finish()
        except BaseException:
            self._writer = None
            raise

    def flush(self) -> None:
        """Hands all records to the system, so that a kill of this process does not lose them; raises as `write`."""
        if self._writer is None:
            return
        try:
            self._writer.flush()
        except BaseException:
            self._writer = None
            raise

    def finish(self) -> None:
        """Forces the file that is being written to the disk, and gives it its final name; raises as `write`."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.close()
        descriptor = os.open(self._partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._partial.rename(self._partial.with_name(self._partial.name.removeprefix(".").removesuffix(UNFINISHED)))

    def _open(self) -> tf.io.TFRecordWriter:
        began = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        # Host and process: servers on several machines may share a folder, and in containers their process ids too.
        parts = (self._prefix.name, began, socket.gethostname(), str(os.getpid()), f"{next(_NUMBERS):05d}")
        self._prefix.parent.mkdir(parents=True, exist_ok=True)
        self._partial = self._prefix.with_name(f".{'-'.join(parts)}{SUFFIX}{UNFINISHED}")
        self._writer = tf.io.TFRecordWriter(str(self._partial))
        self._bytes, self._due = 0, self._clock() + self._max_seconds
        return self._writer
