"""The gRPC health service: on threads of its own, so that a busy server does not look like a dead one."""

import functools
import threading
from collections.abc import Callable
from concurrent import futures

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

NAMES = ("", "ModelService", "PredictionService")
"""What can be asked about, as in TF Serving; the empty name is the server as a whole."""

_THREADS = 4

_UNKNOWN, _SERVING, _NOT_SERVING = (
    health_pb2.HealthCheckResponse(status=status) for status in ("SERVICE_UNKNOWN", "SERVING", "NOT_SERVING")
)


class HealthService(health_pb2_grpc.HealthServicer):
    """Says SERVING until `stop`; part of one server.

    `grpc_health.v1.health` has such a service, but it sends under a lock that a client who leaves needs too: one that
    left while the server stopped would hang it for ever.
    """

    def __init__(self, server: grpc.Server):
        """Adds the service to a server that is not started."""
        self._lock = threading.Lock()  # never held while something is sent
        self._stopping = False
        self._watches: set[Callable] = set()  # each sends an answer, and None ends it
        threads = futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="health")
        # gRPC looks for these on the function, but functions belong to every server of the process, partials to one.
        self.Check, self.Watch = functools.partial(self.Check), functools.partial(self.Watch)
        self.Check.experimental_thread_pool = self.Watch.experimental_thread_pool = threads
        self.Watch.experimental_non_blocking = True
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def Check(self, request, context):  # noqa: N802 - the RPC's name
        """Returns the state."""
        if request.service not in NAMES:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return _NOT_SERVING if self._stopping else _SERVING

    def Watch(self, request, context, send_response_callback):  # noqa: N802
        """Sends the state now and when it changes, without a thread that waits for it."""
        send_response_callback(_SERVING if request.service in NAMES else _UNKNOWN)
        with self._lock:
            stopping = self._stopping
            if context.add_callback(functools.partial(self._forget, send_response_callback)):
                self._watches.add(send_response_callback)
        if stopping:
            _end(send_response_callback)

    def _forget(self, watch: Callable) -> None:
        with self._lock:
            self._watches.discard(watch)

    def stop(self) -> None:
        """Tells who watches that the server goes, and ends their calls, which it would otherwise wait for."""
        with self._lock:
            self._stopping, watches = True, set(self._watches)
        for watch in watches:
            _end(watch)


def _end(watch: Callable) -> None:
    watch(_NOT_SERVING)
    watch(None)
