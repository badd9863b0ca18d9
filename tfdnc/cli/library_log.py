"""A filter process between native libraries and standard error: it shows log lines only if the run fails.

It reads the output to descriptor 2 line by line. It is a process, because it reports crashes of the main process. Its
file is started by itself, with the standard library only, so that it starts fast.
"""

import re
import signal
import sys
from collections import deque
from typing import BinaryIO

WENT_WELL = b"\0tfdnc went well\n"
"""Line that marks a success: the kept lines are dropped. Without it, as after a crash, they are shown."""

_KEPT_LINES = 50
"""Number of lines that are kept, the last ones."""

_LOG_LINE = re.compile(
    rb"([IWE])\d{4} \d\d:\d\d:\d+\.\d+ "  # absl
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: ([IWE]) "  # TensorFlow
    rb"|()(?:WARNING: All log messages before absl::InitializeLog|To enable the following instructions: )"
)
"""Line of a library's log; the groups hold its severity I, W or E, or nothing."""

_NO_GPU = re.compile(rb"cuInit|cuda|cudart|cuDNN|cuBLAS|cuFFT|computation_placer|TensorRT", re.IGNORECASE)
"""Errors of libraries for GPUs on a machine without one."""


def is_relevant(line: bytes) -> bool:
    """Returns True for a line to be shown at once: an error, or a line that is not of a library's log."""
    found = _LOG_LINE.match(line)
    if not found:
        return True
    return b"E" in found.groups() and not _NO_GPU.search(line)


def filter_lines(source: BinaryIO, target: BinaryIO) -> None:
    """Copies relevant lines until `source` ends; then the kept lines, unless the run went well."""
    kept: deque[bytes] = deque(maxlen=_KEPT_LINES)
    for line in source:
        if line.endswith(WENT_WELL):
            kept.clear()
            line = line.removesuffix(WENT_WELL)
        if is_relevant(line):
            target.write(line)
            target.flush()
        else:
            kept.append(line)
    target.writelines(kept)
    target.flush()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # it ends with its source, not by a signal
        signal.signal(number, signal.SIG_IGN)
    filter_lines(sys.stdin.buffer, sys.stdout.buffer)
