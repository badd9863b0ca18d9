"""Base of the blocking and the asyncio client: settings, requests and errors, without any waiting."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving import arguments, messages
from serving.arguments import Features, NumberRows, TextRows, WholeNumbers
from serving.client import batches, clusters, connection, refusals
from serving.client.answers import SIGNATURE_DEF, RetrievalError
from serving.client.batches import Part
from serving.client.clusters import Named, NamedRows
from serving.client.connection import Retry, Tls
from tfdnc.contracts import bundle
from tfdnc.contracts.bundle import Row

DEFAULT_TARGET = "127.0.0.1:8500"
DEFAULT_TIMEOUT = 10.0
"""Seconds."""

POLL_SECONDS = 0.1
"""Pause between two status requests for a model that is not available yet."""

UNSEEN = "no server answered"

Metadata = Iterable[tuple[str, str]]


class Deadline(NamedTuple):
    """Deadline of a call, with all its requests and retries."""

    seconds: float  # time limit of the call
    ends: float  # time of the monotonic clock


class Client:
    """A connection to a server, with all methods that do not wait.

    Args:
        target: `host:port`, `unix:PATH`, or any other name that gRPC resolves.
        model_name: Name under which the server has the model.
        version: Version to ask, None for the latest.
        label: Label of the version to ask, such as `stable`; not together with `version`.
        timeout: Seconds that a call may take, with all its requests and retries. The argument of a call wins over it.
        batch_size: Most histories per request; longer lists are sent as several requests. A server that batches
            refuses requests above its own `max_batch_size`.
        max_in_flight: Most concurrent requests of one call.
        tls: Encryption of the connection; None for no encryption.
        retry: Retry policy for a server that is UNAVAILABLE.
        metadata: Headers sent with every request, such as `[("authorization", "Bearer ...")]`, or a function that
            returns them, for tokens that expire.
        options: gRPC channel arguments by name; they win over those that this client sets.

    Raises:
        ValueError: Settings that contradict each other.
        UserError: A file of `tls` cannot be read.
    """

    _transport: Any  # `grpc` or `grpc.aio`: both make channels by the same functions

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        model_name: str = bundle.MODEL_NAME,
        version: int | None = None,
        *,
        label: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        batch_size: int = 64,
        max_in_flight: int = 4,
        tls: Tls | None = None,
        retry: Retry = Retry(),  # noqa: B008 - frozen
        metadata: Metadata | Callable[[], Metadata] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._check_thread()
        if version is not None and label is not None:
            raise ValueError(f"Expected a version or a label, got version {version} and label {label!r}. Drop one.")
        if batch_size < 1 or max_in_flight < 1:
            raise ValueError(f"Expected a batch_size and max_in_flight from 1 up, got {batch_size}, {max_in_flight}.")
        self.target, self.timeout = target, timeout
        self._batch_size, self._max_in_flight = batch_size, max_in_flight
        self._declared: Sequence[Row] | None = None  # inputs of the model, once they have been asked for
        self._metadata = metadata if callable(metadata) else tuple(metadata)
        self._spec = model_pb2.ModelSpec(name=model_name, version_label=label)
        if version is not None:
            self._spec.version.value = version
        self._channel = connection.connect(self._transport, target, tls, retry, dict(options or {}))
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def _check_thread(self) -> None:
        """Raises an error if a client of this kind cannot be made in this thread."""

    def _retrievals(self, asked: dict[str, Any]) -> Iterator[Part]:
        return self._parts(messages.retrieve_request(**asked))

    def _encodings(
        self,
        histories: TextRows,
        times: NumberRows | None,
        request_time: WholeNumbers,
        features: Features | None,
        declared: Sequence[Row] | None,
    ) -> Iterator[Part]:
        request = messages.encode_request(histories, times, request_time, features, declared)
        if not _rows(request):
            raise ValueError("Expected at least one history, got none.")
        return self._parts(request)

    def _repeatable(self, named: Named, asked: dict[str, Any]) -> tuple[NamedRows, dict[str, Any]]:
        """Returns the arguments with lists in place of iterators: a call by names may make its request twice.

        Args:
            named: Controls of clusters by name.
            asked: Arguments of `messages.retrieve_request`.

        Raises:
            ValueError: Arguments that are wrong for any names of clusters.
        """
        if asked["num_candidates"] is None:
            raise ValueError(f"Expected num_candidates together with {' and '.join(named)}, got None. Say how many.")
        read = {"histories": arguments.text_rows, "exclude": arguments.text_rows, "times": arguments.number_rows}
        rows: dict[str, Any] = {name: read[name](asked[name], name) for name in read if asked[name] is not None}
        if isinstance(asked["features"], Mapping):
            rows["features"] = {name: _as_lists(values) for name, values in asked["features"].items()}
        if asked["allow"] is not None:
            rows["allow"] = [None if one is None else list(one) for one in arguments.listed(asked["allow"]) or ()]
        lists = {name: list(value) if isinstance(value, Iterator) else value for name, value in asked.items()}
        return clusters.per_history(named, len(rows["histories"])), lists | rows

    def _description(self) -> Iterator[Part]:
        return self._parts(messages.describe_request())

    def _rules_description(self) -> Iterator[Part]:
        return self._parts(messages.describe_rules_request())

    def _parts(self, request: predict_pb2.PredictRequest) -> Iterator[Part]:
        request.model_spec.MergeFrom(self._spec)
        rows = _rows(request)
        return batches.split(request, rows, self._batch_size) if rows else iter(())

    def _metadata_request(self) -> get_model_metadata_pb2.GetModelMetadataRequest:
        return get_model_metadata_pb2.GetModelMetadataRequest(model_spec=self._spec, metadata_field=[SIGNATURE_DEF])

    def _status_request(self) -> get_model_status_pb2.GetModelStatusRequest:
        return get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec)

    def _deadline(self, timeout: float | None) -> Deadline:
        seconds = self.timeout if timeout is None else timeout
        return Deadline(seconds, time.monotonic() + seconds)

    def _start(self, method: Callable[..., Any], request: Any, deadline: Deadline) -> Any:
        """Calls `method`, a stub or its `future`, with the time left and the headers."""
        headers = self._metadata() if callable(self._metadata) else self._metadata
        try:
            return method(request, timeout=max(deadline.ends - time.monotonic(), 0), metadata=tuple(headers))
        except ValueError as error:
            if "closed" not in str(error):
                raise
            # Another thread has closed the client between two requests of a call. gRPC cancels a running request with
            # the same message.
            raise RetrievalError(grpc.StatusCode.CANCELLED, "Channel closed!") from error

    def _refused(self, error: grpc.RpcError, deadline: Deadline, rows: range | None = None) -> RetrievalError:
        """Returns the error to raise for an error of gRPC."""
        self._declared = None  # the server may have another version by now
        message = refusals.explain(error.code(), error.details(), self.target, self._spec, deadline.seconds)
        unreached = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
        if error.code() in unreached and (variable := connection.proxy_variable(self.target)):
            message += f" It was asked through the proxy in {variable}; its name in no_grpc_proxy goes around that."
        return RetrievalError(error.code(), message, rows, said=error.details())

    def _nameless(self, error: RetrievalError) -> RetrievalError:
        """Returns the error to raise for a failed request for the names of the clusters."""
        if error.code is not grpc.StatusCode.FAILED_PRECONDITION:
            return error
        advice = "Or give numbers for all clusters: cluster_min, cluster_max, cluster_quotas."
        return RetrievalError(error.code, f"{error.message} {advice}")

    def _unsettled(self) -> RetrievalError:
        return RetrievalError(
            grpc.StatusCode.ABORTED,
            f"Expected one version of model {self._spec.name!r} at {self.target} to name the clusters and to make the "
            f"lists, got others each of {clusters.ATTEMPTS} times. Ask for a version or label of your own choice.",
        )

    def _check_passing(self, error: RetrievalError) -> None:
        """Raises `error` unless it may pass while the client waits."""
        passing = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
        if self._spec.version_label:
            passing.add(grpc.StatusCode.INVALID_ARGUMENT)  # no loaded version bears the label yet
        if error.code not in passing:
            raise error

    def _not_available(self, timeout: float, seen: str) -> RetrievalError:
        return RetrievalError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"Expected model {self._spec.name} at {self.target} to be available within {timeout:g} s, but {seen}. "
            "Look whether it is served under this name, and into the log of the server, or wait longer.",
        )


def _as_lists(values: Any) -> Any:
    """Returns the values of a declared input with lists in place of iterators."""
    found = list(values) if isinstance(values, Iterator) else values
    return [_as_lists(row) for row in found] if isinstance(found, list) else found


def _rows(request: predict_pb2.PredictRequest) -> int:
    return request.inputs[bundle.HISTORY].tensor_shape.dim[0].size
