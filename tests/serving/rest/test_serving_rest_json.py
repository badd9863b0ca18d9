"""JSON to requests and responses to JSON, without a server: values, digits and messages of TF Serving."""

import json
import math

import grpc
import numpy as np
import pytest
import serving_models  # noqa: F401 - Keras 2 before TensorFlow
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import input_pb2, predict_pb2

from serving import tensors
from serving.rest import json_examples, requests, responses
from serving.status import ServingError

INT32_MAX = 2**31 - 1


def filled(body, **dtypes):
    """Returns the arrays that a body becomes, and whether it is in row format."""
    document = requests.parse(body if isinstance(body, bytes) else json.dumps(body).encode())
    inputs = {name: meta_graph_pb2.TensorInfo(dtype=dtype) for name, dtype in dtypes.items()}
    request = predict_pb2.PredictRequest()
    in_rows = requests.fill_predict(document, inputs, request)
    return {name: tensors.decode(proto) for name, proto in request.inputs.items()}, in_rows


def refusal(body, **dtypes):
    with pytest.raises(ServingError) as caught:
        filled(body, **(dtypes or {"x": types_pb2.DT_FLOAT}))
    return caught.value


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (types_pb2.DT_FLOAT, [1, 2.5, -3], np.float32([1, 2.5, -3])),
        (types_pb2.DT_FLOAT, [math.nan, math.inf, -math.inf, 1e-300], np.float32([np.nan, np.inf, -np.inf, 0])),
        # Since 2.5 integers and decimals are rounded alike, and what is too large is infinite.
        (types_pb2.DT_FLOAT, [1435774380, 1435774380.0, 16777217], np.float32([1435774336, 1435774336, 16777216])),
        (types_pb2.DT_FLOAT, [2**70, 3e38, 1e39, -1e39], np.float32([2.0**70, 3e38, np.inf, -np.inf])),
        (types_pb2.DT_DOUBLE, [2**53 + 1, 2**64 - 1, 1e300], np.float64([2**53, 2.0**64, 1e300])),
        (types_pb2.DT_INT32, [-INT32_MAX - 1, INT32_MAX], np.int32([-INT32_MAX - 1, INT32_MAX])),
        (types_pb2.DT_INT64, [-(2**63), 2**63 - 1], np.int64([-(2**63), 2**63 - 1])),
        (types_pb2.DT_UINT32, [0, 2**32 - 1], np.uint32([0, 2**32 - 1])),
        (types_pb2.DT_UINT64, [0, 2**64 - 1], np.uint64([0, 2**64 - 1])),
        (types_pb2.DT_INT8, [-128, 127], np.int8([-128, 127])),
        (types_pb2.DT_BOOL, [True, False], np.array([True, False])),
        (
            types_pb2.DT_STRING,
            ["a", "é", {"b64": "/wA="}, {"b64": " /w\nA"}],
            [b"a", "é".encode(), b"\xff\0", b"\xff\0"],
        ),
    ],
)
def test_values_of_every_type_in_both_formats(dtype, values, expected):
    expected = np.array(expected, object) if dtype == types_pb2.DT_STRING else expected
    for body, rows in (({"instances": values}, True), ({"inputs": values}, False), ({"inputs": {"x": values}}, False)):
        arrays, in_rows = filled(body, x=dtype)
        assert in_rows is rows
        assert arrays["x"].dtype == expected.dtype
        np.testing.assert_array_equal(arrays["x"], expected)


def test_shapes_come_from_the_nesting():
    for values, shape in (
        (3.5, ()),
        ([], (0,)),
        ([[]], (1, 0)),
        ([[1], [2]], (2, 1)),
        ([[[1, 2]], [[3, 4]]], (2, 1, 2)),
    ):
        assert filled({"inputs": values}, x=types_pb2.DT_FLOAT)[0]["x"].shape == shape
    rows = [{"a": [1, 2], "b": "x"}, {"b": "y", "a": [3, 4]}]
    arrays, _ = filled({"instances": rows}, a=types_pb2.DT_INT32, b=types_pb2.DT_STRING)
    assert arrays["a"].tolist() == [[1, 2], [3, 4]]
    assert arrays["b"].tolist() == [b"x", b"y"]


IN_ROW = "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
        ([1, 2], "JSON Value: [1, 2] Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"inputs": [1], "instances": [1]}, "expecting only one of 'inputs' or 'instances' keys to exist "),
        ({"instances": 1}, "Expecting 'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": ["x"]}, IN_ROW + 'JSON Value: "x" Type: String is not of expected type: float'),
        ({"instances": [None]}, IN_ROW + "JSON Value: null Type: Null is not of expected type: float"),
        ({"instances": [True]}, IN_ROW + "JSON Value: true Type: True is not of expected type: float"),
        ({"inputs": [1, {"y": 1}]}, "Type: Object is not of expected type: float"),
        ({"inputs": [[1], [1, 2]]}, "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ({"inputs": [[1], 2]}, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ({"inputs": [1, [2]]}, "Encountered list at unexpected level: 1 expected < 1"),
        ({"inputs": json.loads("[" * 300 + "]" * 300)}, "nested 300 levels deep"),
        ({"instances": [[1], [1, 2]]}, "Failed to process element: 1 of 'instances' list. Error: "),
        ({"instances": [[1], [1, 2]]}, "Expecting tensor size: 1 but got: 2"),
        ({"instances": [[1, 2], [[1, 2]]]}, "Expecting shape [2] but got: [1,2]"),
        ({"instances": [1, {"x": 1}]}, "Expecting value/list but got object at item 1 of input list"),
        ({"instances": [{"x": 1}, 1]}, "Expecting object but got list at item 1 of input list"),
        (
            {"instances": [{"z": 1}]},
            "element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT: JSON object: ",
        ),
        ({"instances": [{}]}, "JSON object: {} keys must be equal to: x"),
        ({"inputs": {"z": [1]}}, "Missing named input: x in 'inputs' object."),
    ],
)
def test_bodies_that_do_not_fit(body, message):
    error = refusal(body)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.message


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (1.0, types_pb2.DT_INT32, "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        (2**31, types_pb2.DT_INT32, "Type: Number is not of expected type: int32"),
        (-1, types_pb2.DT_UINT64, "is not of expected type: uint64"),
        (1, types_pb2.DT_BOOL, "is not of expected type: bool"),
        (1, types_pb2.DT_STRING, "JSON Value: 1 Type: Number is not of expected type: string"),
        ({"b64": "*"}, types_pb2.DT_STRING, "Unable to base64 decode"),
        ({"b64": "/wA=="}, types_pb2.DT_STRING, "Unable to base64 decode"),
        ({"b64": "abcde"}, types_pb2.DT_STRING, "Unable to base64 decode"),
        ({"b64": 1}, types_pb2.DT_STRING, "not formatted correctly for base64 data"),
        ("\ud800", types_pb2.DT_STRING, "JSON Parse error: The surrogate pair in string is invalid. at offset: "),
        (math.nan, types_pb2.DT_INT32, "JSON Value:  Type: Number is not of expected type: int32"),
    ],
)
def test_values_that_a_type_does_not_take(value, dtype, message):
    for values in ([value], [[value, value]]):
        error = refusal({"inputs": {"x": values}}, x=dtype)
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert message in error.message


def test_a_type_that_is_not_read_from_json():
    error = refusal({"inputs": [1]}, x=types_pb2.DT_HALF)
    assert (error.code, error.message) == (
        grpc.StatusCode.UNIMPLEMENTED,
        "Conversion of JSON Value: 1 to type: half",
    )


def test_several_inputs_need_their_names():
    dtypes = {"a": types_pb2.DT_FLOAT, "b": types_pb2.DT_FLOAT}
    assert "instances is a plain list, but expecting list of objects" in refusal({"instances": [1]}, **dtypes).message
    assert "inputs is a plain value/list, but expecting an object" in refusal({"inputs": [1]}, **dtypes).message
    assert "keys must be equal to: a,b" in refusal({"instances": [{"a": 1}]}, **dtypes).message


def test_a_long_value_is_shown_in_part_only():
    assert len(refusal({"instances": "x" * 10_000_000}).message) < 2000


def test_signature_name_is_text():
    assert requests.signature_name({}) == ""
    with pytest.raises(ServingError, match="'signature_name' key must be a string value"):
        requests.signature_name({"signature_name": 1})
    deep = requests.parse(b'{"signature_name": ' + b"[" * 20_000 + b"]" * 20_000 + b"}")
    with pytest.raises(ServingError, match="'signature_name' key must be a string value"):
        requests.signature_name(deep)


def proto(array):
    return tensors.encode(np.asarray(array))


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.float32([0.2, 1, 1234567, 9e6, 3e-5, 0.1]), "[0.2, 1.0, 1234567.0, 9e+06, 3e-05, 0.1]"),
        (np.float32([1 / 3, 16777215]), "[0.333333343, 16777215.0]"),
        (np.float64([1 / 3, 1e22, -0.0]), "[0.33333333333333331, 1e+22, -0.0]"),
        (np.float32([9000000, 999999, 0.5, 0.0003, 0.00003]), "[9e+06, 999999.0, 0.5, 0.0003, 3e-05]"),
        (np.float32([555557.5]), "[555557.5]"),
        (np.float32([np.nan, np.inf, -np.inf]), "[NaN, Infinity, -Infinity]"),
        (np.float32([]), "[]"),
        (np.float32(7), "7.0"),
        (np.float32([[1], [2]]), "[[1.0], [2.0]]"),
        (np.zeros([2, 0, 3], np.float32), "[[], []]"),
        (np.int64([-(2**63), 5]), "[-9223372036854775808, 5]"),
        (np.uint64([2**64 - 1]), "[18446744073709551615]"),
        (np.array([True, False]), "[true, false]"),
        (np.array(['"é"\n'], object), '["\\"é\\"\\n"]'),
    ],
)
def test_outputs_as_text(array, text):
    assert responses.predictions({"y": proto(array)}, rows=False) == f'{{\n    "outputs": {text}\n}}'


def test_every_float_survives_its_text():
    floats = np.random.default_rng(0).integers(0, 2**32, 3000, np.uint32).view(np.float32)
    floats = floats[np.isfinite(floats)]
    read = json.loads(responses.predictions({"y": proto(floats)}, rows=True))["predictions"]
    np.testing.assert_array_equal(np.float32(read), floats)


def test_rows_and_columns_of_several_outputs():
    outputs = {"b": proto(np.int32([[1, 2], [3, 4]])), "a": proto(np.array(["x", "y"], object))}
    assert responses.predictions(outputs, rows=True) == (
        '{\n    "predictions": [\n'
        '        {\n            "a": "x",\n            "b": [1, 2]\n        },\n'
        '        {\n            "a": "y",\n            "b": [3, 4]\n        }\n    ]\n}'
    )
    assert json.loads(responses.predictions(outputs, rows=False)) == {
        "outputs": {"a": ["x", "y"], "b": [[1, 2], [3, 4]]}
    }
    one = responses.predictions({"b": outputs["b"]}, rows=True)
    assert json.loads(one) == {"predictions": [[1, 2], [3, 4]]}


def test_bytes_go_out_as_base64_if_the_name_says_so_else_as_they_are():
    content = np.array([b"\xff\x00"], object)
    text = responses.predictions({"image_bytes": proto(content), "label": proto(content)}, rows=False)
    assert '"image_bytes": [{"b64": "/wA="}]' in text
    assert b'"label": ["\xff\\u0000"]' in responses.encoded(text)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"y": proto(np.float32(1))}, "Tensor name: y has no shape information "),
        ({"y": proto([1]), "z": proto([1, 2])}, "Tensor name: z has inconsistent batch size: 2 expecting: 1"),
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": proto(np.float16([1]))}, "Failed to write JSON value for tensor type: half"),
        ({"y": proto(np.uint16([1]))}, "Failed to write JSON value for tensor type: uint16"),
        ({"y": proto(np.complex64([1]))}, "Failed to write JSON value for tensor type: complex64"),
        ({"y": proto(np.zeros(1, tf.bfloat16.as_numpy_dtype))}, "Failed to write JSON value for tensor type: bfloat16"),
    ],
)
def test_outputs_that_json_cannot_hold(outputs, message):
    with pytest.raises(ServingError) as caught:
        responses.predictions(outputs, rows=True)
    assert (caught.value.code, caught.value.message) == (grpc.StatusCode.INVALID_ARGUMENT, message)


def test_examples():
    target = input_pb2.Input()
    features = {"ids": [1, 2], "age": 2.5, "name": "é", "raw": {"b64": "/wA="}, "flag": [True, 0], "none": []}
    json_examples.fill_input({"examples": [features, {}]}, target)
    first, second = target.example_list.examples
    read = {name: feature for name, feature in first.features.feature.items()}
    assert read["ids"].int64_list.value == [1, 2]
    assert read["age"].float_list.value == [2.5]
    assert read["name"].bytes_list.value == ["é".encode()]
    assert read["raw"].bytes_list.value == [b"\xff\0"]
    assert read["flag"].int64_list.value == [1, 0]
    assert read["none"].WhichOneof("kind") is None
    assert not second.features.feature


def test_numbers_of_examples_beyond_what_a_feature_holds():
    target = input_pb2.Input()
    json_examples.fill_input(requests.parse(b'{"examples": [{"a": [1e39, -Inf, 18446744073709551616]}]}'), target)
    assert target.example_list.examples[0].features.feature["a"].float_list.value == [math.inf, -math.inf, 2.0**64]


def test_keys_that_stand_twice():
    """TF Serving looks for the first, but for features, of which it takes the last; such an object is no base64."""
    arrays, _ = filled(b'{"inputs": {"x": [1], "x": [2]}, "inputs": 3}', x=types_pb2.DT_INT32)
    assert arrays["x"].tolist() == [1]
    arrays, _ = filled(b'{"instances": [{"x": 1, "x": 2}, {"x": 3, "x": 4}]}', x=types_pb2.DT_INT32)
    assert arrays["x"].tolist() == [1, 3]
    assert requests.signature_name(requests.parse(b'{"signature_name": "a", "signature_name": "b"}')) == "a"
    target = input_pb2.Input()
    json_examples.fill_input(requests.parse(b'{"examples": [{"a": 1.5, "a": 2}]}'), target)
    assert target.example_list.examples[0].features.feature["a"].int64_list.value == [2]
    message = refusal(b'{"inputs": [{"b64": "", "b64": ""}]}', x=types_pb2.DT_STRING).message
    assert message.endswith("not formatted correctly for base64 data")


def test_examples_with_context():
    target = input_pb2.Input()
    json_examples.fill_input({"context": {"country": "at"}, "examples": [{"x": 1}]}, target)
    filled = target.example_list_with_context
    assert filled.context.features.feature["country"].bytes_list.value == [b"at"]
    assert filled.examples[0].features.feature["x"].int64_list.value == [1]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "When method is classify, key 'examples' is expected and was not found"),
        ({"examples": 1}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"context": 1, "examples": [{}]}, "Example must be JSON object but got JSON Number"),
        ({"examples": [{"a": None}]}, "Feature: a has element with unexpected JSON type: Null"),
        ({"examples": [{"a": [[1]]}]}, "Feature: a has element with unexpected JSON type: Array"),
        ({"examples": [{"a": {"b": 1}}]}, "Feature: a has element with unexpected JSON type: Object"),
        ({"examples": [{"a": [1.5, 1]}]}, "Unexpected element type in feature: a expecting type: float"),
        ({"examples": [{"a": [1, "x"]}]}, "Unexpected element type in feature: a expecting type: int64"),
        ({"examples": [{"a": 2**63}]}, "Feature: a has uint64_t element. Only int64_t is supported."),
        ({"examples": [{"\udcff": 1}]}, "JSON Parse error: Invalid encoding in string."),
    ],
)
def test_examples_that_are_none(document, message):
    with pytest.raises(ServingError) as caught:
        json_examples.fill_input(document, input_pb2.Input())
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert message in caught.value.message


def test_the_limits_of_small_integers_are_checked_by_the_tensor_codec():
    """JSON bounds small integers like int32, as TF Serving; 300 as int8 is refused when the tensor is read."""
    request = predict_pb2.PredictRequest()
    inputs = {"x": meta_graph_pb2.TensorInfo(dtype=types_pb2.DT_INT8)}
    requests.fill_predict({"inputs": [300]}, inputs, request)
    assert request.inputs["x"] == tensor_pb2.TensorProto(
        dtype=types_pb2.DT_INT8, tensor_shape={"dim": [{"size": 1}]}, int_val=[300]
    )
