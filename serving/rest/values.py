"""JSON values in TF Serving's terms: names of their types, base64 objects, and conversion to a dtype."""

import base64
import re
from typing import Any

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2

from serving import tensors
from serving.rest.json_reader import Repeated, utf8
from serving.rest.shown import shown
from serving.status import ServingError, invalid_argument

_BASE64_KEY = "b64"
_BASE64 = re.compile(r"([A-Za-z0-9+/]*)([=.]*)")
_TYPE_NAMES: dict[type, str] = {
    type(None): "Null",
    dict: "Object",
    Repeated: "Object",
    list: "Array",
    str: "String",
    int: "Number",
    float: "Number",
}


def type_name(value: object) -> str:
    """Returns the name of a JSON value's type in TF Serving's messages."""
    return str(value) if isinstance(value, bool) else _TYPE_NAMES[type(value)]


def malformed(document: object, words: str) -> ServingError:
    """Returns the error for a body that is JSON, but does not fit the call."""
    return invalid_argument(f"JSON Value: {shown(document)} {words}")


def is_base64(value: object) -> bool:
    """Returns whether `value` is `{"b64": text}`, which stands for bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_BASE64_KEY), str)


def from_base64(value: object) -> bytes:
    """Returns the bytes that `{"b64": text}` stands for; padding may be left out, spaces are ignored.

    Raises:
        ServingError: INVALID_ARGUMENT: not such an object, or not base64.
    """
    if not isinstance(value, dict) or not is_base64(value):
        raise invalid_argument(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
    found = _BASE64.fullmatch(re.sub("[ \\t-\\r]", "", value[_BASE64_KEY]))
    if found is None or len(found[1]) % 4 == 1 or len(found[2]) not in (0, -len(found[1]) % 4):
        raise invalid_argument("Unable to base64 decode")
    return base64.b64decode(found[1] + "=" * (-len(found[1]) % 4))


def as_base64(content: bytes) -> dict[str, str]:
    """Returns the JSON object that stands for bytes."""
    return {_BASE64_KEY: base64.b64encode(content).decode()}


def name(text: str) -> str:
    """Returns `text`, a name for a protobuf message, which must be UTF-8.

    Raises:
        ServingError: INVALID_ARGUMENT: it is not UTF-8. TF Serving only logs that.
    """
    if not text.isascii() and utf8(text).decode(errors="replace") != text:
        raise invalid_argument("JSON Parse error: Invalid encoding in string.")
    return text


class Kind:
    """Conversion of JSON values to the typed field of a `TensorProto` of one dtype.

    Attributes:
        dtype: `DataType` number.
        field: Name of the typed field.
    """

    def __init__(self, dtype: int, field: str, types: tuple[type, ...]) -> None:
        self.dtype, self.field, self._types = dtype, field, frozenset(types)

    def convert(self, value: object) -> object:
        """Returns the entry of the typed field for `value`.

        Raises:
            ServingError: INVALID_ARGUMENT: a value of another type, or out of range.
        """
        if type(value) not in self._types:
            raise self._misfit(value)
        return value

    def convert_all(self, values: list[Any]) -> list[Any] | None:
        """Returns the entries for `values`, None if they must be converted one by one; this is the fast case."""
        return values if self._types.issuperset(map(type, values)) else None

    def _misfit(self, value: object) -> ServingError:
        return invalid_argument(
            f"JSON Value: {shown(value)} Type: {type_name(value)} "
            f"is not of expected type: {tensors.type_name(self.dtype)}"
        )


class _Integers(Kind):
    def __init__(self, dtype: int, field: str, bounds: type[np.integer]) -> None:
        super().__init__(dtype, field, (int,))
        self._low, self._high = np.iinfo(bounds).min, np.iinfo(bounds).max

    def convert(self, value: object) -> object:
        number = super().convert(value)
        if not isinstance(number, int) or not self._low <= number <= self._high:
            raise self._misfit(value)
        return number

    def convert_all(self, values: list[Any]) -> list[Any] | None:
        return values if super().convert_all(values) and self._low <= min(values) <= max(values) <= self._high else None


class _Strings(Kind):
    def __init__(self) -> None:
        super().__init__(types_pb2.DT_STRING, "string_val", (str,))

    def convert(self, value: object) -> object:
        if isinstance(value, str):
            return utf8(value)
        return from_base64(value) if isinstance(value, dict) else super().convert(value)

    def convert_all(self, values: list[Any]) -> list[Any] | None:
        return [utf8(value) for value in values] if super().convert_all(values) is not None else None


class _Unreadable(Kind):
    def __init__(self, dtype: int) -> None:
        super().__init__(dtype, "", ())

    def convert(self, value: object) -> object:
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {shown(value)} to type: {tensors.type_name(self.dtype)}",
        )


_KINDS = {
    kind.dtype: kind
    for kind in (
        # protobuf rounds to the nearest float, or to infinity beyond the largest one, as C++ does.
        Kind(types_pb2.DT_FLOAT, "float_val", (int, float)),
        Kind(types_pb2.DT_DOUBLE, "double_val", (int, float)),
        # As in TF Serving, the limits of small integers are those of int32 here; `tensors` checks their own limits.
        *(
            _Integers(getattr(types_pb2, f"DT_{name}"), "int_val", np.int32)
            for name in ("INT32", "INT16", "INT8", "UINT8")
        ),
        _Integers(types_pb2.DT_INT64, "int64_val", np.int64),
        _Integers(types_pb2.DT_UINT32, "uint32_val", np.uint32),
        _Integers(types_pb2.DT_UINT64, "uint64_val", np.uint64),
        Kind(types_pb2.DT_BOOL, "bool_val", (bool,)),
        _Strings(),
    )
}


def kind_of(dtype: int) -> Kind:
    """Returns the conversion to `dtype`; it refuses every value if TF Serving cannot read this dtype from JSON."""
    return _KINDS.get(dtype) or _Unreadable(dtype)
