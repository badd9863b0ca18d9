"""Signatures of a bundle as TensorFlow takes them: functions to save and example requests, made from the rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts import bundle
from tfdnc.contracts.bundle import Row
from tfdnc.export.module import RetrievalModule


def tensor_specs(rows: Sequence[Row], sizes: Mapping[str, int]) -> list[tf.TensorSpec]:
    """Returns the specs of inputs; a letter that is not in `sizes` is open."""
    return [tf.TensorSpec([sizes.get(letter) for letter in row.shape], row.dtype, row.name) for row in rows]


def signature_function(module: RetrievalModule, name: str) -> Any:
    """Returns the `tf.function` of a signature, which takes the tensors in the order of its rows.

    Nothing in the module branches on tensors, and AutoGraph would be more than half of the export time.
    """
    rows = bundle.inputs_of(name, module.features)

    def answer(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return getattr(module, name)(**{row.name: tensor for row, tensor in zip(rows, tensors, strict=True)})

    answer.__name__ = name  # the graph's functions are called after it
    return tf.function(answer, input_signature=tensor_specs(rows, module.sizes), autograph=False)


def example_inputs(module: RetrievalModule, name: str, histories: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """Returns a valid request for the given histories, in which all that may say nothing does.

    Every history begins with "", which makes it safe in any batch: see `serving.messages.history_array`.
    """
    width, sizes = max(map(len, histories)), {"B": len(histories)}
    padded = [["", *history] + [""] * (width - len(history)) for history in histories]
    given = {bundle.HISTORY: np.array(padded, dtype=object)} | module.default_inputs(len(histories))
    rows = bundle.inputs_of(name, module.features)
    return {row.name: given[row.name] if row.name in given else row.blank(sizes) for row in rows}
