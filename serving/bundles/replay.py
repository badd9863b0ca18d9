"""Sends recorded or other requests to a bundle: in a fresh process, or on a running server.

`python -m serving.bundles.replay VERSION_FOLDER ANSWERS [REQUESTS]` is the fresh process. It loads the version as the
embedded server does, and writes the answers to ANSWERS; without REQUESTS it takes the recorded ones.
"""

import logging
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import grpc
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_service_pb2_grpc

from serving.bundles import bundle
from serving.bundles.recorded import read_recorded, write_messages
from serving.client import connection
from serving.predict import predict
from serving.servable import Servable
from serving.status import status_of
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.errors import UserError

_LOG = logging.getLogger(__name__)

PROCESS_SECONDS = 900.0
"""Time limit of a fresh process that loads a version and answers."""

REQUEST_SECONDS = 60.0


class Answered(NamedTuple):
    """Responses to requests, in order, and the seconds of each."""

    responses: list[predict_pb2.PredictResponse]
    seconds: list[float]


def ask_fresh_process(path: Path, requests: Iterable[predict_pb2.PredictRequest] | None = None) -> Answered:
    """Returns the answers of the version at `path`, loaded by a fresh process.

    The process that exported a graph may not show its faults, such as shared names of searchers or ops that happen to
    be registered there. A broken native op also ends its process.

    Args:
        path: Folder of the version.
        requests: None for the recorded ones.

    Raises:
        UserError: The version cannot be loaded, refuses a request, exceeds the time limit, or crashes the process.
    """
    _LOG.info("a fresh process loads %s and answers its requests", path)
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers"
        command = [sys.executable, "-m", __name__, str(path), str(answers)]
        if requests is not None:
            asked = Path(folder) / "requests"
            write_messages(asked, requests)
            command.append(str(asked))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PROCESS_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise UserError(
                f"Expected {path} to answer within {PROCESS_SECONDS:g} s, it did not. Do not serve it; export again."
            ) from error
        if done.returncode:
            raise UserError(_end_message(path, done))
        seconds = [float(line) for line in _seconds_file(answers).read_text().split()]
        return Answered(list(map(predict_pb2.PredictResponse.FromString, _read(answers))), seconds)


def _read(file: Path) -> Iterable[bytes]:
    return tf.data.TFRecordDataset(str(file)).as_numpy_iterator()


def _seconds_file(answers: Path) -> Path:
    return answers.with_suffix(".seconds")


def _end_message(path: Path, done: subprocess.CompletedProcess[str]) -> str:
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
        requests: Recorded requests; their `model_spec` names only the signature.
        target: `host:port`.
        model: Name of the model on the server, and its version or label; without these the server chooses.
        tls: Encryption of the connection; None for no encryption.

    Raises:
        UserError: The server refused a request, or did not answer.
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


def _refused(
    number: int, request: predict_pb2.PredictRequest, by: object, code: str, message: str, kind: str = "recorded "
) -> str:
    return (
        f"Expected {by} to answer {kind}request {number} ({request.model_spec.signature_name}), it failed with "
        f"{code}: {message}"
    )


def _answer(path: Path, answers: Path, requests: Path | None) -> None:
    """Does the work of the fresh process."""
    servable = Servable.load(contract.MODEL_NAME, bundle.UNNUMBERED_VERSION, path)
    asked = map(predict_pb2.PredictRequest.FromString, _read(requests)) if requests else _recorded_requests(path)
    responses, seconds = [], []
    for number, request in enumerate(asked, 1):
        started = time.perf_counter()
        try:
            responses.append(predict(servable, request))
        except Exception as error:
            code, message = status_of(error)
            kind = "" if requests else "recorded "
            raise UserError(_refused(number, request, path, code.name, message, kind)) from error
        seconds.append(time.perf_counter() - started)
    write_messages(answers, responses)
    _seconds_file(answers).write_text("\n".join(map(repr, seconds)))


def _recorded_requests(path: Path) -> Iterable[predict_pb2.PredictRequest]:
    return (log.request for log in read_recorded(path))


def main(arguments: list[str]) -> int:
    """Answers requests to a version; returns the exit status, 2 after a message about a bad version."""
    path, answers, *requests = map(Path, arguments)
    try:
        _answer(path, answers, requests[0] if requests else None)
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)  # one line: the parent reads the last one
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
