"""Predict requests from JSON bodies in row or column format, with the rules and the messages of TF Serving."""

import math
from collections.abc import Mapping
from typing import TypeGuard

from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from serving.rest import json_reader, values
from serving.status import ServingError, invalid_argument

_ROWS, _COLUMNS, _SIGNATURE = "instances", "inputs", "signature_name"

Inputs = Mapping[str, meta_graph_pb2.TensorInfo]
"""The inputs of a signature, by name."""

_MAX_RANK = 254
"""TensorFlow's limit on dimensions; it also limits the recursion here."""


def parse(body: bytes) -> dict[str, object]:
    """Returns the JSON object of a body; see `json_reader`.

    Raises:
        ServingError: INVALID_ARGUMENT: no JSON, or no object.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        document = json_reader.read(body)
    except json_reader.JsonError as error:
        raise invalid_argument(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise values.malformed(document, "Is not object")
    return document


def signature_name(document: dict[str, object]) -> str:
    """Returns the signature that a body names, "" if it names none.

    Raises:
        ServingError: INVALID_ARGUMENT: its name is not text.
    """
    name = document.get(_SIGNATURE, "")
    if not isinstance(name, str):
        raise values.malformed(document, f"not formatted correctly. '{_SIGNATURE}' key must be a string value.")
    return values.name(name)


def fill_predict(document: dict[str, object], inputs: Inputs, request: predict_pb2.PredictRequest) -> bool:
    """Writes the tensors of a body into `request`, and returns whether it is in row format.

    Args:
        document: Result of `parse`.
        inputs: Inputs of the signature; the body must name all of them, even those with a default.
        request: The message whose `inputs` to fill.

    Raises:
        ServingError: INVALID_ARGUMENT: the body does not fit the signature.
    """
    if _ROWS not in document and _COLUMNS not in document:
        raise invalid_argument(f"Missing '{_COLUMNS}' or '{_ROWS}' key")
    if _ROWS in document and _COLUMNS in document:
        raise values.malformed(
            document, f"Not formatted correctly expecting only one of '{_COLUMNS}' or '{_ROWS}' keys to exist "
        )
    if _COLUMNS in document:
        _fill_columns(document[_COLUMNS], inputs, request)
        return False
    rows = document[_ROWS]
    if not isinstance(rows, list):
        raise values.malformed(document, f"Expecting '{_ROWS}' to be an list/array")
    if not rows:
        raise values.malformed(document, f"No values in '{_ROWS}' array")
    _fill_rows(rows, inputs, request)
    return True


def _fill_columns(content: object, inputs: Inputs, request: predict_pb2.PredictRequest) -> None:
    columns: dict[str, object]
    if _is_object(content):
        missing = [name for name in sorted(inputs) if name not in content]
        if missing:
            raise invalid_argument(f"Missing named input: {missing[0]} in '{_COLUMNS}' object.")
        columns = {name: content[name] for name in inputs}
    elif len(inputs) != 1:
        raise invalid_argument(
            f"{_COLUMNS} is a plain value/list, but expecting an object as multiple input tensors required "
            "as per tensorinfo_map"
        )
    else:
        columns = dict.fromkeys(inputs, content)
    for name, value in columns.items():
        column = _Column(inputs[name].dtype)
        column.write(column.add(value), request.inputs[name])


def _fill_rows(rows: list[object], inputs: Inputs, request: predict_pb2.PredictRequest) -> None:
    if not isinstance(rows[0], dict) and len(inputs) != 1:
        raise invalid_argument(
            f"{_ROWS} is a plain list, but expecting list of objects as multiple input tensors required "
            "as per tensorinfo_map"
        )
    as_objects = _is_object(rows[0])
    columns = {name: _Column(info.dtype) for name, info in sorted(inputs.items())}
    for index, row in enumerate(rows):
        if _is_object(row):
            if not as_objects:
                raise invalid_argument(f"Expecting value/list but got object at item {index} of input list")
            _add_object(index, row, columns)
        elif as_objects:
            raise invalid_argument(f"Expecting object but got list at item {index} of input list")
        else:
            _add(f"{index}", next(iter(columns.values())), row)
    for name, column in columns.items():
        if column.shape is not None:
            column.write([len(rows), *column.shape], request.inputs[name])


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict) and not values.is_base64(value)


def _add_object(index: int, row: dict[str, object], columns: dict[str, "_Column"]) -> None:
    for name in dict.fromkeys(key for key, _ in row.items()):  # once, even if the key is repeated
        if name not in columns:
            raise _bad_row(f"{index} key: {name}", invalid_argument(f"JSON object: does not have named input: {name}"))
        _add(f"{index} key: {name}", columns[name], row[name])
    if row.keys() != columns.keys():
        raise invalid_argument(
            f"Failed to process element: {index} of '{_ROWS}' list. JSON object: {values.shown(row)} "
            f"keys must be equal to: {','.join(columns)}"
        )


def _add(element: str, column: "_Column", value: object) -> None:
    try:
        column.add(value)
    except ServingError as error:
        raise _bad_row(element, error) from error


def _bad_row(element: str, error: ServingError) -> ServingError:
    return invalid_argument(
        f"Failed to process element: {element} of '{_ROWS}' list. Error: {error.code.name}: {error.message}"
    )


def _shape(value: object) -> list[int]:
    """Returns the shape of nested lists by their first elements; the other elements must agree with it."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    if len(shape) > _MAX_RANK:
        raise invalid_argument(f"JSON Value: nested {len(shape)} levels deep, a tensor has at most {_MAX_RANK}")
    return shape


def _listed(shape: list[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


class _Column:
    """The values of one input, and the shape that all of its rows must have; None before the first row."""

    def __init__(self, dtype: int) -> None:
        self._kind = values.kind_of(dtype)
        self._values: list[object] = []
        self.shape: list[int] | None = None

    def add(self, value: object) -> list[int]:
        """Adds the values of one row, or those of a whole column, and returns their shape.

        Raises:
            ServingError: INVALID_ARGUMENT: ragged, of another shape than the rows before, or of another type.
        """
        shape = _shape(value)
        self._fill(value, shape, 0)
        if self.shape is None:
            self.shape = shape
        if math.prod(shape) != math.prod(self.shape):
            raise invalid_argument(f"Expecting tensor size: {math.prod(self.shape)} but got: {math.prod(shape)}")
        if shape != self.shape:
            raise invalid_argument(f"Expecting shape {_listed(self.shape)} but got: {_listed(shape)}")
        return shape

    def _fill(self, value: object, shape: list[int], level: int) -> None:
        rank = len(shape)
        if not isinstance(value, list):
            if level != rank:
                raise invalid_argument(
                    f"JSON Value: {values.shown(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {rank}"
                )
            self._values.append(self._kind.convert(value))
            return
        if level >= rank:
            raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {rank}")
        if len(value) != shape[level]:
            raise invalid_argument(
                f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
            )
        converted = self._kind.convert_all(value) if level + 1 == rank and value else None
        if converted is not None:
            self._values += converted
            return
        for inner in value:  # also to find the bad value for the message
            self._fill(inner, shape, level + 1)

    def write(self, shape: list[int], proto: tensor_pb2.TensorProto) -> None:
        """Writes the tensor into `proto`."""
        proto.dtype = self._kind.dtype
        for size in shape:
            proto.tensor_shape.dim.add().size = size
        getattr(proto, self._kind.field).extend(self._values)
