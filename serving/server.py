"""The embedded server: the models of its options, and gRPC over them, started and stopped in one place."""

import contextlib
import functools
import gc
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from serving import batching, bundle, text_proto, tls
from serving.batching_parameters import BatchingParameters
from serving.health import HealthService
from serving.manager import ModelManager
from serving.metrics import Metrics
from serving.model_config import single_model
from serving.options import ServerOptions
from serving.parsing import ParsingInterceptor
from serving.rest.server import RestServer
from serving.servable import Load, Servable
from serving.services import ModelService, PredictionService
from serving.session_config import session_config
from serving.source import ModelSource, Periodic
from serving.status import ServingError
from serving.warmup import warm_up
from tfdnc import schema
from tfdnc.errors import UserError

_LOG = logging.getLogger(__name__)

GRACE_SECONDS = 10.0
"""How long a stopping server waits for requests that are being answered."""

_TFLITE_MODEL = "model.tflite"

_BATCH_THREADS = "model_server_batch_threads"
"""What TF Serving calls them without a file; a file without a name has another default."""


class Server:
    """A server whose models are loaded and whose ports are bound; requests are answered from `start` to `stop`.

    Args:
        options: What to serve, and how.

    Attributes:
        options: As given.
        manager: Holds the models.
        source: Finds the models; `source.poll()` looks for new versions at once.
        port: The port that clients use.
        metrics: Counts what happens, if the options say so.
        rest: The REST API, if the options give it a port.

    Raises:
        UserError: Nothing to serve, a model that cannot be loaded, or an address that cannot be bound.
    """

    def __init__(self, options: ServerOptions):
        self.options = options
        self.metrics = Metrics.configured(options.monitoring_config_file) if options.monitoring_config_file else None
        self.manager = _manager(options, self.metrics)
        self.rest: RestServer | None = None
        try:
            self.source = ModelSource(
                self.manager, options.model_config_file, options.allow_version_labels_for_unavailable_models
            )
            # The models come first: a client that connects to a bound port waits, one that finds none is told at once.
            self._load_models()
            prediction = PredictionService(
                self.manager,
                options.max_message_bytes,
                options.enable_signature_method_name_check,
                self.metrics,
                options.enable_serialization_as_tensor_content,
            )
            self._grpc = self._build_grpc(prediction)
            self._health = HealthService(self._grpc) if options.enable_grpc_healthcheck_service else None
            if options.rest_api_port:
                self.rest = self._build_rest(prediction)
            self.port = self._bind()  # last: gRPC gives no port back before it was started
        except BaseException:
            if self.rest is not None:
                self.rest.stop(0)
            self.manager.close()
            raise
        self._periodic: list[Periodic] = []

    def _load_models(self) -> None:
        options = self.options
        if options.model_config_file:
            config = text_proto.read(options.model_config_file, model_server_config_pb2.ModelServerConfig())
        else:
            bundle.find_versions(options.model_base_path)  # its error helps more than the one of a config
            config = single_model(options.model_name, options.model_base_path)
        try:
            self.source.reload(config)
        except ServingError as error:
            raise UserError(error.message) from error

    def _build_grpc(self, prediction: PredictionService) -> grpc.Server:
        options = self.options
        arguments = {
            "grpc.max_receive_message_length": options.max_message_bytes,
            "grpc.max_send_message_length": -1,
            # By default a second server may bind the same port, and the two share its clients at random.
            "grpc.so_reuseport": 0,
        } | dict(options.channel_arguments())
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
        """Binds the port and, if there shall be one, the Unix socket; returns the port."""
        if self.options.ssl_config_file:
            credentials = tls.server_credentials(self.options.ssl_config_file)
            listen = functools.partial(self._grpc.add_secure_port, server_credentials=credentials)
        else:
            listen = self._grpc.add_insecure_port
        if self.options.grpc_socket_path:
            _listen(listen, f"unix:{self.options.grpc_socket_path}")
        return _listen(listen, _address(self.options.host, self.options.port))

    @property
    def address(self) -> str:
        """`host:port`, as a client on this machine writes it."""
        host = self.options.host
        return _address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), self.port)

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

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Refuses new requests, waits at most `grace` seconds for running ones, frees the port and the models."""
        stopped = self._grpc.stop(grace)
        if self._health is not None:
            self._health.stop()
        if self.rest is not None:
            self.rest.stop(grace)
        stopped.wait()
        self.manager.close()  # first: a config that is being loaded waits for the manager
        for periodic in self._periodic:
            periodic.stop()
        _LOG.info("stopped listening on %s", self.address)


def _manager(options: ServerOptions, metrics: Metrics | None) -> ModelManager:
    repeats = max(options.num_request_iterations_for_warmup, 1)
    tags = tuple(options.saved_model_tags.split(","))
    load = functools.partial(Servable.load, config=session_config(options), tags=tags)
    if options.prefer_tflite_model:
        load = _without_tflite(load)
    if options.enable_batching:
        file = options.batching_parameters_file
        parameters = BatchingParameters.read(file) if file else BatchingParameters(thread_pool_name=_BATCH_THREADS)
        load = batching.loader(load, parameters, metrics, options.enable_per_model_batching_parameters)
    return ModelManager(
        load=load if metrics is None else metrics.timed(load),
        warm_up=functools.partial(warm_up, repeats=repeats) if options.enable_model_warmup else lambda servable: None,
        max_num_load_retries=options.max_num_load_retries,
        load_retry_interval=options.load_retry_interval_micros / 1e6,
        num_load_threads=max(options.num_load_threads, 1),
        num_unload_threads=max(options.num_unload_threads, 1),
    )


def _without_tflite(load: Load) -> Load:
    """Returns `load`, but for versions that TF Serving would answer from another model."""

    def check_and_load(name: str, version: int, path: Path) -> Servable:
        if (path / _TFLITE_MODEL).is_file():
            raise UserError(
                f"Expected no {_TFLITE_MODEL} in {path} beside --prefer_tflite_model, found one. This server has no "
                "TensorFlow Lite: drop the flag to serve the SavedModel, or the file."
            )
        return load(name, version, path)

    return check_and_load


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(listen: Callable[[str], int], address: str) -> int:
    try:
        bound = listen(address)
    except RuntimeError as error:
        raise _cannot_listen(address) from error
    if not bound:  # how grpcio before 1.60 reports it
        raise _cannot_listen(address)
    return bound


def _cannot_listen(address: str) -> UserError:
    return UserError(
        f"Expected to listen on {address}, the system refused. Stop what uses the address, choose another one, "
        "let port 0 pick a free one, or check the key and the certificate if there are any."
    )


def build_server(base_path: Path | None = None, model_name: str = schema.MODEL_NAME, **flags) -> Server:
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
def running(base_path: Path | None = None, port: int = 0, **flags) -> Iterator[Server]:
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


def serve(options: ServerOptions, on_ready: Callable[[Server], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then stops cleanly and returns.

    Signals reach only the main thread of a process, so call it there.

    Args:
        options: What to serve, and how.
        on_ready: Called once requests are answered, to tell people or a supervisor.

    Raises:
        UserError: See `Server`.
    """
    # What is imported stays, so the garbage collections after every unload need not look at it: a pause of tenths of a
    # second for all requests becomes one of milliseconds. Before the load, because a frozen version would never go.
    gc.freeze()
    try:
        server = Server(options)
        with _stop_signals() as stopping:  # until there is something to stop cleanly, a signal may end the process
            try:
                server.start()
                if on_ready is not None:
                    on_ready(server)
                stopping.wait()
            finally:
                server.stop()
    finally:
        gc.unfreeze()


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
