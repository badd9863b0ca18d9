"""Asks the recorded requests of a bundle again: in a fresh process, or of a server that runs.

`python -m serving.bundles.replay VERSION_FOLDER FILE` is the fresh process: it loads the version as the embedded server
does and writes its answers to FILE.
"""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_service_pb2_grpc

from serving.bundles import bundle
from serving.bundles.recorded import read_recorded
from serving.client import connection
from serving.predict import predict
from serving.servable import Servable
from serving.status import status_of
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.errors import UserError

PROCESS_SECONDS = 900.0
"""After which a fresh process that loads and answers counts as hanging."""

REQUEST_SECONDS = 60.0


def ask_fresh_process(path: Path) -> list[predict_pb2.PredictResponse]:
    """Returns the answers of the version at `path`, loaded by a process that did not write it.

    A process of its own, because what is wrong with a saved graph may not show where it was made (searchers that
    share a name, ops that happen to be registered), and because a broken native op takes its process down.

    Raises:
        UserError: The version cannot be loaded, refuses a recorded request, hangs, or crashes the process.
    """
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers"
        command = [sys.executable, "-m", __name__, str(path), str(answers)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PROCESS_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise UserError(
                f"Expected {path} to answer within {PROCESS_SECONDS:g} s, it did not. Do not serve it; export again."
            ) from error
        if done.returncode:
            raise UserError(_last_words(path, done))
        records = tf.data.TFRecordDataset(str(answers)).as_numpy_iterator()
        return [predict_pb2.PredictResponse.FromString(record) for record in records]


def _last_words(path: Path, done: subprocess.CompletedProcess) -> str:
    if done.returncode == 2:
        return done.stderr.strip().splitlines()[-1]
    how = f"status {done.returncode}"
    if done.returncode < 0:
        how = f"signal {signal.Signals(-done.returncode).name}"
    return (
        f"Expected {path} to be loaded and to answer, the process that tried ended with {how}. "
        f"Do not serve it; export again. It said last: {done.stderr.strip()[-500:]}"
    )


def ask_server(
    requests: Iterable[predict_pb2.PredictRequest],
    target: str,
    model: model_pb2.ModelSpec,
    tls: connection.Tls | None = None,
) -> list[predict_pb2.PredictResponse]:
    """Returns the answers of a server, the embedded one or a tensorflow_model_server.

    Args:
        requests: As recorded; their `model_spec` says only which signature to ask.
        target: `host:port`.
        model: The name under which the server has the bundle, and the version or label to ask if it is not to choose.
        tls: How to encrypt, None for not at all.

    Raises:
        UserError: It refused a request, or did not answer.
    """
    responses = []
    with connection.connect(grpc, target, tls, connection.Retry(), options={}) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for number, recorded in enumerate(requests, 1):
            request = predict_pb2.PredictRequest()
            request.CopyFrom(recorded)
            request.model_spec.CopyFrom(model)
            request.model_spec.signature_name = recorded.model_spec.signature_name
            try:
                responses.append(stub.Predict(request, timeout=REQUEST_SECONDS))
            except grpc.RpcError as error:
                raise UserError(_refused(number, request, target, error.code().name, error.details())) from error
    return responses


def _refused(number: int, request: predict_pb2.PredictRequest, by: object, code: str, message: str) -> str:
    return (
        f"Expected {by} to answer recorded request {number} ({request.model_spec.signature_name}), it failed with "
        f"{code}: {message}"
    )


def _answer(path: Path, answers: Path) -> None:
    """What the fresh process does."""
    servable = Servable.load(contract.MODEL_NAME, bundle.UNNUMBERED_VERSION, path)
    responses = []
    for number, log in enumerate(read_recorded(path), 1):
        try:
            responses.append(predict(servable, log.request))
        except Exception as error:
            code, message = status_of(error)
            raise UserError(_refused(number, log.request, path, code.name, message)) from error
    with tf.io.TFRecordWriter(str(answers)) as writer:
        for response in responses:
            writer.write(response.SerializeToString())


def main(arguments: list[str]) -> int:
    """Answers the recorded requests of a version; returns the exit status, 2 after a sentence about a bad version."""
    path, answers = map(Path, arguments)
    try:
        _answer(path, answers)
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)  # one line: the parent reads the last one
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
