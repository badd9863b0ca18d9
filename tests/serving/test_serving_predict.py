"""Predict, GetModelMetadata and GetModelStatus over real gRPC: answers as in process, errors as TF Serving's."""

import json
import shutil
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
import serving_models
import tensorflow as tf
from serving_models import predict_request
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving import server as embedded
from serving import tensors
from serving.predict import predict
from serving.rest import responses
from serving.servable import Servable
from serving.services import PredictionService
from serving.status import ServingError, truncated

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
ONES = np.ones([2, 1], np.float32)
TIMEOUT = 30


def outputs(response):
    return {name: tensors.decode(tensor) for name, tensor in response.outputs.items()}


@pytest.fixture
def still_answers(stubs):
    """After the test, whatever it sent, the server must answer a good request."""
    yield
    assert outputs(stubs.Predict(predict_request({"x": ONES})))["y"].tolist() == [[20.5], [20.5]]


@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        ("", {"x": np.float32([[1], [2], [np.nan], [-np.inf]])}),
        ("serving_default", {"x": np.zeros([0, 1], np.float32)}),
        ("shout", {"words": np.array([["a", "bc"], ["", "é"]], object)}),
        ("positive_only", {"n": np.int64([1, 2**62])}),
    ],
)
def test_answers_equal_the_model_in_process(stubs, half_plus_two, signature, inputs):
    response = stubs.Predict(predict_request(inputs, signature))
    model = tf.saved_model.load(str(half_plus_two / "2"))
    expected = model.signatures[signature or "serving_default"](**{k: tf.constant(v) for k, v in inputs.items()})
    got = outputs(response)
    assert set(got) == set(expected)
    for name, value in expected.items():
        assert got[name].dtype == value.numpy().dtype
        np.testing.assert_array_equal(got[name], value.numpy())
    assert response.model_spec.name == "half"
    assert response.model_spec.version.value == 2
    assert response.model_spec.signature_name == (signature or "serving_default")


def test_typed_fields_are_used(stubs):
    response = stubs.Predict(predict_request({"x": ONES}))
    assert list(response.outputs["y"].float_val) == [20.5, 20.5]
    assert not response.outputs["y"].tensor_content


def test_a_feed_of_another_rank_is_left_to_the_graph(stubs):
    """TF Serving takes [3] where the signature says [?, 1]; so do we."""
    got = outputs(stubs.Predict(predict_request({"x": np.float32([1, 2, 3])})))
    np.testing.assert_array_equal(got["y"], [20.5, 21, 21.5])


def test_output_filter(stubs):
    response = stubs.Predict(predict_request({"x": ONES}, output_filter=["text"]))
    assert set(response.outputs) == {"text"}


@pytest.mark.parametrize("version", [1, 2])
def test_version_choice(stubs, version):
    request = predict_request({"x": ONES})
    request.model_spec.version.value = version
    response = stubs.Predict(request)
    assert response.model_spec.version.value == version
    assert outputs(response)["y"][0, 0] == {1: 2.5, 2: 20.5}[version]


def spec(**fields):
    request = predict_request({"x": ONES})
    request.model_spec.Clear()
    request.model_spec.MergeFrom(predict_pb2.PredictRequest(model_spec=fields).model_spec)
    return request


@pytest.mark.parametrize(
    ("request_", "code", "sentence"),
    [
        (predict_pb2.PredictRequest(), INVALID, "Missing ModelSpec"),
        (spec(signature_name="x"), INVALID, "ModelSpec has no name specified."),
        (spec(name="other"), NOT_FOUND, "Servable not found for request: Latest(other)"),
        (spec(name="half", version={"value": 9}), NOT_FOUND, "Servable not found for request: Specific(half, 9)"),
        (spec(name="half", version_label="canary"), INVALID, "Unrecognized servable version label: canary"),
        (
            predict_request({"x": ONES}, signature="nope"),
            grpc.StatusCode.FAILED_PRECONDITION,
            'Serving signature key "nope" not found.',
        ),
        (
            predict_request({}, signature="__saved_model_init_op"),
            grpc.StatusCode.FAILED_PRECONDITION,
            'Serving signature key "__saved_model_init_op" not found.',
        ),
        (
            predict_request({}),
            INVALID,
            "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
        ),
        (predict_request({"z": ONES}), INVALID, "Sent extra: {z}. Missing but required: {x}."),
        (predict_request({"x": ONES, "z": ONES}), INVALID, "input size does not match signature: 2!=1"),
        (
            predict_request({"x": ONES.astype(np.float64)}),
            INVALID,
            'Expects input "x" (arg[0]) to be float but double is provided',
        ),
        (predict_request({"x": np.array([["a"]])}), INVALID, "to be float but string is provided"),
        (predict_request({"x": tensor_pb2.TensorProto()}), INVALID, "to be float but invalid is provided"),
        (
            predict_request({"x": tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=b"garbage")}),
            INVALID,
            "tensor parsing error: x: tensor_content holds 7 bytes, the shape asks for 4",
        ),
        (
            predict_request(
                {
                    "x": tensor_pb2.TensorProto(
                        dtype=types_pb2.DT_FLOAT, float_val=[1], tensor_shape={"dim": [{"size": 1 << 40}]}
                    )
                }
            ),
            INVALID,
            "more than the 1048576 bytes",
        ),
        (predict_request({"n": np.int64([0])}, "positive_only"), INVALID, "n must be positive"),
        (
            predict_request({"words": np.array(["a", "b"])}, "shout"),
            INVALID,
            'input "words" should have shape [?, ?], came [2]: ',
        ),
        (
            predict_request({"x": ONES}, output_filter=["nope"]),
            INVALID,
            "output tensor alias not found in signature: nope Outputs expected to be in the set {text,y}.",
        ),
        (predict_request({"x": ONES}, output_filter=["y", "y"]), INVALID, "duplicate output tensor alias: y"),
    ],
)
@pytest.mark.usefixtures("still_answers")
def test_bad_requests(stubs, request_, code, sentence):
    got_code, message = stubs.refused("Predict", request_)
    assert got_code is code
    assert sentence in message


@pytest.mark.usefixtures("still_answers")
def test_message_above_the_limit(stubs):
    code, _ = stubs.refused("Predict", predict_request({"x": np.zeros([1 << 19, 1], np.float32)}))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.usefixtures("still_answers")
def test_bytes_that_are_no_message(stubs):
    send = stubs.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as caught:
        send(b"\xff" * 100, timeout=30)
    assert caught.value.code() is INVALID


def test_errors_of_the_graph_keep_their_code_and_are_cut(tmp_path):
    serving_models.save_reader(tmp_path / "1")
    request = predict_request({"path": np.array("/nowhere/" + "/".join(["x" * 100] * 30))}, model="reader")
    with embedded.running(tmp_path, model_name="reader") as server, grpc.insecure_channel(server.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request, timeout=30)
    assert caught.value.code() is NOT_FOUND
    assert caught.value.details().endswith("...TRUNCATED")


def test_an_error_that_quotes_bytes_which_are_no_text(stubs):
    code, message = stubs.refused("Predict", predict_request({"text": np.array([b"\xff"], object)}, "number"))
    assert code is INVALID
    assert "StringToNumberOp could not correctly convert string: \ufffd" in message


def test_long_messages_are_cut_by_bytes():
    """gRPC writes every byte of such a character as three, and a client takes 8 KB."""
    cut = truncated("\u754c" * 1000)
    assert len(cut.encode()) == 1023 + len("...TRUNCATED")
    assert truncated("\u754c" * 300) == "\u754c" * 300


def test_metadata_shows_what_an_input_is_when_it_is_left_out(half_plus_two, tmp_path):
    """TF Serving sends the whole signature; `defaults` were cut out of it."""
    version = shutil.copytree(half_plus_two / "1", tmp_path / "half" / "1")
    saved = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    signature = saved.meta_graphs[0].signature_def["serving_default"]
    signature.defaults["x"].CopyFrom(tensors.encode(np.float32([[3]])))
    (version / "saved_model.pb").write_bytes(saved.SerializeToString())
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "half"
    with embedded.running(version.parent, model_name="half") as server:
        response = PredictionService(server.manager).metadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"] == signature
    shown = json.loads(responses.model_metadata(response))["metadata"]["signature_def"]["signature_def"]
    assert shown["serving_default"]["defaults"]["x"]["float_val"] == [3.0]
    assert shown["shout"]["defaults"] == {}


def test_metadata_round_trip(stubs, half_server):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "half"
    response = stubs.GetModelMetadata(request)
    assert (response.model_spec.name, response.model_spec.version.value) == ("half", 2)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    with half_server.manager.lease(request.model_spec) as servable:
        assert dict(signatures.signature_def) == servable.signatures
    assert {"serving_default", "shout", "positive_only"} <= set(signatures.signature_def)


@pytest.mark.parametrize(
    ("name", "fields", "code", "sentence"),
    [
        ("half", [], INVALID, "GetModelMetadataRequest must specify at least one metadata_field"),
        ("half", ["graph"], INVALID, "Metadata field graph is not supported"),
        ("other", ["signature_def"], NOT_FOUND, "Servable not found for request: Latest(other)"),
        (None, ["signature_def"], INVALID, "Missing ModelSpec"),
    ],
)
def test_bad_metadata_requests(stubs, name, fields, code, sentence):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    if name:
        request.model_spec.name = name
    assert stubs.refused("GetModelMetadata", request) == (code, sentence)


def test_status(stubs):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half"
    status = stubs.GetModelStatus(request).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert [(s.version, s.state, s.status.error_code) for s in status] == [(2, available, 0), (1, available, 0)]
    request.model_spec.version.value = 1
    assert [s.version for s in stubs.GetModelStatus(request).model_version_status] == [1]
    request.model_spec.version.value = 5
    assert stubs.refused("GetModelStatus", request) == (NOT_FOUND, "Could not find version 5 of model half")
    request.model_spec.Clear()
    request.model_spec.name = "other"
    assert stubs.refused("GetModelStatus", request) == (NOT_FOUND, "Could not find any versions of model other")


def test_the_deadline_of_a_call_goes_with_it(stubs, monkeypatch):
    deadlines, run = [], Servable.run
    monkeypatch.setattr(Servable, "run", lambda *args: deadlines.append(args[4]) or run(*args))
    before = time.monotonic()
    stubs.Predict(predict_request({"x": ONES}))
    prediction_service_pb2_grpc.PredictionServiceStub(stubs.channel).Predict(predict_request({"x": ONES}))
    assert before < deadlines[0] < before + 2 * TIMEOUT
    assert deadlines[1] is None


def test_a_cancelled_call_is_not_run(stubs, monkeypatch):
    arrived, outcome, run = threading.Event(), futures.Future(), Servable.run

    def run_once_the_client_has_left(servable, key, feeds, outputs, deadline, abandoned):
        arrived.set()
        while not abandoned():
            assert time.monotonic() < deadline
        try:
            outcome.set_result(run(servable, key, feeds, outputs, deadline, abandoned))
        except ServingError as error:
            outcome.set_result(error.code)
            raise

    monkeypatch.setattr(Servable, "run", run_once_the_client_has_left)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(stubs.channel)
    call = stub.Predict.future(predict_request({"x": ONES}), timeout=TIMEOUT)
    assert arrived.wait(TIMEOUT)
    call.cancel()
    assert outcome.result(TIMEOUT) is grpc.StatusCode.CANCELLED


def test_no_run_begins_after_the_deadline(half_plus_two):
    servable = Servable.load("half", 2, half_plus_two / "2")
    with pytest.raises(ServingError) as caught:
        predict(servable, predict_request({"x": ONES}), deadline=time.monotonic())
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    servable.close()


def test_eight_threads_get_their_own_answers(stubs):
    def ask(thread):
        for step in range(40):
            number = thread * 1000 + step
            wanted = ["y"] if step % 2 else []
            request = predict_request({"x": np.float32([[number]])}, output_filter=wanted)
            request.model_spec.version.value = 1 + step % 2
            assert outputs(stubs.Predict(request))["y"].item() == number / 2 + (20 if step % 2 else 2)

    with futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))
