"""Memory of the process: its size, and the return of an unloaded version's to the system.

CPython and glibc would keep much of it: a version is many small blocks, and glibc returns whole pages.
"""

import ctypes
import gc
import resource
from concurrent import futures
from pathlib import Path


def thread_with_heap(name: str) -> futures.Executor:
    """Returns a thread to make a version on, to be shut down after the version is closed.

    glibc gives living threads heaps of their own, up to 8 per CPU. On one thread for all versions their blocks lay on
    the same pages, which no unload could return: a server grew with every version, though it held no more objects.
    """
    return futures.ThreadPoolExecutor(1, thread_name_prefix=name)


def give_back() -> None:
    """Frees unreachable objects, and returns free heap pages to the system if the C library can (glibc)."""
    gc.collect()  # a TensorFlow graph is full of reference cycles
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident() -> int:
    """Returns the memory of the process in bytes; raises OSError on a system without `/proc`."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def shown() -> str:
    """Returns the memory of the process as text; a system without `/proc` tells the largest that it was."""
    try:
        return f"the process has {resident() / 2**20:,.0f} MiB"
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return f"the process had at most {most / 2**10:,.0f} MiB"
