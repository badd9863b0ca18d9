"""`TensorProto` to NumPy and back, under the rules of TensorFlow's C++ and with bounds for untrusted senders."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

_BFLOAT16 = tf.bfloat16.as_numpy_dtype

# DataType -> (typed field, dtype of its entries, dtype of an element). Half floats are sent as their bits in an int
# field, complex numbers as pairs.
_FIELDS: dict[int, tuple[str, npt.DTypeLike, npt.DTypeLike]] = {
    types_pb2.DT_FLOAT: ("float_val", np.float32, np.float32),
    types_pb2.DT_DOUBLE: ("double_val", np.float64, np.float64),
    types_pb2.DT_INT32: ("int_val", np.int32, np.int32),
    types_pb2.DT_INT16: ("int_val", np.int16, np.int16),
    types_pb2.DT_INT8: ("int_val", np.int8, np.int8),
    types_pb2.DT_UINT16: ("int_val", np.uint16, np.uint16),
    types_pb2.DT_UINT8: ("int_val", np.uint8, np.uint8),
    types_pb2.DT_INT64: ("int64_val", np.int64, np.int64),
    types_pb2.DT_UINT32: ("uint32_val", np.uint32, np.uint32),
    types_pb2.DT_UINT64: ("uint64_val", np.uint64, np.uint64),
    types_pb2.DT_BOOL: ("bool_val", np.bool_, np.bool_),
    types_pb2.DT_HALF: ("half_val", np.uint16, np.float16),
    types_pb2.DT_BFLOAT16: ("half_val", np.uint16, _BFLOAT16),
    types_pb2.DT_COMPLEX64: ("scomplex_val", np.float32, np.complex64),
    types_pb2.DT_COMPLEX128: ("dcomplex_val", np.float64, np.complex128),
}
_TYPES = {np.dtype(element): number for number, (_, _, element) in _FIELDS.items()}

STRING_BYTES = 24
"""Bytes that even an empty string takes in TensorFlow's memory; `max_bytes` counts them per string."""


class MalformedTensorError(ValueError):
    """A `TensorProto` that contradicts itself, or describes more than the server accepts."""


def type_name(data_type: int) -> str:
    """Returns TensorFlow's short name of a `DataType` number, such as `float` or `string`."""
    if data_type not in types_pb2.DataType.values():
        return f"type {data_type}"
    return types_pb2.DataType.Name(data_type).removeprefix("DT_").lower()


def type_name_of(dtype: np.dtype) -> str:
    """Returns TensorFlow's short name of the dtype of an array."""
    return type_name(_TYPES[dtype]) if dtype in _TYPES else str(dtype)


def decode(proto: tensor_pb2.TensorProto, max_bytes: int | None = None) -> np.ndarray:
    """Returns the array that `proto` describes; strings come as an object array of bytes.

    As in C++, `tensor_content` wins over the typed fields, a typed field with too few values repeats its last one,
    and an empty one means zeros (empty strings). Unlike C++, too many values are an error, not cut off.

    Args:
        proto: The tensor as received.
        max_bytes: Refuse a tensor that would take more bytes than this in memory. A message of a few bytes can
            describe terabytes (one value, repeated), so the limit on messages does not cover it.

    Raises:
        MalformedTensorError: The message says what is wrong.
    """
    is_string = proto.dtype == types_pb2.DT_STRING
    if not is_string and proto.dtype not in _FIELDS:
        raise MalformedTensorError(f"tensors of {type_name(proto.dtype)} cannot be sent in a request")
    itemsize = STRING_BYTES if is_string else np.dtype(_FIELDS[proto.dtype][2]).itemsize
    shape, count = _shape(proto, itemsize, max_bytes)
    try:
        flat = _strings(proto, count) if is_string else _numbers(proto, count)
        return flat.reshape(shape)
    except (OverflowError, ValueError) as error:
        raise MalformedTensorError(str(error)) from error


def _shape(proto: tensor_pb2.TensorProto, itemsize: int, max_bytes: int | None) -> tuple[list[int], int]:
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise MalformedTensorError("the shape of a sent tensor must be fully known")
    # An empty dimension must not hide a huge one: the model may allocate along the other.
    extent = math.prod(max(size, 1) for size in shape)
    if max_bytes is not None and extent * itemsize > max_bytes:
        raise MalformedTensorError(f"shape {shape} asks for more than the {max_bytes} bytes that one tensor may take")
    return shape, math.prod(shape)


def _numbers(proto: tensor_pb2.TensorProto, count: int) -> np.ndarray:
    field, entry, element = _FIELDS[proto.dtype]
    if proto.tensor_content:
        expected = count * np.dtype(element).itemsize
        if len(proto.tensor_content) != expected:
            raise ValueError(f"tensor_content holds {len(proto.tensor_content)} bytes, the shape asks for {expected}")
        return np.frombuffer(proto.tensor_content, element)
    sent = getattr(proto, field)
    values: np.ndarray = np.fromiter(sent, entry, len(sent))
    if values.nbytes % np.dtype(element).itemsize:
        raise ValueError(f"{field} holds half a number")
    values = values.view(element)
    if len(values) > count:
        raise ValueError(f"{field} holds {len(values)} values, the shape asks for {count}")
    if len(values) == count:
        return values
    return np.pad(values, (0, count - len(values)), "edge") if len(values) else np.zeros(count, element)


def _strings(proto: tensor_pb2.TensorProto, count: int) -> np.ndarray:
    values = _packed_strings(proto.tensor_content, count) if proto.tensor_content else list(proto.string_val)
    if len(values) > count:
        raise ValueError(f"string_val holds {len(values)} values, the shape asks for {count}")
    values += [values[-1] if values else b""] * (count - len(values))
    flat = np.empty(count, object)  # not np.array(values, object), which takes the bytes as another dimension
    flat[:] = values
    return flat


def _packed_strings(content: bytes, count: int) -> list[bytes]:
    """Returns the strings of a `tensor_content`: `count` lengths as varints, then all the bytes."""
    if count > len(content):
        raise ValueError(f"tensor_content is too short for {count} strings")
    lengths, at = [], 0
    for _ in range(count):
        length = shift = 0
        while True:
            if at == len(content) or shift > 28:
                raise ValueError("tensor_content holds a broken string length")
            byte = content[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if sum(lengths) != len(content) - at:
        raise ValueError(f"tensor_content holds {len(content) - at} bytes of text, its lengths say {sum(lengths)}")
    ends = np.cumsum([at, *lengths]).tolist()
    return [content[start:end] for start, end in itertools.pairwise(ends)]


def encode(
    array: np.ndarray, proto: tensor_pb2.TensorProto | None = None, as_content: bool = False
) -> tensor_pb2.TensorProto:
    """Returns `array` as a `TensorProto` with typed fields, which is what TF Serving answers with by default.

    `tensor_content` is cheaper to write and to read, but clients in other languages look into the typed fields.

    Args:
        array: Numbers, or an object array of bytes, or an array of text.
        proto: Message to fill instead of a new one, which saves a copy inside a map field.
        as_content: Write `tensor_content` instead of the typed field.

    Raises:
        TypeError: There is no typed field for this dtype (quantised types, resources).
    """
    proto = tensor_pb2.TensorProto() if proto is None else proto
    proto.tensor_shape.SetInParent()  # a scalar has a shape too
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    if array.dtype.kind in "OSU":
        proto.dtype = types_pb2.DT_STRING
        values = [value.encode() if isinstance(value, str) else value for value in array.ravel().tolist()]
        if as_content:
            proto.tensor_content = b"".join([*map(_varint, map(len, values)), *values])
        else:
            proto.string_val.extend(values)
        return proto
    if array.dtype not in _TYPES:
        raise TypeError(f"no field of a TensorProto holds {array.dtype}")
    proto.dtype = _TYPES[array.dtype]
    field, entry, _ = _FIELDS[proto.dtype]
    if as_content:
        proto.tensor_content = np.ascontiguousarray(array).tobytes()
        return proto
    getattr(proto, field).extend(np.ascontiguousarray(array).reshape(-1).view(entry).tolist())
    return proto


def _varint(number: int) -> bytes:
    """Returns a number as protobuf packs it: seven bits to a byte, the lowest first."""
    packed = bytearray()
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*packed, number])
