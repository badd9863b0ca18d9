"""Commands of child processes that end with their parent."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Asks Linux (PR_SET_PDEATHSIG) to kill the process when its parent ends, then executes the program. A `preexec_fn`
# would run between fork and exec, together with gRPC's fork handlers, and has crashed there (SIGSEGV). The signal is
# SIGKILL, because a training blocked inside TensorFlow reacts to no other.
_END_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):  # the parent ended before
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def ending_with_parent(command: Sequence[str | Path]) -> list[str]:
    """Returns a command that runs another one, which Linux kills when this process ends, even by kill -9."""
    start = [sys.executable, "-I", "-S", "-c", _END_WITH_PARENT, str(os.getpid())]
    return [*start, *(str(part) for part in command)]
