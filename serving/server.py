"""The embedded server: loads the models of its options, answers gRPC and REST requests for them, and stops cleanly."""

import contextlib
import functools
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from serving import addresses, loading, text_proto, tls
from serving.bundles import bundle
from serving.health import HealthService
from serving.metrics import Metrics
from serving.model_config import single_model
from serving.options import ServerOptions
from serving.parsing import ParsingInterceptor
from serving.request_log import RequestLogs
from serving.rest.http_server import RestServer
from serving.services import ModelService, PredictionService
from serving.source import ModelSource, Periodic
from serving.status import ServingError
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.errors import UserError

_LOG = logging.getLogger(__name__)

GRACE_SECONDS = 10.0
"""Seconds that a stopping server waits for running requests."""

LAST_SECONDS = 5.0
"""Seconds that it then waits for interrupted runs; a running op cannot be interrupted."""


class Server:
    """A server whose models are loaded and whose ports are bound; requests are answered from `start` to `stop`.

    Args:
        options: Models to serve, ports and settings.

    Attributes:
        options: As given.
        manager: Holds the models.
        source: Finds the models; `source.poll()` looks for new versions at once.
        port: The port that clients use.
        metrics: Counts and times, None unless the options ask for them.
        rest: The REST API, None unless the options give it a port.

    Raises:
        UserError: Nothing to serve, a model that cannot be loaded, or an address that cannot be bound.
    """

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.metrics = Metrics.configured(options.monitoring_config_file) if options.monitoring_config_file else None
        self.manager = loading.manager(options, self.metrics)
        tags = tuple(options.saved_model_tags.split(","))
        self._request_logs = RequestLogs(tags, self.metrics.observe_logged if self.metrics else None)
        self.rest: RestServer | None = None
        try:
            self.source = ModelSource(
                self.manager,
                options.model_config_file,
                options.allow_version_labels_for_unavailable_models,
                self._request_logs,
            )
            # Load before binding: a client waits at a bound port, but gets an error at once where none is bound.
            self._load_models()
            prediction = PredictionService(
                self.manager,
                options.max_message_bytes,
                options.enable_signature_method_name_check,
                self.metrics,
                options.enable_serialization_as_tensor_content,
                self._request_logs,
            )
            self._grpc = self._build_grpc(prediction)
            self._health = HealthService(self._grpc) if options.enable_grpc_healthcheck_service else None
            if options.rest_api_port:
                self.rest = self._build_rest(prediction)
            self.port: int = self._bind()  # last: gRPC cannot free a port before the server was started
        except BaseException:
            if self.rest is not None:
                self.rest.stop(0)
            self.manager.close()
            self._request_logs.close(LAST_SECONDS)
            raise
        self._periodic: list[Periodic] = []

    def _load_models(self) -> None:
        options = self.options
        if options.model_config_file:
            config = text_proto.read(options.model_config_file, model_server_config_pb2.ModelServerConfig())
        elif options.model_base_path:
            bundle.find_versions(options.model_base_path)  # its error says more than a config's
            config = single_model(
                options.model_name, options.model_base_path, options.request_log, options.request_log_rate
            )
        else:
            raise AssertionError("unreachable: ServerOptions refuses to have neither")
        try:
            self.source.reload(config)
        except ServingError as error:
            raise UserError(error.message) from error

    def _build_grpc(self, prediction: PredictionService) -> grpc.Server:
        options = self.options
        arguments: dict[str, int | str] = {
            "grpc.max_receive_message_length": options.max_message_bytes,
            "grpc.max_send_message_length": -1,
            # By default a second server may bind the same port, and the two share its clients at random.
            "grpc.so_reuseport": 0,
        }
        arguments.update(options.channel_arguments())
        threads = futures.ThreadPoolExecutor(options.grpc_threads, thread_name_prefix="serving")
        server = grpc.server(threads, interceptors=[ParsingInterceptor()], options=list(arguments.items()))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, server)
        models = ModelService(self.manager, self.source.reload)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
        return server

    def _build_rest(self, prediction: PredictionService) -> RestServer:
        return RestServer(
            prediction,
            self.manager,
            self.options.host,
            self.options.rest_api_port,
            timeout_seconds=self.options.rest_timeout,
            num_threads=self.options.rest_threads,
            metrics=self.metrics,
            max_body_bytes=self.options.max_message_bytes,
            cors=self.options.rest_api_enable_cors_support,
        )

    def _bind(self) -> int:
        """Binds the port, and the Unix socket if the options name one; returns the port."""
        if self.options.ssl_config_file:
            credentials = tls.server_credentials(self.options.ssl_config_file)
            listen = functools.partial(self._grpc.add_secure_port, server_credentials=credentials)
        else:
            listen = self._grpc.add_insecure_port
        if self.options.grpc_socket_path:
            addresses.listen(listen, f"unix:{self.options.grpc_socket_path}")
        return addresses.listen(listen, addresses.join(self.options.host, self.options.port))

    @property
    def address(self) -> str:
        """`host:port`, as a client on this machine writes it."""
        host = self.options.host
        return addresses.join({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), self.port)

    def start(self) -> None:
        """Begins to answer requests, and to look for new versions."""
        self._grpc.start()
        if self.rest is not None:
            self.rest.start()
        options = self.options
        if options.file_system_poll_wait_seconds:
            self._periodic.append(Periodic(self.source.poll, options.file_system_poll_wait_seconds, "poll versions"))
        if options.model_config_file and options.model_config_file_poll_wait_seconds:
            seconds = options.model_config_file_poll_wait_seconds
            self._periodic.append(Periodic(self.source.poll_config_file, seconds, "poll config file"))
        _LOG.info("listening on %s, models %s", self.address, self.manager.available())

    def stop(self, grace: float = GRACE_SECONDS) -> bool:
        """Refuses new requests, waits at most `grace` seconds for running ones, frees the port and the models.

        Returns:
            True if all work has ended. Requests that still run after `grace` seconds are interrupted. A running op or
            load cannot be interrupted: `LAST_SECONDS` later, `stop` returns False and leaves it running.
        """
        deadline = time.monotonic() + grace
        stopped = self._grpc.stop(grace)
        if self._health is not None:
            self._health.stop()
        if self.rest is not None:
            self.rest.stop(grace)
        stopped.wait(max(0.0, deadline - time.monotonic()))
        ending = threading.Thread(target=self._end, name="end", daemon=True)
        ending.start()
        ending.join(LAST_SECONDS)
        logged = self._request_logs.close(max(1.0, deadline + LAST_SECONDS - time.monotonic()))
        _LOG.info("stopped listening on %s", self.address)
        return logged and not ending.is_alive()

    def _end(self) -> None:
        self.manager.interrupt()
        self.manager.close()  # first: a config that is being loaded waits for the manager
        for periodic in self._periodic:
            periodic.stop()
        self.manager.wait_until_unloaded()
        if self.rest is not None:
            self.rest.wait_until_idle()


# `Any`: a flag has the type of its field of `ServerOptions`.
def build_server(base_path: Path | None = None, model_name: str = contract.MODEL_NAME, **flags: Any) -> Server:
    """Loads models, and returns a server for them that is bound but not started.

    Args:
        base_path: A folder of numbered versions, or one version; None if `flags` has a `model_config_file`.
        model_name: The name that clients ask for.
        **flags: Other fields of `ServerOptions`.

    Raises:
        UserError: See `ServerOptions` and `Server`.
    """
    return Server(ServerOptions(model_base_path=base_path, model_name=model_name, **flags))


@contextlib.contextmanager
def running(base_path: Path | None = None, port: int = 0, **flags: Any) -> Iterator[Server]:
    """Serves models from this process while the block runs; yields the `Server`, which knows its `address`.

    Args:
        base_path: See `build_server`.
        port: 0 picks a free one.
        **flags: The other arguments of `build_server`.

    Raises:
        UserError: See `build_server`.
    """
    server = build_server(base_path, port=port, **flags)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def serve(
    options: ServerOptions, on_ready: Callable[[Server], None] | None = None, grace: float = GRACE_SECONDS
) -> None:
    """Serves until SIGTERM or SIGINT, then stops cleanly and returns.

    If work is left that cannot be interrupted, this ends the process with status 0. TensorFlow crashes when Python
    exits while an op is running, and an op may run without end.

    Call it in the main thread: only that thread receives signals.

    Args:
        options: Models to serve, ports and settings.
        on_ready: Called once requests are answered, for example to print the address.
        grace: See `Server.stop`.

    Raises:
        UserError: See `Server`.
    """
    # Imported objects stay in memory anyway. If they are frozen, the garbage collection after an unload skips them, and
    # stops all requests for milliseconds instead of tenths of a second. Freeze before the load, because a frozen
    # version would never be freed.
    gc.freeze()
    try:
        server = Server(options)
        with _stop_signals() as stopping:  # an earlier signal ends the process at once
            try:
                server.start()
                if on_ready is not None:
                    on_ready(server)
                # Wait with a timeout: a signal right before a wait without one is handled only after that wait.
                while not stopping.wait(1.0):
                    pass
            finally:
                has_ended = server.stop(grace)
        if not has_ended:
            _leave()
    finally:
        gc.unfreeze()


def _leave() -> None:
    _LOG.warning("some work did not end %.0f s after it was interrupted; leaving without it", LAST_SECONDS)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Yields an event that SIGTERM and SIGINT set while the block runs."""
    stopping = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, lambda *_: stopping.set()) for number in numbers}
    try:
        yield stopping
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
