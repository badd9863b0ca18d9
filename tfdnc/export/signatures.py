"""Signatures of a bundle in TensorFlow: functions to save, and example requests, made from the rows."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts import bundle
from tfdnc.contracts.bundle import Row
from tfdnc.export.module import RetrievalModule


def tensor_specs(rows: Sequence[Row], sizes: Mapping[str, int]) -> list[tf.TensorSpec]:
    """Returns the specs of inputs; a letter without a size in `sizes` is an open dimension."""
    return [tf.TensorSpec([sizes.get(letter) for letter in row.shape], row.dtype, row.name) for row in rows]


def signature_function(module: RetrievalModule, name: str) -> Callable[..., dict[str, tf.Tensor]]:
    """Returns the `tf.function` of a signature, which takes the tensors in the order of its rows.

    The module has no branch on a tensor, so it needs no AutoGraph, which would be more than half of the export time.
    """
    rows = bundle.inputs_of(name, module.features)

    def answer(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return getattr(module, name)(**{row.name: tensor for row, tensor in zip(rows, tensors, strict=True)})

    answer.__name__ = name  # the functions of the graph get this name
    return tf.function(answer, input_signature=tensor_specs(rows, module.sizes), autograph=False)


def example_inputs(module: RetrievalModule, name: str, histories: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """Returns a valid request for the given histories, with neutral values for all inputs that have one.

    Every history begins with "", so that it may be padded in any batch: see `serving.messages.history_array`.
    """
    width, sizes = max(map(len, histories)), {"B": len(histories)}
    padded = [["", *history] + [""] * (width - len(history)) for history in histories]
    given = {bundle.HISTORY: np.array(padded, dtype=object)} | module.default_inputs(len(histories))
    rows = bundle.inputs_of(name, module.features)
    return {row.name: given[row.name] if row.name in given else row.blank(sizes) for row in rows}
