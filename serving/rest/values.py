"""What JSON values are to TF Serving: their names in its messages, base64 objects, and which of them fit a dtype."""

import base64
import binascii
import json

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2

from serving import tensors
from serving.status import MESSAGE_LIMIT, ServingError, invalid_argument

_BASE64_KEY = "b64"
_TYPE_NAMES = {type(None): "Null", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
_PRETTY = json.JSONEncoder(indent=4)


def type_name(value) -> str:
    """Returns the name of a JSON value's type in TF Serving's messages."""
    return str(value) if isinstance(value, bool) else _TYPE_NAMES[type(value)]


def shown(value) -> str:
    """Returns a JSON value as text for a message; of a long one, no more is written than a message may hold."""
    pieces, length = [], 0
    for piece in _PRETTY.iterencode(value):
        pieces.append(piece)
        length += len(piece)
        if length > MESSAGE_LIMIT:
            break
    return "".join(pieces)[: MESSAGE_LIMIT + 1]


def malformed(document: object, words: str) -> ServingError:
    """Returns the error for a body that is JSON, but not what the call asks for."""
    return invalid_argument(f"JSON Value: {shown(document)} {words}")


def is_base64(value) -> bool:
    """Returns whether `value` is `{"b64": text}`, which stands for bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_BASE64_KEY), str)


def from_base64(value) -> bytes:
    """Returns the bytes that `{"b64": text}` stands for; padding may be left out.

    Raises:
        ServingError: INVALID_ARGUMENT: not such an object, or not base64.
    """
    if not is_base64(value):
        raise invalid_argument(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
    text = "".join(value[_BASE64_KEY].split())
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: not ASCII
        raise invalid_argument("Unable to base64 decode") from error


def as_base64(content: bytes) -> dict[str, str]:
    """Returns the JSON object that stands for bytes."""
    return {_BASE64_KEY: base64.b64encode(content).decode()}


def utf8(text: str) -> bytes:
    r"""Returns text as UTF-8.

    Raises:
        ServingError: INVALID_ARGUMENT: half of a surrogate pair, which JSON can spell (`"\ud800"`) and UTF-8 cannot.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise invalid_argument("JSON Parse error: The surrogate pair in string is invalid.") from error


class Kind:
    """Which JSON values a dtype takes, and what they become in the typed field of a `TensorProto`.

    Attributes:
        dtype: `DataType` number.
        field: Name of the typed field.
    """

    def __init__(self, dtype: int, field: str, types: tuple[type, ...]):
        self.dtype, self.field, self._types = dtype, field, frozenset(types)

    def convert(self, value):
        """Returns what `value` becomes.

        Raises:
            ServingError: INVALID_ARGUMENT: a value of another type, or out of range.
        """
        if type(value) not in self._types:
            raise self._misfit(value)
        return value

    def convert_all(self, values: list) -> list | None:
        """Returns what `values` become, or None if they need a look one by one; this is the fast road."""
        return values if self._types.issuperset(map(type, values)) else None

    def _misfit(self, value) -> ServingError:
        return invalid_argument(
            f"JSON Value: {shown(value)} Type: {type_name(value)} "
            f"is not of expected type: {tensors.type_name(self.dtype)}"
        )


class _Integers(Kind):
    def __init__(self, dtype: int, field: str, bounds: type):
        super().__init__(dtype, field, (int,))
        self._low, self._high = np.iinfo(bounds).min, np.iinfo(bounds).max

    def convert(self, value):
        if not self._low <= super().convert(value) <= self._high:
            raise self._misfit(value)
        return value

    def convert_all(self, values):
        return values if super().convert_all(values) and self._low <= min(values) <= max(values) <= self._high else None


class _Decimals(Kind):
    """Integers pass where the float holds them exactly; decimals only must not be larger than the largest one."""

    def __init__(self, dtype: int, field: str, element: type):
        super().__init__(dtype, field, (int, float))
        self._name = tensors.type_name(dtype)
        self._largest, self._whole = float(np.finfo(element).max), 2 ** (np.finfo(element).nmant + 1) - 1

    def convert(self, value):
        super().convert(value)
        # An integer beyond 64 bits is a decimal to TF Serving's parser.
        largest = self._whole if isinstance(value, int) and -(2**63) <= value < 2**64 else self._largest
        if not -largest <= value <= largest and abs(value) < float("inf"):  # NaN and Infinity pass
            raise invalid_argument(
                f"Cannot convert JSON value: {shown(value)} to {self._name} without loss of precision."
            )
        return value

    def convert_all(self, values):
        return values if super().convert_all(values) and all(-self._whole <= v <= self._whole for v in values) else None


class _Strings(Kind):
    def __init__(self):
        super().__init__(types_pb2.DT_STRING, "string_val", (str,))

    def convert(self, value):
        return from_base64(value) if isinstance(value, dict) else utf8(super().convert(value))

    def convert_all(self, values):
        return [utf8(value) for value in values] if super().convert_all(values) is not None else None


class _Unreadable(Kind):
    def __init__(self, dtype: int):
        super().__init__(dtype, "", ())

    def convert(self, value):
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {shown(value)} to type: {tensors.type_name(self.dtype)}",
        )


_KINDS = {
    kind.dtype: kind
    for kind in (
        _Decimals(types_pb2.DT_FLOAT, "float_val", np.float32),
        _Decimals(types_pb2.DT_DOUBLE, "double_val", np.float64),
        # The small ones are bounded like int32 here, as in TF Serving; the tensor codec refuses what is too large.
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
    """Returns how JSON becomes tensors of `dtype`; of one that TF Serving reads none of, every value is refused."""
    return _KINDS.get(dtype) or _Unreadable(dtype)
