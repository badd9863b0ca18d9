"""Precision of the matrix products of a training on this machine."""

from tfdnc.backend import tf


def resolve_precision(precision: str) -> tf.DType:
    """Returns the dtype of the matrix products: `auto` is bfloat16 where the CPU multiplies it natively.

    On CPUs without the instructions TensorFlow emulates bfloat16, slower than float32.
    """
    if precision == "auto":
        return tf.bfloat16 if _has_native_bfloat16() else tf.float32
    return tf.dtypes.as_dtype(precision)


def _has_native_bfloat16() -> bool:
    try:
        with open("/proc/cpuinfo") as file:
            return any("avx512_bf16" in line or "amx_bf16" in line for line in file if line.startswith("flags"))
    except FileNotFoundError:  # not Linux
        return False
