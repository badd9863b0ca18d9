"""What the blocking and the asyncio client share: how they are made, what they ask, what they say when it fails."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from serving import messages
from serving.client import batches, connection
from serving.client.answers import SIGNATURE_DEF, RetrievalError
from serving.client.batches import Part
from serving.client.connection import Retry, Tls
from tfdnc import schema

DEFAULT_TARGET = "127.0.0.1:8500"
DEFAULT_TIMEOUT = 10.0
"""Seconds."""

POLL_SECONDS = 0.1
"""Pause between two looks at a model that is not available yet."""

UNSEEN = "no server answered"

Metadata = Iterable[tuple[str, str]]


class Client:
    """A connection to a server and everything about it that does no waiting.

    Args:
        target: `host:port`, `unix:PATH`, or any other name that gRPC resolves.
        model_name: Name the model is served under.
        version: Version to ask, None for the latest.
        label: Label of the version to ask, such as `stable`; not together with `version`.
        timeout: Seconds that a call may take, all its requests and retries included, unless the call says otherwise.
        batch_size: Most histories per request; longer lists are sent as several. A server that batches refuses
            requests above its own `max_batch_size`.
        max_in_flight: Most requests of one call that the server has at a time.
        tls: Encrypts the connection; None does not.
        retry: What happens when the server is UNAVAILABLE.
        metadata: Headers sent with every request, such as `[("authorization", "Bearer ...")]`, or a function that
            returns them, for tokens that expire.
        options: gRPC channel arguments by name; they win over what this client sets by itself.

    Raises:
        ValueError: Settings that contradict each other.
        UserError: A file of `tls` cannot be read.
    """

    _transport: Any  # `grpc` or `grpc.aio`: both know the same channels and calls

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        model_name: str = schema.MODEL_NAME,
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
    ):
        if version is not None and label is not None:
            raise ValueError(f"Expected a version or a label, got version {version} and label {label!r}. Drop one.")
        if batch_size < 1 or max_in_flight < 1:
            raise ValueError(f"Expected a batch_size and max_in_flight from 1 up, got {batch_size}, {max_in_flight}.")
        self.target, self.timeout = target, timeout
        self._batch_size, self._max_in_flight = batch_size, max_in_flight
        self._metadata = metadata if callable(metadata) else tuple(metadata)
        self._spec = model_pb2.ModelSpec(name=model_name, version_label=label)
        if version is not None:
            self._spec.version.value = version
        self._channel = connection.connect(self._transport, target, tls, retry, dict(options or {}))
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def _retrievals(self, histories: Sequence[Sequence[str]], num_candidates, alpha, controls: dict) -> Iterator[Part]:
        if not histories:
            return iter(())
        return self._parts(messages.retrieve_request(histories, num_candidates, alpha, **controls), len(histories))

    def _encodings(self, histories: Sequence[Sequence[str]], times: dict) -> Iterator[Part]:
        if not histories:
            raise ValueError("Expected at least one history, got none.")
        return self._parts(messages.encode_request(histories, **times), len(histories))

    def _parts(self, request, rows: int) -> Iterator[Part]:
        request.model_spec.MergeFrom(self._spec)
        return batches.split(request, rows, self._batch_size)

    def _metadata_request(self) -> get_model_metadata_pb2.GetModelMetadataRequest:
        return get_model_metadata_pb2.GetModelMetadataRequest(model_spec=self._spec, metadata_field=[SIGNATURE_DEF])

    def _status_request(self) -> get_model_status_pb2.GetModelStatusRequest:
        return get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec)

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def _start(self, method: Callable, request, deadline: float):
        """Calls `method`, a stub or its `future`, with everything that goes beside the request."""
        headers = self._metadata() if callable(self._metadata) else self._metadata
        return method(request, timeout=max(deadline - time.monotonic(), 0), metadata=tuple(headers))

    def _refused(self, error: grpc.RpcError, timeout: float | None, rows: range | None = None) -> RetrievalError:
        """Returns the error to raise for one of gRPC's."""
        message = error.details()
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            message = (
                f"Expected a server at {self.target} that is ready, found none ({error.details()}). Start one with "
                "`tfdnc serve BUNDLE`, give the address of one that runs, or ask again later."
            )
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            seconds = self.timeout if timeout is None else timeout
            message = (
                f"Expected an answer from {self.target} within {seconds:g} s, none came. "
                "Look whether the server runs and keeps up, ask for less at once, or wait longer."
            )
        unreached = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
        if error.code() in unreached and (variable := connection.proxy_variable(self.target)):
            message += f" It was asked through the proxy in {variable}; its name in no_grpc_proxy goes around that."
        return RetrievalError(error.code(), message, rows)

    def _check_passing(self, error: RetrievalError) -> None:
        """Raises `error` if waiting will not mend it."""
        passing = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
        if self._spec.version_label:
            passing.add(grpc.StatusCode.INVALID_ARGUMENT)  # no loaded version bears the label yet
        if error.code not in passing:
            raise error

    def _not_available(self, timeout: float, seen: str) -> RetrievalError:
        return RetrievalError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"Expected model {self._spec.name} at {self.target} to be available within {timeout:g} s, but {seen}. "
            "Look into the log of the server, or wait longer.",
        )
