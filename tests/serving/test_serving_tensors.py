"""`TensorProto` codec: agreement with TensorFlow's own, and refusal of everything malformed."""

import numpy as np
import pytest
import serving_models  # noqa: F401 - Keras 2 before TensorFlow
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving import tensors

NUMBERS = [
    np.float32, np.float64, np.float16, tf.bfloat16.as_numpy_dtype, np.int8, np.int16, np.int32, np.int64,
    np.uint8, np.uint16, np.uint32, np.uint64, np.bool_, np.complex64, np.complex128,
]  # fmt: skip


def proto(dtype, shape, **fields):
    message = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in shape:
        message.tensor_shape.dim.add().size = size
    return message


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 0)])
def test_numbers_agree_with_tensorflow_both_ways(dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    encoded = tensors.encode(array)
    assert not encoded.tensor_content
    for decoded in (
        tf.make_ndarray(encoded),
        tensors.decode(encoded),
        tensors.decode(tf.make_tensor_proto(array)),  # tensor_content
    ):
        assert decoded.dtype == array.dtype
        np.testing.assert_array_equal(decoded, array)


@pytest.mark.parametrize("shape", [(), (1,), (2, 2), (0, 3)])
def test_strings_agree_with_tensorflow_both_ways(shape):
    words = [b"", b"plain", "häß".encode(), b"\x00\xff\x00"]
    array = np.empty(shape, object)
    array[...] = np.array(words[: array.size], object).reshape(shape) if array.size else array
    encoded = tensors.encode(array)
    for decoded in (tf.make_ndarray(encoded), tensors.decode(encoded), tensors.decode(tf.make_tensor_proto(array))):
        assert decoded.shape == shape
        assert decoded.tolist() == array.tolist()


def test_text_is_sent_as_utf8():
    assert list(tensors.encode(np.array(["a", "é"])).string_val) == [b"a", "é".encode()]


def test_strings_packed_into_content_are_read():
    long = b"x" * 300  # its length takes two varint bytes
    packed = proto(types_pb2.DT_STRING, [3], tensor_content=b"\x01\xac\x02\x00" + b"a" + long)
    assert tensors.decode(packed).tolist() == [b"a", long, b""]


def test_short_field_repeats_its_last_value_and_empty_means_zero():
    filled = tensors.decode(proto(types_pb2.DT_FLOAT, [2, 2], float_val=[1, 2]))
    np.testing.assert_array_equal(filled, [[1, 2], [2, 2]])
    np.testing.assert_array_equal(tensors.decode(proto(types_pb2.DT_INT64, [2])), [0, 0])
    assert tensors.decode(proto(types_pb2.DT_STRING, [2], string_val=[b"a"])).tolist() == [b"a", b"a"]
    assert tensors.decode(proto(types_pb2.DT_STRING, [2])).tolist() == [b"", b""]


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (proto(types_pb2.DT_FLOAT, [2], tensor_content=b"12345"), "holds 5 bytes, the shape asks for 8"),
        (proto(types_pb2.DT_FLOAT, [2], float_val=[1, 2, 3]), "holds 3 values, the shape asks for 2"),
        (proto(types_pb2.DT_INT8, [1], int_val=[300]), "300"),
        (proto(types_pb2.DT_FLOAT, [-1], float_val=[1]), "fully known"),
        (tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape={"unknown_rank": True}), "fully known"),
        (proto(types_pb2.DT_COMPLEX64, [1], scomplex_val=[1.0]), "half a number"),
        (proto(types_pb2.DT_RESOURCE, []), "tensors of resource"),
        (proto(types_pb2.DT_INVALID, []), "tensors of invalid"),
        (proto(types_pb2.DT_STRING, [1], string_val=[b"a", b"b"]), "holds 2 values"),
        (proto(types_pb2.DT_STRING, [2], tensor_content=b"\x05"), "too short"),
        (proto(types_pb2.DT_STRING, [1], tensor_content=b"\xff"), "broken string length"),
        (proto(types_pb2.DT_STRING, [1], tensor_content=b"\xff" * 9), "broken string length"),
        (proto(types_pb2.DT_STRING, [1], tensor_content=b"\x09abc"), "its lengths say 9"),
        (proto(types_pb2.DT_FLOAT, [1 << 40], float_val=[1]), "more than the 1000 bytes"),
        (proto(types_pb2.DT_STRING, [501], string_val=[b""]), "more than the 1000 bytes"),
        (proto(types_pb2.DT_FLOAT, [0, 1 << 62]), "more than the 1000 bytes"),
        (proto(types_pb2.DT_FLOAT, [1 << 62, 1 << 62]), "more than the 1000 bytes"),
        (proto(types_pb2.DT_FLOAT, [1] * 70, float_val=[1]), "dimension"),
    ],
)
def test_malformed_tensors_are_refused(message, sentence):
    with pytest.raises(tensors.MalformedTensorError, match=sentence):
        tensors.decode(message, max_bytes=1000)


def test_unknown_type_number():
    message = tensor_pb2.TensorProto.FromString(b"\x08\xe7\x07")  # field 1 = 999
    with pytest.raises(tensors.MalformedTensorError, match="type 999"):
        tensors.decode(message)


def test_quantised_output_has_no_field():
    with pytest.raises(TypeError, match="no field"):
        tensors.encode(np.zeros(1, tf.qint8.as_numpy_dtype))


def test_a_scalar_has_a_shape():
    """Clients that look for `tensor_shape` found none; TF Serving always writes it."""
    assert tensors.encode(np.float32(7)).HasField("tensor_shape")
    assert tensors.encode(np.array(b"x", object)).HasField("tensor_shape")


@pytest.mark.parametrize("array", [np.float32([[1, 2]]), np.array([True]), np.int8(-3), np.float16([0.5]), np.zeros(0)])
def test_tensor_content_of_numbers(array):
    content = tensors.encode(np.asarray(array), as_content=True)
    assert content == tf.make_tensor_proto(array) or array.size < 2  # TensorFlow packs one number into its field
    np.testing.assert_array_equal(tensors.decode(content), array)


def test_tensor_content_of_strings():
    words = np.array([[b"a" * 300, b""], [b"\xff\0", b"b" * 20_000]], object)
    content = tensors.encode(words, as_content=True)
    assert not content.string_val
    assert tensors.decode(content).tolist() == words.tolist()
    assert tf.io.parse_tensor(content.SerializeToString(), tf.string).numpy().tolist() == words.tolist()
