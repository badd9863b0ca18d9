"""A gRPC server that answers by script, for what a real one does too rarely to be tested with."""

import contextlib
import threading
from concurrent import futures

import grpc
import numpy as np
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

import serving  # noqa: F401 - before TensorFlow: it switches Keras 2 on for the whole process
from serving import tensors
from tfdnc.contracts import bundle

WAIT = 20
"""Seconds after which a handler that waits for the test gives up."""


class Script(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """Answers the n-th request by the n-th line, and all after the last line by that.

    A line is a response, a status code, or a function of (request, context) that returns one of these.

    Attributes:
        requests: What came.
        headers: The metadata of each request.
        seconds: What each request had left of its deadline.
    """

    def __init__(self, *lines):
        self._lines = lines
        self.requests, self.headers, self.seconds = [], [], []

    def _answer(self, request, context):
        self.requests.append(request)
        self.headers.append(dict(context.invocation_metadata()))
        self.seconds.append(context.time_remaining())
        line = self._lines[min(len(self.requests), len(self._lines)) - 1]
        if callable(line):
            line = line(request, context)
        if isinstance(line, grpc.StatusCode):
            context.abort(line, "as scripted")
        return line

    Predict = GetModelMetadata = GetModelStatus = _answer


@contextlib.contextmanager
def served(script, address="127.0.0.1:0", credentials=None):
    """Serves `script` while the block runs; yields the target for clients."""
    options = [("grpc.max_receive_message_length", -1)]
    with futures.ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, options=options)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(script, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(script, server)
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        server.start()
        try:
            yield address if address.startswith("unix:") else f"localhost:{port}"
        finally:
            server.stop(None).wait()


def until_cancelled(cancelled, arrived=None):
    """Returns a line that holds its request until the client gives it up; the events say how far it is."""

    def line(request, context):
        done = threading.Event()
        if arrived is not None:
            arrived.set()
        if context.add_callback(done.set) and done.wait(WAIT):
            cancelled.set()
        return grpc.StatusCode.CANCELLED

    return line


def histories_of(request):
    """Returns the history tensor of a request as lists of text, without the "" that begins every row."""
    rows = [[item.decode() for item in row] for row in tensors.decode(request.inputs[bundle.HISTORY])]
    assert all(row[0] == "" for row in rows)
    return [row[1:] for row in rows]


def echo(request, context=None):
    """Returns for each history its first item, and the history's length as intent of the only cluster."""
    histories = histories_of(request)
    rows = len(histories)
    response = predict_pb2.PredictResponse()
    outputs = {
        bundle.ITEM_IDS: np.array([row[:1] or [""] for row in histories], object),
        bundle.SCORES: np.zeros([rows, 1], np.float32),
        bundle.CLUSTER_IDS: np.zeros([rows, 1], np.int32),
        bundle.NUM_RESULTS: np.ones(rows, np.int32),
        bundle.QUOTAS: np.ones([rows, 1], np.int32),
        bundle.INTENT: np.float32([[sum(item != "" for item in row)] for row in histories]),
        bundle.USER_EMBEDDINGS: np.zeros([rows, 1, 2], np.float32),
    }
    for name, array in outputs.items():
        tensors.encode(array, response.outputs[name])
    return response


def states(*versions):
    """Returns the GetModelStatus response for pairs of version and state, such as `(7, "LOADING")`."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, state in versions:
        response.model_version_status.add(version=version, state=state)
    return response


def described(version, names):
    """Returns the answer of a version to the question what its clusters are called."""
    response = predict_pb2.PredictResponse()
    response.model_spec.version.value = version
    tensors.encode(np.array([names], object), response.outputs[bundle.CLUSTER_NAMES])
    return response
