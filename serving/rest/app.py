"""The REST API as a WSGI application: makes a call on the models from an HTTP request, and an HTTP response of it."""

import re
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterable
from typing import TypeVar
from wsgiref.types import StartResponse, WSGIEnvironment

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.manager import ModelManager
from serving.metrics import Metrics
from serving.predict import DEFAULT_SIGNATURE, predict
from serving.rest import json_examples, requests, responses
from serving.services import SIGNATURE_DEF, PredictionService, model_status
from serving.status import ServingError, invalid_argument, status_of

_MODEL = r"/([^/:]+)"
_VERSION = r"(?:/versions/(\d+)|/labels/([^/:]+))?"
_CALL = re.compile(rf"/v1/models{_MODEL}{_VERSION}:(classify|regress|predict)", re.IGNORECASE | re.ASCII)
_STATUS = re.compile(rf"/v1/models(?:{_MODEL})?{_VERSION}(?:/(metadata))?", re.IGNORECASE | re.ASCII)

_HTTP_STATUS = {
    grpc.StatusCode.OK: "200 OK",
    grpc.StatusCode.CANCELLED: "499 Client Closed Request",
    grpc.StatusCode.UNKNOWN: "500 Internal Server Error",
    grpc.StatusCode.INVALID_ARGUMENT: "400 Bad Request",
    grpc.StatusCode.DEADLINE_EXCEEDED: "504 Gateway Timeout",
    grpc.StatusCode.NOT_FOUND: "404 Not Found",
    grpc.StatusCode.ALREADY_EXISTS: "409 Conflict",
    grpc.StatusCode.PERMISSION_DENIED: "403 Forbidden",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "429 Too Many Requests",
    grpc.StatusCode.FAILED_PRECONDITION: "400 Bad Request",
    grpc.StatusCode.ABORTED: "409 Conflict",
    grpc.StatusCode.OUT_OF_RANGE: "400 Bad Request",
    grpc.StatusCode.UNIMPLEMENTED: "501 Not Implemented",
    grpc.StatusCode.INTERNAL: "500 Internal Server Error",
    grpc.StatusCode.UNAVAILABLE: "503 Service Unavailable",
    grpc.StatusCode.DATA_LOSS: "500 Internal Server Error",
    grpc.StatusCode.UNAUTHENTICATED: "401 Unauthorized",
}

_JSON, _TEXT = "application/json", "text/plain; version=0.0.4; charset=utf-8"

_CORS_HEADERS = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST, GET"),
    ("Access-Control-Allow-Headers", "Content-Type"),
]
_ORIGIN = re.compile("https?://")

_Request = TypeVar("_Request", classification_pb2.ClassificationRequest, regression_pb2.RegressionRequest)


class Application:
    """Answers HTTP requests; may be called from many threads at once.

    Args:
        prediction: Answers classify, regress and metadata, and logs what predict answers.
        manager: Holds the models.
        timeout_seconds: Time limit of an answer, None for no limit.
        metrics: Counts the calls, and is shown on its path; None for neither.
        max_body_bytes: Largest size of a decompressed body; the HTTP server limits the other bodies.
        cors: Tell browsers that pages of other sites may read the answers.

    Attributes:
        headers: Headers of every answer of the API, also of errors of the HTTP server.
        stopping: If True, every request gets 503.
    """

    def __init__(
        self,
        prediction: PredictionService,
        manager: ModelManager,
        timeout_seconds: float | None,
        metrics: Metrics | None,
        max_body_bytes: int,
        cors: bool = False,
    ) -> None:
        self._prediction, self._manager = prediction, manager
        self.headers: list[tuple[str, str]] = [("Content-Type", _JSON), *(_CORS_HEADERS if cors else ())]
        self._timeout, self._metrics, self._max_body_bytes = timeout_seconds, metrics, max_body_bytes
        self.stopping = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request of the HTTP server."""
        path, headers = _path(environ), self.headers
        if self.stopping:
            status, text = "503 Service Unavailable", responses.error("The server is shutting down.")
        elif self._metrics is not None and path == self._metrics.path:
            status, text, headers = "200 OK", self._metrics.page(), [("Content-Type", _TEXT)]
        elif not path.lower().startswith("/v1/"):
            status, text = "404 Not Found", responses.error(f"Nothing is served on {path}.")
        else:
            code, text = self._answer(environ["REQUEST_METHOD"], path, environ)
            status = _HTTP_STATUS[code]
        body = responses.encoded(text)
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, method: str, path: str, environ: WSGIEnvironment) -> tuple[grpc.StatusCode, str]:
        started = time.monotonic()
        call = _CALL.fullmatch(path) if method == "POST" else None
        status = _STATUS.fullmatch(path) if method == "GET" else None
        code = grpc.StatusCode.OK
        try:
            if call is not None and call[4] in _CALLS:
                spec = _spec(*call.group(1, 2, 3))
                deadline = None if self._timeout is None else started + self._timeout
                text = _CALLS[call[4]](self, spec, self._body(environ), deadline)
            elif method == "OPTIONS":
                text = _preflight(environ)
            elif status is not None:
                text = self._describe(_spec(*status.group(1, 2, 3)), status[4])
            else:
                raise invalid_argument(f"Malformed request: {method} {path}")
        except Exception as error:  # every error becomes a status, as for gRPC
            code, message = status_of(error)
            text = responses.error(message)
        if call is not None and self._metrics is not None:
            seconds = time.monotonic() - started
            self._metrics.observe_request(urllib.parse.unquote(call[1]), call[4], "REST", code.name, seconds)
        return code, text

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float | None) -> str:
        document = requests.parse(body)
        spec.signature_name = requests.signature_name(document)
        request = predict_pb2.PredictRequest(model_spec=spec)
        # One lease for both steps: the tensors must be made for the signature of the version that answers.
        with self._manager.lease(spec) as servable:
            key = spec.signature_name or DEFAULT_SIGNATURE
            if key not in servable.signatures:
                raise invalid_argument(f'Serving signature name: "{key}" not found in signature def')
            if not servable.signatures[key].inputs:
                raise invalid_argument(f"Failed to get input map for signature: {spec.signature_name or 'DEFAULT'}")
            in_rows = requests.fill_predict(document, servable.signatures[key].inputs, request)
            response = predict(servable, request, deadline=deadline)
            self._prediction.log(servable, request, response)
        return responses.predictions(response.outputs, in_rows)

    def _classify(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float | None) -> str:
        request = self._with_examples(classification_pb2.ClassificationRequest(model_spec=spec), body)
        return responses.classifications(self._prediction.classify(request, deadline).result)

    def _regress(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float | None) -> str:
        request = self._with_examples(regression_pb2.RegressionRequest(model_spec=spec), body)
        return responses.regressions(self._prediction.regress(request, deadline).result)

    @staticmethod
    def _with_examples(request: _Request, body: bytes) -> _Request:
        document = requests.parse(body)
        request.model_spec.signature_name = requests.signature_name(document)
        json_examples.fill_input(document, request.input)
        return request

    def _describe(self, spec: model_pb2.ModelSpec, subresource: str | None) -> str:
        if not spec.name:
            raise invalid_argument("Missing model name in request.")
        if subresource is None:
            request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
            return responses.model_status(model_status(self._manager, request))
        fields = [SIGNATURE_DEF]
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=fields)
        return responses.model_metadata(self._prediction.metadata(request))

    def _body(self, environ: WSGIEnvironment) -> bytes:
        body: bytes = environ["wsgi.input"].read()
        if "gzip" not in environ.get("HTTP_CONTENT_ENCODING", ""):
            return body
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)  # 16: gzip's header
        try:
            body = inflater.decompress(body, self._max_body_bytes)
        except zlib.error as error:
            raise invalid_argument(f"Failed to uncompress the gzipped body: {error}") from error
        if not inflater.eof:
            raise invalid_argument(
                f"Failed to uncompress the gzipped body: cut short, or more than {self._max_body_bytes} bytes"
            )
        return body


_CALLS: dict[str, Callable[[Application, model_pb2.ModelSpec, bytes, float | None], str]] = {
    "predict": Application._predict,
    "classify": Application._classify,
    "regress": Application._regress,
}


def _preflight(environ: WSGIEnvironment) -> str:
    """Answers a browser's CORS preflight with an empty body; the answer is in the headers."""
    if not _ORIGIN.search(environ.get("HTTP_ORIGIN", "")):
        raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, "Origin header is missing in CORS preflight")
    return ""


def _path(environ: WSGIEnvironment) -> str:
    """Returns path and query as sent, not unquoted: the name of a model may hold an escaped slash."""
    uri: str = environ["REQUEST_URI"]
    if uri.startswith("/"):
        return uri
    parts = urllib.parse.urlsplit(uri)
    return urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, parts.fragment))


def _spec(name: str | None, version: str | None, label: str | None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=urllib.parse.unquote(name or ""))
    if version is not None:
        digits = version.lstrip("0") or "0"
        if len(digits) > 19 or int(digits) >= 2**63:  # the length first: int() refuses thousands of digits
            raise invalid_argument(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(digits)
    if label is not None:
        spec.version_label = urllib.parse.unquote(label)
    return spec
