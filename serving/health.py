"""The gRPC health service, on threads of its own: a server that is busy still answers it."""

import functools
import threading
import types
from collections.abc import Callable
from concurrent import futures

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

NAMES = ("", "ModelService", "PredictionService")
"""Services that a request may name, as in TF Serving; the empty name is the server as a whole."""

_THREADS = 4

_UNKNOWN, _SERVING, _NOT_SERVING = (
    health_pb2.HealthCheckResponse(status=status) for status in ("SERVICE_UNKNOWN", "SERVING", "NOT_SERVING")
)


Send = Callable[[health_pb2.HealthCheckResponse | None], None]
"""Sends a response to one Watch call; None ends the call."""


class HealthService(health_pb2_grpc.HealthServicer):
    """Answers SERVING until `stop`; part of one server.

    The service of `grpc_health.v1.health` sends while it holds a lock, and the end of a client's call takes the same
    lock. A client that leaves while the server stops would block that server for ever.
    """

    def __init__(self, server: grpc.Server) -> None:
        """Adds the service to a server that is not started."""
        self._lock = threading.Lock()  # never held while a response is sent
        self._stopping = False
        self._watches: set[Send] = set()
        threads = futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="health")
        methods = types.SimpleNamespace(Check=_Method(self.Check, threads), Watch=_Method(self.Watch, threads, True))
        health_pb2_grpc.add_HealthServicer_to_server(methods, server)

    def Check(  # noqa: N802 - the RPC's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Returns the state."""
        if request.service not in NAMES:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return _NOT_SERVING if self._stopping else _SERVING

    def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext, send_response_callback: Send
    ) -> None:
        """Sends the state now and when it changes, without a thread that waits for it."""
        send_response_callback(_SERVING if request.service in NAMES else _UNKNOWN)
        with self._lock:
            stopping = self._stopping
            if context.add_callback(functools.partial(self._forget, send_response_callback)):
                self._watches.add(send_response_callback)
        if stopping:
            _end(send_response_callback)

    def _forget(self, watch: Send) -> None:
        with self._lock:
            self._watches.discard(watch)

    def stop(self) -> None:
        """Sends NOT_SERVING to all Watch calls and ends them; the stopping server would otherwise wait for them."""
        with self._lock:
            self._stopping, watches = True, set(self._watches)
        for watch in watches:
            _end(watch)


class _Method:
    """An RPC of one server; gRPC reads from its attributes how to run it.

    Attributes of a function would be shared by all servers of the process.

    Args:
        call: Answers the RPC.
        threads: Run the calls.
        non_blocking: Give `call` a callback that sends responses, now or later, instead of sending its result.
    """

    def __init__(
        self, call: Callable[..., object], threads: futures.ThreadPoolExecutor, non_blocking: bool = False
    ) -> None:
        self._call = call
        self.experimental_thread_pool = threads
        self.experimental_non_blocking = non_blocking

    def __call__(self, *arguments: object) -> object:
        return self._call(*arguments)


def _end(watch: Send) -> None:
    watch(_NOT_SERVING)
    watch(None)
