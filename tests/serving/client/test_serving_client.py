"""The client: requests and results by the contract of `tfdnc.contracts.bundle`, and errors with advice."""

import inspect
from concurrent import futures

import grpc
import numpy as np
import pytest
import serving_models  # noqa: F401 - Keras 2 before TensorFlow
from tensorflow_serving.apis import predict_pb2

from serving import arguments, messages, tensors
from serving.bundles.in_process import Bundle
from serving.client import AsyncRetrievalClient, RetrievalClient, RetrievalError, Tensor, VersionStatus
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.errors import UserError


@pytest.fixture
def client(bundle_server):
    with RetrievalClient(bundle_server.address, timeout=20) as client:
        yield client


def test_defaults_of_the_bundle(client):
    first, second = client.retrieve([["a", "b"], []])
    assert first.item_ids == ["i0", "i1", "i2"]
    np.testing.assert_array_equal(first.scores, np.float32([-1, -2, -3]))
    np.testing.assert_array_equal(first.cluster_ids, [0, 1, 0])
    np.testing.assert_array_equal(first.quotas, [2, 1])
    np.testing.assert_array_equal(first.intent, [2, 0])
    np.testing.assert_array_equal(second.intent, [0, 0])
    assert (first.scores.dtype, first.cluster_ids.dtype, first.quotas.dtype) == (np.float32, np.int32, np.int32)


def test_one_number_for_all_or_one_each(client):
    results = client.retrieve([["a"], ["b", "c"]], num_candidates=[1, 9], alpha=[0, 2.5])
    assert [r.item_ids for r in results] == [["i0"], ["i0", "i1", "i2", "i3"]]
    assert [r.scores[0] for r in results] == [0, 2.5]
    results = client.retrieve([["a"], ["b", "c"]], num_candidates=2, joint_alpha=[0, 2.5])
    assert [r.scores[0] for r in results] == [0, 25]  # the fake bundle's joint merge is ten times as much
    results = client.retrieve([["a"], ["b", "c"]], num_candidates=2)
    assert [r.scores[0] for r in results] == [contract.BUNDLE_MERGE] * 2


def test_no_users_need_no_request():
    assert RetrievalClient("127.0.0.1:1").retrieve([]) == []


def test_encode(client):
    encoding = client.encode([["a", "b"], ["c"]])
    assert encoding.user_embeddings.shape == (2, 2, 3)
    np.testing.assert_array_equal(encoding.intent, [[2, 2], [1, 1]])


def test_metadata_and_status(client):
    signatures = client.metadata()
    for name in ("serving_default", "retrieve", "encode"):
        declared = contract.SIGNATURES[name]
        assert set(signatures[name].inputs) == set(declared.input_names)
        assert set(signatures[name].outputs) == set(declared.output_names)
    assert signatures["retrieve"].inputs[contract.HISTORY] == Tensor("string", (None, None))
    assert client.status() == [VersionStatus(7, "AVAILABLE", "")]


def test_version_is_asked_for(bundle_server):
    with RetrievalClient(bundle_server.address, version=7) as client:
        assert client.retrieve([["a"]])
    with RetrievalClient(bundle_server.address, version=8) as client, pytest.raises(RetrievalError) as caught:
        client.retrieve([["a"]])
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    assert caught.value.said == "Servable not found for request: Specific(tfdnc, 8)"
    assert "Expected model 'tfdnc' in version 8 at 127.0.0.1:" in caught.value.message


def test_a_model_that_the_server_does_not_have_is_named_with_advice(bundle_server):
    """Only the server's own words came before, "Servable not found for request: Latest(tfdcn)"."""
    with RetrievalClient(bundle_server.address, "tfdcn") as client:
        for ask in (client.status, client.metadata, lambda: client.retrieve([["a"]])):
            with pytest.raises(
                RetrievalError, match=r"Expected model 'tfdcn'.* at 127.*--model_name .*'tfdnc'"
            ) as caught:
                ask()
            assert caught.value.said in caught.value.message
        with pytest.raises(RetrievalError, match=r"model tfdcn .* but the answer was .*any versions of model tfdcn'\."):
            client.wait_until_available(0.3)
        with pytest.raises(RetrievalError, match=r"label: stable\. Give a label .* for model 'tfdcn', or leave"):
            RetrievalClient(bundle_server.address, "tfdcn", label="stable").retrieve([["a"]])


def test_a_model_of_another_kind_is_named(half_server):
    with RetrievalClient(half_server.address, "half") as client:
        for ask in (lambda: client.retrieve([["a"]], 3), lambda: client.encode([["a"]]), client.cluster_names):
            with pytest.raises(RetrievalError, match=r"FAILED_PRECONDITION: .*Model 'half' is no tfdnc bundle, or one"):
                ask()


def test_times_that_a_model_does_not_read_are_named(client):
    with pytest.raises(RetrievalError, match="This model reads no times: leave out `times` and `request_time`"):
        client.retrieve([["a"]], times=[[1]], request_time=2)


@pytest.mark.parametrize(
    ("histories", "options", "sentence"),
    [
        ([["a"]], {"alpha": 1.0}, "num_candidates together with alpha"),
        (["abc"], {}, "sequence of item ids as text"),
        ([[1, 2]], {}, "sequence of item ids as text"),
        ([["a"]], {"num_candidates": [1, 2]}, r"one num_candidates or 1, one per history, got shape \[2\]"),
        ([["a"]], {"num_candidates": 0}, "from 1 up"),
        ([["a"]], {"num_candidates": 2**31}, "num_candidates in numbers of int32"),
        ([["a"]], {"num_candidates": 1.5}, "num_candidates in numbers of int32"),
        ([["a"]], {"num_candidates": 1, "alpha": "x"}, "alpha in numbers of float32"),
        ([["a"]], {"num_candidates": 1, "alpha": float("nan")}, "alpha in numbers"),
    ],
)
def test_arguments_that_make_no_request(client, histories, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        client.retrieve(histories, **options)
    with pytest.raises(ValueError, match="at least one history"):
        client.encode([])


def test_refusal_of_the_graph_carries_its_sentence(client, monkeypatch):
    monkeypatch.setattr(arguments, "per_row", lambda value, rows, dtype, *_, **__: np.full(rows, value, dtype))
    with pytest.raises(RetrievalError, match=r"INVALID_ARGUMENT: .*num_candidates must be at least 1"):
        client.retrieve([["a"]], num_candidates=0)


def test_no_server_there():
    with RetrievalClient("127.0.0.1:1", timeout=5) as client, pytest.raises(UserError) as caught:
        client.retrieve([["a"]])
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert "Expected a server at 127.0.0.1:1" in caught.value.message
    assert "tfdnc serve" in caught.value.message


def test_no_answer_in_time():
    """A peer that accepts and stays silent."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        with RetrievalClient(target, timeout=0.3) as client, pytest.raises(RetrievalError) as caught:
            client.status()
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "within 0.3 s" in caught.value.message


def test_model_of_another_kind():
    response = predict_pb2.PredictResponse()
    tensors.encode(np.float32([1]), response.outputs["y"])
    with pytest.raises(messages.ForeignModelError, match=r"found \['y'\] without"):
        messages.read_retrievals(response)


def test_shared_by_threads(client):
    def ask(number):
        rows = client.retrieve([["x"] * number] * 3, num_candidates=number % 4 + 1)
        assert [len(row.item_ids) for row in rows] == [number % 4 + 1] * 3
        assert [row.intent[0] for row in rows] == [number] * 3

    with futures.ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(1, 17)))


@pytest.mark.parametrize("method", ["__init__", "retrieve", "encode", "cluster_names", "status", "metadata"])
def test_both_clients_show_the_same_typed_arguments(method):
    blocking, asynchronous = (
        inspect.signature(getattr(client, method)) for client in (RetrievalClient, AsyncRetrievalClient)
    )
    assert blocking == asynchronous
    for parameter in list(blocking.parameters.values())[1:]:
        assert parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        assert parameter.annotation is not parameter.empty


@pytest.mark.parametrize("method", ["retrieve", "encode"])
def test_a_bundle_in_process_has_the_arguments_of_a_client(method):
    """Declared inputs of events could not be sent to one."""
    own, client = (dict(inspect.signature(getattr(one, method)).parameters) for one in (Bundle, RetrievalClient))
    del client["timeout"]  # nothing is waited for
    assert list(own.values()) == list(client.values())


def test_every_input_of_a_list_is_an_argument_of_the_clients():
    shown = set(inspect.signature(RetrievalClient.retrieve).parameters)
    lists = [
        row for name in ("retrieve_joint", "retrieve_controlled") for row in contract.inputs_of(name, contract.TIMES)
    ]
    assert {row.says for row in lists} - {contract.HISTORY} <= shown
    with pytest.raises(TypeError, match="unexpected keyword argument 'joint_alfa'"):
        RetrievalClient().retrieve([["a"]], 5, joint_alfa=1)
