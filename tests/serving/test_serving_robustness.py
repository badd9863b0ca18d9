"""A server bears any request: each gets a proper status within its deadline, and the next good one is answered."""

import asyncio
import contextlib
import http.client
import json
import socket

import fuzzing
import fuzzing_rest
import grpc
import numpy as np
import pytest
import tensorflow as tf
from serving_models import predict_request
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving import tensors
from serving.client import AsyncRetrievalClient, RetrievalClient, RetrievalError
from tfdnc.contracts import bundle
from tfdnc.contracts.attributes import Attribute
from tfdnc.load_test.bundle import Size, make_bundle, make_items
from tfdnc.load_test.server import ServerProcess

PREDICT = f"/{fuzzing.PREDICTION}/Predict"
TIMEOUT = 20
"""Seconds; an answer takes milliseconds, so that only a hang takes so long."""

PROPER = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"}
"""Statuses that say whose fault it was. UNKNOWN and INTERNAL do not; after UNAVAILABLE a client would send it again."""

SIZE = Size(items=200, clusters=4, dim=8, history_length=6, max_candidates=20)
"""Size of a real bundle; its graph must withstand all requests that the server accepts."""


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    stock = [(str(item % 3 > 0).lower(),) for item in range(SIZE.items)]
    prices = np.arange(SIZE.items) % 17 / 2
    attributes = [Attribute("stock", "boolean", stock), Attribute("price", "number", numbers=prices)]
    return make_bundle(SIZE, tmp_path_factory.mktemp("robust"), attributes=attributes)


@pytest.fixture(scope="module")
def valid(version):
    """The requests that the bundle warms up with: every signature it has, for one user and for several."""
    records = tf.data.TFRecordDataset(str(version / bundle.WARMUP_ASSET)).as_numpy_iterator()
    requests = [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]
    for request in requests:
        if bundle.WHERE in request.inputs:  # the warm-up has neutral values
            rows = request.inputs[bundle.WHERE].tensor_shape.dim[0].size
            request.inputs[bundle.WHERE].Clear()
            tensors.encode(np.array([["", "stock=true", "price<7"]] * rows, object), request.inputs[bundle.WHERE])
        if bundle.BOUNDS in request.inputs:
            rows = request.inputs[bundle.BOUNDS].tensor_shape.dim[0].size
            request.inputs[bundle.BOUNDS].Clear()
            tensors.encode(
                np.array([["", "stock=true>=2", "stock=*<=9"]] * rows, object), request.inputs[bundle.BOUNDS]
            )
    assert {request.model_spec.signature_name for request in requests} == set(bundle.signatures_of(attributes=True))
    return requests


@pytest.fixture(scope="module")
def server(version):
    with ServerProcess(version) as server:
        yield server


@pytest.fixture(scope="module")
def call(server):
    """Sends bytes to a method; returns the name of the status, its details and the answer."""
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.target, options=options) as channel:

        def call(method, content):
            try:
                return "OK", "", channel.unary_unary(method)(content, timeout=TIMEOUT)
            except grpc.RpcError as error:
                return error.code().name, error.details(), b""

        yield call


@pytest.fixture(scope="module")
def good(call, valid):
    """Asks the valid requests in turn, and compares each answer with the first one."""
    contents = [request.SerializeToString() for request in valid]
    expected = [answer_of(call(PREDICT, content)) for content in contents]

    def check(number):
        got = answer_of(call(PREDICT, contents[number % len(contents)]))
        for name, value in expected[number % len(contents)].items():
            np.testing.assert_array_equal(got[name], value)

    return check


def answer_of(called):
    status, details, content = called
    assert status == "OK", details
    response = predict_pb2.PredictResponse.FromString(content)
    return {name: tensors.decode(tensor) for name, tensor in response.outputs.items()}


@pytest.fixture(scope="module")
def bear(call, valid, good):
    """Sends the cases of some seeds, and a good request after each."""

    def send(seed):
        case = fuzzing.grpc_case(seed, valid)
        status, details, _ = call(case.method, case.content)
        return status, details, case

    return lambda seeds: _bear(
        seeds, send, good, PROPER, {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}
    )


def _bear(seeds, send, good, proper, expected):
    statuses = set()
    for seed in seeds:
        status, answer, case = send(seed)
        assert status in proper, f"{status}: {answer[:500]}\n{case}"
        statuses.add(status)
        good(seed)
    assert expected <= statuses  # so the cases differ


def test_mutated_requests(bear):
    bear(range(400))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_mutated_requests(bear):
    bear(range(1_000, 11_000))


def test_requests_longer_than_the_limit(call, good):
    request = predict_request({bundle.HISTORY: np.array([["x" * (65 << 20)]], object)}, model=bundle.MODEL_NAME)
    assert call(PREDICT, request.SerializeToString())[0] == "RESOURCE_EXHAUSTED"
    good(0)


def test_a_history_of_a_million_items(call, good):
    request = predict_request({bundle.HISTORY: np.full([1, 1_000_000], "7", object)}, model=bundle.MODEL_NAME)
    assert call(PREDICT, request.SerializeToString())[0] in PROPER
    good(1)


def test_methods_that_do_not_exist(call, good):
    for method in ("/x/y", "/", f"/{fuzzing.PREDICTION}/", f"{PREDICT}X", f"/{fuzzing.PREDICTION}/SessionRun"):
        assert call(method, b"\x0a\x00")[0] == "UNIMPLEMENTED", method
    good(2)


def test_what_is_no_grpc_at_all(server, good):
    host, port = server.target.split(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for number in range(20):
        with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection, contextlib.suppress(OSError):
            noise = np.random.default_rng(number).bytes(500)
            connection.sendall([noise, preface + noise, b"GET / HTTP/1.1\r\n\r\n", preface][number % 4])
        good(number)


def test_both_clients_and_rest_bound_the_results_with_a_value(server, valid):
    bounds = {"minimum": {"stock": {"false": 0.5}}, "maximum": {"stock": {"true": 3}}}
    with RetrievalClient(server.target) as client:
        [answer] = client.retrieve([["7"]], 10, **bounds)
        with pytest.raises(RetrievalError, match="stock=true>=5 and stock=false>=6, where the minima") as refused:
            client.retrieve([["7"]], 10, minimum={"stock": {"false": 6, "true": 5}})
        assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
        named = client.retrieve(
            [["7"]], 10, **bounds | {"minimum": {client.cluster_names()[0]: 2, **bounds["minimum"]}}
        )
    ids = make_items(SIZE).item_ids
    for found in (answer, named[0]):
        assert len(found.item_ids) == 10
        assert sum(ids.index(item) % 3 > 0 for item in found.item_ids) <= 3  # in stock, see `version`
    assert named[0].quotas[0] >= 2

    async def ask():
        async with AsyncRetrievalClient(server.target) as client:
            return await client.retrieve([["7"]], 10, **bounds)

    assert asyncio.run(ask())[0].item_ids == answer.item_ids
    sent = next(one for one in valid if one.model_spec.signature_name == "retrieve_bounded")
    columns = {name: tensors.decode(proto) for name, proto in sent.inputs.items()}
    instance = {name: (a.astype(str) if a.dtype == object else a).tolist()[0] for name, a in columns.items()}
    instance |= {"history": ["7"], "num_candidates": 10, "where": [""], "bounds": ["stock=false>=5", "stock=true<=3"]}
    document = {"signature_name": "retrieve_bounded", "instances": [instance]}
    case = fuzzing_rest.Case("POST", fuzzing_rest.PATHS[0], {}, json.dumps(document).encode(), "good")
    status, body = over_http(server, case.raw())
    assert status == 200
    assert json.loads(body)["predictions"][0]["item_ids"][:10] == answer.item_ids


@pytest.fixture(scope="module")
def documents(valid):
    """The valid requests as JSON, in columns and in rows."""
    documents = []
    for request in valid:
        columns = {name: tensors.decode(proto) for name, proto in request.inputs.items()}
        columns = {name: (a.astype(str) if a.dtype == object else a).tolist() for name, a in columns.items()}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        signature = {"signature_name": request.model_spec.signature_name}
        documents += [{"inputs": columns, **signature}, {"instances": rows, **signature}]
    return documents


PROPER_HTTP = {200, 400, 404, 405, 411, 413, 414, 415, 429, 431, 501, 505}
"""A request that is wrong is the client's; 500 would be the server's, and 503 would make a client send it again."""


def over_http(server, raw):
    """Sends bytes and returns the status and the body of the answer."""
    host, port = server.rest_target.split(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        with contextlib.suppress(OSError):  # it may answer and close before it has read all
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


@pytest.fixture(scope="module")
def good_body(server, documents):
    """Posts valid bodies in turn, and compares each answer with the first one."""

    def ask(document):
        case = fuzzing_rest.Case("POST", fuzzing_rest.PATHS[0], {}, json.dumps(document).encode(), "good")
        status, content = over_http(server, case.raw())
        assert status == 200, content
        return json.loads(content)

    expected = [ask(document) for document in documents]

    def check(number):
        assert ask(documents[number % len(documents)]) == expected[number % len(documents)]

    return check


@pytest.fixture(scope="module")
def bear_bodies(server, documents, good_body):
    """Sends the cases of some seeds, and a good body after each."""

    def send(seed):
        case = fuzzing_rest.rest_case(seed, documents)
        return *over_http(server, case.raw()), case

    return lambda seeds: _bear(seeds, send, good_body, PROPER_HTTP, {200, 400, 404})


def test_mutated_bodies(bear_bodies):
    bear_bodies(range(100))


@pytest.mark.slow
def test_a_thousand_mutated_bodies(bear_bodies):
    bear_bodies(range(1_000, 2_000))


def test_a_body_that_ends_early_keeps_no_other_request_waiting(server, good_body):
    host, port = server.rest_target.split(":")
    whole = fuzzing_rest.Case("POST", fuzzing_rest.PATHS[0], {"Content-Length": "100000"}, b'{"inputs', "").raw()
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as half_open:
        half_open.sendall(whole)
        good_body(0)
