"""A filter process between native libraries and standard error: what is no news is kept, and shown if the run fails.

It reads what was written to descriptor 2, line by line, and is started as a file of its own with nothing but the
standard library. A process, because it must outlive the one whose crash it reports.
"""

import re
import signal
import sys
from collections import deque
from typing import BinaryIO

WENT_WELL = b"\0tfdnc went well\n"
"""The line that says that what was kept need not be shown. Without it, as after a crash, it is."""

_KEPT_LINES = 50

_LOG_LINE = re.compile(
    rb"([IWE])\d{4} \d\d:\d\d:\d+\.\d+ "  # absl
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: ([IWE]) "  # TensorFlow
    rb"|()(?:WARNING: All log messages before absl::InitializeLog|To enable the following instructions: )"
)
"""A line that says how important it is: the groups hold I, W, E, or nothing."""

_NO_GPU = re.compile(rb"cuInit|cuda|cudart|cuDNN|cuBLAS|cuFFT|computation_placer|TensorRT", re.IGNORECASE)
"""Errors of a machine without a GPU that its libraries were built for."""


def is_news(line: bytes) -> bool:
    """True for a line to be shown at once: an error, or no line of a library's log."""
    found = _LOG_LINE.match(line)
    if not found:
        return True
    return b"E" in found.groups() and not _NO_GPU.search(line)


def filter_lines(source: BinaryIO, target: BinaryIO) -> None:
    """Hands on what is news, until `source` ends; then the last of what was kept, unless all went well."""
    kept: deque[bytes] = deque(maxlen=_KEPT_LINES)
    for line in source:
        if line.endswith(WENT_WELL):
            kept.clear()
            line = line.removesuffix(WENT_WELL)
        if is_news(line):
            target.write(line)
            target.flush()
        else:
            kept.append(line)
    target.writelines(kept)
    target.flush()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # it ends when its source does
        signal.signal(number, signal.SIG_IGN)
    filter_lines(sys.stdin.buffer, sys.stdout.buffer)
