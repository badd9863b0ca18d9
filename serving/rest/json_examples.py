"""`tf.Example`s from JSON bodies, for Classify and Regress, with the rules and the messages of TF Serving."""

from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow_serving.apis import input_pb2

from serving.rest import json_reader, values
from serving.status import invalid_argument

_CONTEXT, _EXAMPLES = "context", "examples"

_KIND_NAMES = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def fill_input(document: dict[str, object], target: input_pb2.Input) -> None:
    """Writes the examples of a body, and their context if it has one, into the input of a request.

    Args:
        document: Result of `requests.parse`.
        target: The message to fill.

    Raises:
        ServingError: INVALID_ARGUMENT: no examples, or a feature that is no list of one type.
    """
    if _CONTEXT in document:
        _fill_example(document[_CONTEXT], target.example_list_with_context.context)
    if _EXAMPLES not in document:
        raise values.malformed(document, f"When method is classify, key '{_EXAMPLES}' is expected and was not found")
    examples = document[_EXAMPLES]
    if not isinstance(examples, list):
        raise values.malformed(document, f"Expecting '{_EXAMPLES}' value to be an list/array")
    if not examples:
        raise values.malformed(document, f"'{_EXAMPLES}' value is an empty array")
    filled = target.example_list_with_context if _CONTEXT in document else target.example_list
    for content in examples:
        _fill_example(content, filled.examples.add())


def _fill_example(content: object, example: example_pb2.Example) -> None:
    if not isinstance(content, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {values.type_name(content)}")
    example.features.SetInParent()
    for name, value in content.items():
        feature = example.features.feature[values.name(name)]
        feature.Clear()  # the last of two equal keys counts here, the first one elsewhere
        for item in value if isinstance(value, list) else [value]:
            _add(item, name, feature)


def _add(value: object, name: str, feature: feature_pb2.Feature) -> None:
    """Adds one value; the first one decides the type of the list, and `1` is no float."""
    kind, converted = _kind_of(value, name)
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise invalid_argument(f"Unexpected element type in feature: {name} expecting type: {_KIND_NAMES[present]}")
    getattr(feature, kind).value.append(converted)


def _kind_of(value: object, name: str) -> tuple[str, bytes | float | int]:
    if isinstance(value, str):
        return "bytes_list", json_reader.utf8(value)
    if values.is_base64(value):
        return "bytes_list", values.from_base64(value)
    if isinstance(value, float):
        return "float_list", value
    if isinstance(value, int):  # true and false are 1 and 0
        if value >= 2**63:
            raise invalid_argument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        return "int64_list", int(value)
    raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {values.type_name(value)}")
