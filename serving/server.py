"""The embedded server: gRPC on a thread pool over the models of a manager, started and stopped in one place."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving.manager import ModelConfig, ModelManager
from serving.parsing import ParsingInterceptor
from serving.services import ModelService, PredictionService
from tfdnc import schema
from tfdnc.errors import UserError

_LOG = logging.getLogger(__name__)

DEFAULT_HOST = "127.0.0.1"
"""Loopback: the server knows no passwords, so being reachable from outside is a choice somebody makes."""

DEFAULT_PORT = 8500
"""TF Serving's."""

MAX_MESSAGE_BYTES = 64 << 20
"""Largest request, and largest tensor a request may describe. TF Serving has no limit; a history of 200 ids takes a
few KB, so this is a fence against accidents."""

GRACE_SECONDS = 10.0
"""How long a stopping server waits for requests that are being answered."""


def default_workers() -> int:
    """Returns the number of threads that answer requests, 4 per CPU as in TF Serving."""
    return 4 * (os.cpu_count() or 1)


class Server:
    """A server that is bound to its port; requests are answered from `start` to `stop`.

    Args:
        manager: Holds the models; the server closes it when it stops.
        host: Address to bind to.
        port: Port to bind to; 0 picks a free one.
        max_workers: Threads that answer requests; None is `default_workers()`.
        max_message_bytes: Larger requests get RESOURCE_EXHAUSTED, larger tensors INVALID_ARGUMENT.

    Attributes:
        manager: As given.
        host: As given.
        port: The port that clients use.

    Raises:
        UserError: The address cannot be bound.
    """

    def __init__(
        self,
        manager: ModelManager,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        max_workers: int | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ):
        if max_workers is not None and max_workers < 1:
            raise UserError(f"Expected at least 1 worker thread, got {max_workers}. Raise it, or leave it out.")
        self.manager, self.host = manager, host
        self._grpc = grpc.server(
            futures.ThreadPoolExecutor(max_workers or default_workers(), thread_name_prefix="serving"),
            interceptors=[ParsingInterceptor()],
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                # By default a second server may bind the same port, and the two share its clients at random.
                ("grpc.so_reuseport", 0),
            ],
        )
        prediction = PredictionService(manager, max_message_bytes)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(manager), self._grpc)
        self.port = self._bind(port)

    def _bind(self, port: int) -> int:
        address = _address(self.host, port)
        if not 0 <= port < 2**16:  # gRPC would take the remainder
            raise UserError(f"Expected a port from 0 to 65535, got {port}. Choose another one.")
        try:
            bound = self._grpc.add_insecure_port(address)
        except RuntimeError as error:
            raise _cannot_bind(address) from error
        if not bound:  # how grpcio before 1.60 reports it
            raise _cannot_bind(address)
        return bound

    @property
    def address(self) -> str:
        """`host:port`, as a client on this machine writes it."""
        return _address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host), self.port)

    def start(self) -> None:
        """Begins to answer requests."""
        self._grpc.start()
        _LOG.info("listening on %s, models %s", self.address, self.manager.available())

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Refuses new requests, waits at most `grace` seconds for running ones, frees the port and the models."""
        self._grpc.stop(grace).wait()
        self.manager.close()
        _LOG.info("stopped listening on %s", self.address)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _cannot_bind(address: str) -> UserError:
    return UserError(
        f"Expected to listen on {address}, the system refused. Stop what uses the port, choose another one, "
        "or let port 0 pick a free one."
    )


def build_server(
    base_path: Path,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    model_name: str = schema.MODEL_NAME,
    max_workers: int | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> Server:
    """Loads the latest version of a model, and returns a server for it that is bound but not started.

    Args:
        base_path: A folder of numbered versions, or one version (see `bundle.find_versions`).
        host: See `Server`.
        port: See `Server`.
        model_name: The name that clients ask for.
        max_workers: See `Server`.
        max_message_bytes: See `Server`.

    Raises:
        UserError: No version there, one that cannot be served, or an address that cannot be bound.
    """
    manager = ModelManager()
    # The model comes first: a client that connects to a bound port waits, one that finds none is told at once.
    manager.load_latest(ModelConfig(model_name, Path(base_path)))
    try:
        return Server(manager, host, port, max_workers, max_message_bytes)
    except BaseException:
        manager.close()
        raise


@contextlib.contextmanager
def running(base_path: Path, port: int = 0, **options) -> Iterator[Server]:
    """Serves a bundle from this process while the block runs; yields the `Server`, which knows its `address`.

    Args:
        base_path: See `build_server`.
        port: 0 picks a free one.
        **options: The other arguments of `build_server`.

    Raises:
        UserError: See `build_server`.
    """
    server = build_server(base_path, port=port, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def serve(
    base_path: Path,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    model_name: str = schema.MODEL_NAME,
    max_workers: int | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    on_ready: Callable[[Server], None] | None = None,
) -> None:
    """Serves a bundle until SIGTERM or SIGINT, then stops cleanly and returns.

    Signals reach only the main thread of a process, so call it there.

    Args:
        base_path: See `build_server`.
        host: See `Server`.
        port: See `Server`.
        model_name: See `build_server`.
        max_workers: See `Server`.
        max_message_bytes: See `Server`.
        on_ready: Called once requests are answered, to tell people or a supervisor.

    Raises:
        UserError: See `build_server`.
    """
    server = build_server(base_path, host, port, model_name, max_workers, max_message_bytes)
    # Not before the load: until there is something to stop cleanly, a signal may end the process at once.
    stopping = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.start()
        if on_ready is not None:
            on_ready(server)
        stopping.wait()
    finally:
        server.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)
