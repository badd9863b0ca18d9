"""Declared inputs: the client asks the server for their types, once, and again after a refusal."""

import grpc
import pytest
from scripted_server import Script, echo, served
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2

from serving import tensors
from serving.client import RetrievalClient, RetrievalError


def metadata(**inputs):
    """The signatures of a model with these inputs beside the history."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    signatures = get_model_metadata_pb2.SignatureDefMap()
    encode = signatures.signature_def["encode"]
    for name, dtype in {"history": "STRING", **inputs}.items():
        encode.inputs[name].dtype = types_pb2.DataType.Value(f"DT_{dtype}")
    response.metadata["signature_def"].Pack(signatures)
    return response


def sent(script):
    return [request for request in script.requests if hasattr(request, "inputs")]


def test_values_have_the_types_of_the_model(ask):
    script = Script(metadata(history_dwell="FLOAT", request_device="STRING", request_hour="INT32"), echo)
    with served(script) as target:
        ask(target, "retrieve", [["a"]], features={"dwell": [[2]], "request_device": "web"})
    [request] = sent(script)
    found = {name: tensors.decode(proto).tolist() for name, proto in request.inputs.items()}
    assert found["history_dwell"][0][1] == 2
    assert found["request_device"] == [b"web"]
    assert found["request_hour"] == [-1]


def test_a_name_that_the_model_does_not_read_is_not_sent(ask):
    script = Script(metadata(user_age="FLOAT"), echo)
    with served(script) as target, pytest.raises(ValueError, match="got 'age'; it reads user_age"):
        ask(target, "retrieve", [["a"]], features={"age": 3})
    assert not sent(script)


def test_types_are_asked_for_once_and_again_after_a_refusal():
    first, second = metadata(user_age="FLOAT"), metadata(user_age="STRING")
    script = Script(first, echo, echo, grpc.StatusCode.INVALID_ARGUMENT, second, echo)
    with served(script) as target, RetrievalClient(target) as client:
        for _ in range(2):
            client.retrieve([["a"]], features={"user_age": 3})
        with pytest.raises(RetrievalError):
            client.retrieve([["a"]], features={"user_age": 3})
        client.retrieve([["a"]], features={"user_age": "old"})
    assert len(script.requests) == 6
    assert tensors.decode(sent(script)[-1].inputs["user_age"]).tolist() == [b"old"]
