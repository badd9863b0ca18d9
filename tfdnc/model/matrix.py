"""Large matrices from NumPy to TensorFlow, with one copy instead of two."""

import numpy as np

from tfdnc.backend import tf

_ALIGNMENT = 64  # bytes; TensorFlow copies memory with a smaller one
_ROWS = 1 << 16  # rows that are converted at once


def tensor_of(matrix: np.ndarray | tf.Tensor) -> tf.Tensor:
    """Returns a matrix `[N, D]` as a float32 tensor with memory of its own; a tensor is returned as it is.

    `tf.constant` makes a second copy, because it aligns the one that it made first.
    """
    if tf.is_tensor(matrix):
        return tf.cast(matrix, tf.float32)
    size = 4 * matrix.size
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    aligned = memory[start : start + size].view(np.float32).reshape(matrix.shape)
    for first in range(0, len(matrix), _ROWS):
        aligned[first : first + _ROWS] = matrix[first : first + _ROWS]
    return tf.experimental.dlpack.from_dlpack(aligned.__dlpack__())
