"""JSON texts of responses, with TF Serving's digits and, except for the fewer lines of columns, its layout."""

import json
import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    regression_pb2,
)

from serving import tensors
from serving.rest import values
from serving.status import invalid_argument

_BYTES_SUFFIX = "_bytes"
"""End of the name of an output that holds bytes, not text, and is sent as base64."""

_dump = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode


def error(message: str) -> str:
    """Returns the body for a request that failed."""
    return _members({"error": _dump(message)}, 4)


def predictions(outputs: Mapping[str, tensor_pb2.TensorProto], rows: bool) -> str:
    """Returns the outputs of Predict in the format of the request; a single output is written without its name.

    Args:
        outputs: Tensors by name.
        rows: Write row format, one element per row of the batch; else one element per output.

    Raises:
        ServingError: INVALID_ARGUMENT: no output, a dtype that TF Serving does not write, or rows of different batches.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    arrays = {name: tensors.decode(proto) for name, proto in sorted(outputs.items())}
    if rows:
        _check_batch(arrays)
    texts = [_texts(name, array, rows) for name, array in arrays.items()]
    elements = [_element(list(arrays), group, 12 if rows else 8) for group in zip(*texts, strict=True)]
    return _members({"predictions": _list(elements)} if rows else {"outputs": elements[0]}, 4)


def _element(names: list[str], texts: tuple[str, ...], indent: int) -> str:
    return texts[0] if len(names) == 1 else _members(dict(zip(names, texts, strict=True)), indent)


def _check_batch(arrays: dict[str, np.ndarray]) -> None:
    batch = None
    for name, array in arrays.items():
        if not array.shape:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if batch not in (None, len(array)):
            raise invalid_argument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}")
        batch = len(array)


def _members(texts: dict[str, str], indent: int) -> str:
    """Returns a JSON object with a line per member."""
    inner = "\n" + " " * indent
    return "{" + ",".join(f"{inner}{_dump(name)}: {text}" for name, text in texts.items()) + inner[:-4] + "}"


def _list(texts: Iterable[str]) -> str:
    """Returns a JSON list with a line per element, as a member of the body."""
    return "[" + ",".join(f"\n        {text}" for text in texts) + "\n    ]"


def _texts(name: str, array: np.ndarray, rows: bool) -> list[str]:
    """Returns the JSON text of each row of an output, or one text of the whole output."""
    if array.dtype in (np.float32, np.float64):
        return _nested(_decimals(array.ravel()), array.shape, int(rows))
    if array.dtype.kind not in "iubO" or array.dtype == np.uint16:  # TF Serving writes no half floats either
        raise invalid_argument(f"Failed to write JSON value for tensor type: {tensors.type_name_of(array.dtype)}")
    if array.dtype.kind == "O":
        convert: Callable[[bytes], object] = values.as_base64 if name.endswith(_BYTES_SUFFIX) else _text
        converted = np.empty(array.size, object)
        converted[:] = [convert(content) for content in array.ravel().tolist()]
        array = converted.reshape(array.shape)
    return [_dump(row) for row in array.tolist()] if rows else [_dump(array.tolist())]


def _text(content: bytes) -> str:
    # `encoded` restores bytes that are no UTF-8: TF Serving does not check them either.
    return content.decode(errors="surrogateescape")


def encoded(text: str) -> bytes:
    """Returns the bytes to send for a text of this module."""
    return text.encode(errors="surrogateescape")


def _nested(texts: list[str], shape: tuple[int, ...], first: int) -> list[str]:
    """Returns a JSON text per element along the axes before `first`, from the texts of single values."""
    for axis in range(len(shape) - 1, first - 1, -1):
        size = shape[axis]
        groups = range(math.prod(shape[:axis]))
        texts = ["[" + ", ".join(texts[group * size : (group + 1) * size]) + "]" for group in groups]
    return texts


def _decimals(flat: np.ndarray) -> list[str]:
    """Returns six digits of each number if they identify the float, else as many as needed."""
    texts = _formatted("%.6g", flat)
    exact = np.array(np.fromstring(" ".join(texts), np.float64, sep=" "), flat.dtype) == flat
    if not exact.all():
        full = _formatted("%.17g" if flat.dtype == np.float64 else "%.9g", flat)
        texts = [short if fits else long for short, long, fits in zip(texts, full, exact.tolist(), strict=True)]
    for index in (~np.isfinite(flat)).nonzero()[0].tolist():
        texts[index] = json.dumps(float(flat[index]))  # NaN, Infinity, -Infinity
    for index in (flat == np.rint(flat)).nonzero()[0].tolist():
        if texts[index].lstrip("-").isdigit():
            texts[index] += ".0"  # marks a whole number as a float
    return texts


def _formatted(pattern: str, flat: np.ndarray) -> list[str]:
    # One operation for all numbers: an answer may hold thousands of scores.
    return (" ".join([pattern] * len(flat)) % tuple(flat.tolist())).split()


def classifications(result: classification_pb2.ClassificationResult) -> str:
    """Returns the answer to Classify: label and score of every class, per example."""
    listed = []
    for example in result.classifications:
        scores = _decimals(np.array([item.score for item in example.classes], np.float32))
        pairs = [f"[{_dump(item.label)}, {score}]" for item, score in zip(example.classes, scores, strict=True)]
        listed.append("[" + ", ".join(pairs) + "]")
    return _members({"results": _list(listed)}, 4)


def regressions(result: regression_pb2.RegressionResult) -> str:
    """Returns the answer to Regress: a value per example."""
    texts = _decimals(np.array([item.value for item in result.regressions], np.float32))
    return _members({"results": "[" + ", ".join(texts) + "]"}, 4)


def model_status(response: get_model_status_pb2.GetModelStatusResponse) -> str:
    """Returns the answer to GetModelStatus."""
    return json_format.MessageToJson(response, always_print_fields_with_no_presence=True, indent=1)


def model_metadata(response: get_model_metadata_pb2.GetModelMetadataResponse) -> str:
    """Returns the answer to GetModelMetadata; the signatures are nested twice, as in TF Serving."""
    metadata = {}
    for field, packed in response.metadata.items():
        signatures = get_model_metadata_pb2.SignatureDefMap()
        packed.Unpack(signatures)
        metadata[field] = _as_dict(signatures)
    return json.dumps({"model_spec": _as_dict(response.model_spec), "metadata": metadata}, indent=1)


def _as_dict(message: Message) -> dict[str, object]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
