"""The interfaces of a bundle under load: this process, gRPC without and with batching, and REST."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from tensorflow_serving.apis import predict_pb2

from serving import tensors
from serving.predict import bind_inputs, choose_outputs
from serving.servable import Servable
from tfdnc.contracts import bundle
from tfdnc.load_test.load import Load, Processes, Threads
from tfdnc.load_test.server import ServerProcess
from tfdnc.load_test.subjects import Subject

_BATCHING_PARAMETERS = """
max_batch_size { value: 8 }
batch_timeout_micros { value: 500 }
num_batch_threads { value: 2 }
"""


@contextlib.contextmanager
def in_process(subject: Subject) -> Iterator[Load]:
    """Yields the load of a servable that runs decoded inputs: a request without everything around the graph."""
    servable = Servable.load(bundle.MODEL_NAME, 1, subject.version)

    def ask(request: tuple[str, Mapping[str, np.ndarray]]) -> str:
        key, feeds = request
        servable.run(key, feeds, choose_outputs(servable.signature(key), []))
        return ""

    with contextlib.closing(servable):
        asked = []
        for request in subject.requests:
            key = request.model_spec.signature_name
            asked.append((key, bind_inputs(servable.signature(key), request.inputs)))
            ask(asked[-1])
        yield Threads(ask, asked)


def over_grpc(target: str, requests: Sequence[predict_pb2.PredictRequest], model_name: str, clients: int) -> Processes:
    """Returns clients of the gRPC server at `target`, which has the bundle under `model_name`."""
    for request in requests:
        request.model_spec.name = model_name
    return Processes(target, [request.SerializeToString() for request in requests], clients)


def over_rest(server: ServerProcess, requests: Sequence[predict_pb2.PredictRequest], clients: int) -> Processes:
    """Returns clients of the REST API of a server."""
    path = f"/v1/models/{bundle.MODEL_NAME}:predict"
    return Processes(server.rest_target, [_as_json(request) for request in requests], clients, path)


@contextlib.contextmanager
def batching_server(subject: Subject) -> Iterator[ServerProcess]:
    """Yields a server of the subject that batches requests."""
    with tempfile.NamedTemporaryFile("w", suffix=".config") as parameters:
        parameters.write(_BATCHING_PARAMETERS)
        parameters.flush()
        flags = ["--enable_batching", "--batching_parameters_file", parameters.name]
        with ServerProcess(subject.version, flags) as server:
            yield server


def _as_json(request: predict_pb2.PredictRequest) -> bytes:
    """Returns the body of the same request to the REST API, in the columnar format."""
    inputs = {name: tensors.decode(proto) for name, proto in request.inputs.items()}
    columns = {
        name: array.astype(str).tolist() if array.dtype == object else array.tolist() for name, array in inputs.items()
    }
    return json.dumps({"signature_name": request.model_spec.signature_name, "inputs": columns}).encode()
