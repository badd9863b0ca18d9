"""Requests that no honest client sends, made from valid ones: each is reproducible from its seed, and can be read."""

import random
from collections.abc import Callable
from typing import NamedTuple

from google.protobuf import text_format
from google.protobuf.message import Message
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2

PREDICTION, MODEL = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
METHODS = [
    *(f"/{PREDICTION}/{rpc}" for rpc in ("Classify", "Regress", "MultiInference", "GetModelMetadata", "Predict")),
    f"/{MODEL}/GetModelStatus",
]
"""HandleReloadConfigRequest is not among them: an honest one may take the models away that the next request needs."""

NUMBERS = [0, 1, -1, 7, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)]
REALS = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1e38, -1e-38]
CONDITIONS = [
    "stock=true",
    "stock!=false",
    "price<=3",
    "price>1e999",
    "stock=maybe",
    "=",
    "price<",
    "cluster=cluster 1",
]
TEXTS = ["", "x", "tfdnc", "serving_default", "a" * 5000, "é\x00\n", "../../etc/passwd", "%s%n", "1"]
SIZES = [0, 1, 2, 3, 1000, 2**20, 2**31, 2**40, 2**62, 2**63 - 1, -1, -(2**63)]


class Case(NamedTuple):
    """One call: the gRPC method, and the bytes of the request."""

    method: str
    content: bytes
    story: str

    def __str__(self):
        """Returns the text to paste into a test that reproduces it."""
        shown = repr(self.content) if len(self.content) <= 2000 else f"{self.content[:2000]!r} + ..."
        return f"{self.story}\n{self.method}\n{shown}"


def grpc_case(seed: int, valid: list[predict_pb2.PredictRequest]) -> Case:
    """Returns the case number `seed`, made from some of the valid requests."""
    draw = random.Random(seed)
    method = f"/{PREDICTION}/Predict" if draw.random() < 0.85 else draw.choice(METHODS)
    if draw.random() < 0.1:
        return Case(method, draw.randbytes(draw.choice([0, 1, 10, 100, 10_000])), f"case {seed}: random bytes")
    request = predict_pb2.PredictRequest()
    request.CopyFrom(draw.choice(valid))
    names = []
    for mutate in draw.choices(MUTATIONS, k=draw.choice([1, 1, 1, 2, 3])):
        names.append(mutate.__name__.strip("_"))
        mutate(draw, request)
    content = request.SerializeToString()
    if draw.random() < 0.15:
        names.append("damaged")
        content = damaged(draw, content)
    return Case(method, content, f"case {seed}: {', '.join(names)}\n{abridged(request)}")


def damaged(draw: random.Random, content: bytes) -> bytes:
    """Returns the bytes with one part cut off, doubled, or overwritten."""
    if not content:
        return draw.randbytes(3)
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.choice([1, 1, 4, 50]))
    middle = draw.choice([b"", content[start:end] * 2, draw.randbytes(end - start)])
    return content[:start] + middle + content[end:] if draw.random() < 0.7 else content[:start]


def abridged(message: Message) -> str:
    """Returns the text of a message, one line, not all of it if it is long."""
    text = text_format.MessageToString(message, as_one_line=True) if message.ByteSize() < 4000 else "(long)"
    return text[:1500]


def _tensor(draw, request):
    if not request.inputs:
        request.inputs["x"].dtype = types_pb2.DT_FLOAT
    return request.inputs[draw.choice(sorted(request.inputs))]


def _other_dtype(draw, request):
    _tensor(draw, request).dtype = draw.choice([*types_pb2.DataType.values(), 999, 2**31 - 1, -1])


def _other_shape(draw, request):
    shape = _tensor(draw, request).tensor_shape
    del shape.dim[:]
    for size in draw.choices(SIZES, k=draw.choice([0, 1, 2, 2, 3, 70])):
        shape.dim.add().size = size


def _resized(draw, request):
    shape = _tensor(draw, request).tensor_shape
    if shape.dim:
        draw.choice(shape.dim).size = draw.choice(SIZES)


def _unknown_rank(draw, request):
    _tensor(draw, request).tensor_shape.unknown_rank = True


def _other_batch(draw, request):
    """Sizes that fit each tensor, but not each other."""
    for tensor in request.inputs.values():
        if tensor.tensor_shape.dim:
            tensor.tensor_shape.dim[0].size = draw.choice([0, 1, 2, 3, 50])


def _odd_numbers(draw, request):
    tensor = _tensor(draw, request)
    for field in ("int_val", "int64_val", "float_val", "double_val"):
        values = getattr(tensor, field)
        if values:
            choices = REALS if "float" in field or "double" in field else NUMBERS
            if field == "int_val":
                choices = [number for number in choices if -(2**31) <= number < 2**31]
            values[draw.randrange(len(values))] = draw.choice(choices)


def _odd_text(draw, request):
    values = _tensor(draw, request).string_val
    values.append(draw.choice([draw.choice(TEXTS).encode(), b"\xff\xfe\x00", draw.randbytes(30), b"z" * 100_000]))


def _odd_rules(draw, request):
    """Other conditions, known or not, of a request that has some; else another text."""
    values = request.inputs["where"].string_val if "where" in request.inputs else _tensor(draw, request).string_val
    if values:
        values[draw.randrange(len(values))] = draw.choice(CONDITIONS).encode()


def _more_values(draw, request):
    tensor = _tensor(draw, request)
    tensor.float_val.extend(draw.choices(REALS, k=draw.choice([1, 5, 1000])))


def _content(draw, request):
    _tensor(draw, request).tensor_content = draw.randbytes(draw.choice([1, 3, 4, 8, 17, 400, 100_000]))


def _no_values(draw, request):
    tensor = _tensor(draw, request)
    for field in ("int_val", "int64_val", "float_val", "string_val", "tensor_content"):
        tensor.ClearField(field)


def _handle(draw, request):
    tensor = _tensor(draw, request)
    tensor.dtype = draw.choice([types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT])
    tensor.resource_handle_val.add(name="x", device="/cpu:0", hash_code=draw.getrandbits(63))
    tensor.variant_val.add(type_name="tensorflow::Tensor", metadata=draw.randbytes(9))


def _other_name(draw, request):
    tensor = _tensor(draw, request)
    request.inputs[draw.choice(TEXTS)].CopyFrom(tensor)
    if draw.random() < 0.7:
        del request.inputs[draw.choice(sorted(request.inputs))]


def _missing(draw, request):
    for name in draw.sample(sorted(request.inputs), k=min(len(request.inputs), draw.choice([1, 2, 10]))):
        del request.inputs[name]


def _many_inputs(draw, request):
    for number in range(draw.choice([1, 300])):
        request.inputs[f"input {number}"].dtype = types_pb2.DT_INT32


def _other_model(draw, request):
    request.model_spec.name = draw.choice(TEXTS)


def _other_version(draw, request):
    if draw.random() < 0.5:
        request.model_spec.version.value = draw.choice(NUMBERS)
    else:
        request.model_spec.version_label = draw.choice(TEXTS)


def _no_model(draw, request):
    request.ClearField("model_spec")


def _other_signature(draw, request):
    request.model_spec.signature_name = draw.choice(
        [*TEXTS, "retrieve_controlled", "encode", "search", "describe", "retrieve_filtered", "__saved_model_init_op"]
    )


def _filtered(draw, request):
    names = ["item_ids", "scores", "quotas", "num_results", *TEXTS]
    request.output_filter.extend(draw.choices(names, k=draw.choice([1, 2, 500])))


MUTATIONS: list[Callable] = [
    _other_dtype, _other_shape, _resized, _unknown_rank, _other_batch, _odd_numbers, _odd_text, _odd_rules,
    _more_values, _content, _no_values, _handle, _other_name, _missing, _many_inputs, _other_model, _other_version,
    _no_model, _other_signature, _filtered,
]  # fmt: skip
