"""Gives the memory of an unloaded version back to the system; CPython and glibc would keep much of it for later."""

import ctypes
import gc


def give_back() -> None:
    """Frees what nothing refers to, and returns free heap pages to the system where the C library can (glibc)."""
    gc.collect()  # a TensorFlow graph is full of reference cycles
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
