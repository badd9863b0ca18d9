"""Returns the memory of an unloaded version to the system; CPython and glibc would keep much of it."""

import ctypes
import gc


def give_back() -> None:
    """Frees unreachable objects, and returns free heap pages to the system if the C library can (glibc)."""
    gc.collect()  # a TensorFlow graph is full of reference cycles
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
