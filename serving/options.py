"""Flags of the embedded server: those of tensorflow_model_server with their defaults, and a few of its own."""

import argparse
import dataclasses
import os
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from serving import upstream_flags
from tfdnc.contracts.errors import UserError

DEFAULT_HOST = "127.0.0.1"
"""Loopback, unlike TF Serving: the server authenticates no clients, so an operator must choose to open it to others."""

MAX_MESSAGE_BYTES = 64 << 20
"""Bytes of the largest request, and of the largest tensor that a request may describe. TF Serving has no limit. A
history of 200 ids takes a few KB, so the limit only stops requests made by mistake."""


_MAY_BE_NEGATIVE = ("load_retry_interval_micros", "rest_api_timeout_in_ms")
"""Flags that take a negative number: no wait, or no deadline."""


def default_threads() -> int:
    """Returns the number of threads that answer requests, 4 per CPU as in TF Serving."""
    return 4 * (os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Options of a server; every field is a flag of the same name, annotated with its help.

    Raises:
        UserError: Values out of range, or values that contradict each other.
    """

    host: Annotated[str, "address to bind the ports to; TF Serving binds 0.0.0.0"] = DEFAULT_HOST
    port: Annotated[int, "gRPC port, 0 for any free one"] = 8500
    grpc_socket_path: Annotated[Path | None, "also answer gRPC on this Unix socket"] = None
    rest_api_port: Annotated[int, "port of the REST API and of the metrics, 0 for none"] = 0
    rest_api_num_threads: Annotated[int, "threads that answer REST requests, 0 for 4 per CPU"] = 0
    rest_api_timeout_in_ms: Annotated[int, "deadline of a REST request, 0 or less for none"] = 30_000
    rest_api_enable_cors_support: Annotated[bool, "let pages of other sites read REST answers"] = False
    model_name: Annotated[str, "name that clients ask for, unless there is a model_config_file"] = "default"
    model_base_path: Annotated[Path | None, "folder of numbered versions, or one version"] = None
    model_config_file: Annotated[Path | None, "ModelServerConfig in text format; the two above are ignored"] = None
    request_log: Annotated[Path | None, "folder of a log of requests; with a model_config_file say logging_config"] = (
        None
    )
    request_log_rate: Annotated[float, "share of the requests to log, from 0 to 1"] = 1.0
    model_config_file_poll_wait_seconds: Annotated[int, "seconds between two readings of that file, 0: only once"] = 0
    file_system_poll_wait_seconds: Annotated[int, "seconds between two looks for new versions, 0: only once"] = 1
    max_num_load_retries: Annotated[int, "how often a version that fails to load is tried again"] = 5
    load_retry_interval_micros: Annotated[int, "microseconds between two tries"] = 60_000_000
    num_load_threads: Annotated[int, "versions that are loaded at a time; 0 is 1"] = 0
    num_unload_threads: Annotated[int, "versions that are unloaded at a time; 0 is 1"] = 0
    allow_version_labels_for_unavailable_models: Annotated[bool, "new labels may name versions not available"] = False
    enable_model_warmup: Annotated[bool, "replay a version's warm-up requests before it answers others"] = True
    num_request_iterations_for_warmup: Annotated[int, "how often each of them is replayed; 0 is once"] = 0
    enable_batching: Annotated[bool, "answer several requests by one run of the graph"] = False
    batching_parameters_file: Annotated[Path | None, "BatchingParameters in text format"] = None
    enable_per_model_batching_parameters: Annotated[bool, "batch by the file batching_params.pbtxt of a version"] = (
        False
    )
    saved_model_tags: Annotated[str, "comma-separated tags of the graph to load from a SavedModel"] = "serve"
    prefer_tflite_model: Annotated[bool, "refuse versions with a model.tflite, which TF Serving would run"] = False
    tensorflow_session_config_file: Annotated[Path | None, "ConfigProto of the models' sessions, text format"] = None
    tensorflow_session_parallelism: Annotated[int, "threads for both of the next two, 0: as TensorFlow chooses"] = 0
    tensorflow_intra_op_parallelism: Annotated[int, "threads that one op is spread over, 0: as TensorFlow chooses"] = 0
    tensorflow_inter_op_parallelism: Annotated[int, "threads that run ops side by side, 0: as TensorFlow chooses"] = 0
    per_process_gpu_memory_fraction: Annotated[float, "share of the memory of a GPU, 0: as TensorFlow chooses"] = 0.0
    monitoring_config_file: Annotated[Path | None, "MonitoringConfig in text format"] = None
    ssl_config_file: Annotated[Path | None, "SSLConfig in text format: gRPC over TLS only"] = None
    grpc_channel_arguments: Annotated[str, "comma-separated KEY=VALUE for gRPC"] = ""
    grpc_max_threads: Annotated[int, "threads that answer gRPC requests, 0 for 4 per CPU"] = 0
    enable_grpc_healthcheck_service: Annotated[bool, "answer grpc.health.v1.Health"] = False
    enable_signature_method_name_check: Annotated[bool, "Classify and Regress insist on the method name"] = False
    enable_serialization_as_tensor_content: Annotated[bool, "Predict over gRPC answers in tensor_content"] = False
    max_message_bytes: Annotated[int, "largest request; TF Serving has no such flag and no limit"] = MAX_MESSAGE_BYTES

    def __post_init__(self) -> None:
        if self.model_base_path is None and self.model_config_file is None:
            raise UserError("Expected model_base_path or model_config_file, got neither. Say what to serve.")
        if self.request_log is not None and self.model_config_file is not None:
            raise UserError(
                "Expected no request_log beside model_config_file, got both. Give each model a logging_config instead."
            )
        if not 0 <= self.request_log_rate <= 1:
            raise UserError(f"Expected a request_log_rate from 0 to 1, got {self.request_log_rate:g}. Correct it.")
        if self.batching_parameters_file and not self.enable_batching:
            raise UserError("Expected enable_batching beside batching_parameters_file, it is off. Add it.")
        if (
            self.tensorflow_session_parallelism
            and self.tensorflow_intra_op_parallelism
            and self.tensorflow_inter_op_parallelism
        ):
            raise UserError(
                "Expected either tensorflow_session_parallelism or tensorflow_intra_op_parallelism and "
                "tensorflow_inter_op_parallelism, got all three. Drop one or two."
            )
        # TF Serving takes negative polling intervals for its own tests, where a server without polling serves nothing.
        for name in (name for name, kind, _ in _fields() if kind is int and name not in _MAY_BE_NEGATIVE):
            if getattr(self, name) < 0 and not name.endswith("port"):
                raise UserError(f"Expected {name} of 0 or more, got {getattr(self, name)}. Correct it.")
        for name in ("port", "rest_api_port"):
            if not 0 <= getattr(self, name) < 2**16:
                raise UserError(f"Expected a {name} from 0 to 65535, got {getattr(self, name)}. Choose another one.")
        if self.rest_api_port and self.rest_api_port == self.port:
            raise UserError(f"Expected two ports, got {self.port} for gRPC and for REST. Choose another one for REST.")
        if not 0 < self.max_message_bytes < 2**31:
            raise UserError(f"Expected max_message_bytes of less than 2 GB, got {self.max_message_bytes}. Correct it.")
        self.channel_arguments()

    @property
    def grpc_threads(self) -> int:
        """Threads that answer gRPC requests."""
        return self.grpc_max_threads or default_threads()

    @property
    def rest_timeout(self) -> float | None:
        """Seconds that a REST request may take, None for no limit."""
        return self.rest_api_timeout_in_ms / 1e3 if self.rest_api_timeout_in_ms > 0 else None

    @property
    def rest_threads(self) -> int:
        """Threads that answer REST requests."""
        return self.rest_api_num_threads or default_threads()

    def channel_arguments(self) -> list[tuple[str, int | str]]:
        """Returns `grpc_channel_arguments` for gRPC; a value that can be an int32 is one, as in TF Serving.

        Raises:
            UserError: A part is not KEY=VALUE.
        """
        arguments: list[tuple[str, int | str]] = []
        for part in filter(None, self.grpc_channel_arguments.split(",")):
            key, equals, value = part.partition("=")
            if not key or not equals:
                raise UserError(f"Expected KEY=VALUE in grpc_channel_arguments, got {part!r}. Correct it.")
            arguments.append((key, int(value) if _is_int32(value) else value))
        return arguments


def add_flags(parser: argparse.ArgumentParser, **defaults: object) -> None:
    """Adds a flag per field of `ServerOptions`, as `--port=8500` or `--port 8500`; booleans also as a bare `--flag`.

    Args:
        parser: Parser to add the flags to.
        **defaults: Defaults that differ from TF Serving's, by field; None leaves the flag out.
    """
    for field, kind, text in _fields():
        default = defaults.get(field, getattr(ServerOptions, field))
        if field in defaults and default is None:
            continue
        shown = "" if default in (None, "") else f" (default: {str(default).lower()})"
        _add_flag(parser, field, kind, default, text + shown)
    for field, (kind, text) in upstream_flags.IDLE.items():
        _add_flag(parser, field, kind, argparse.SUPPRESS, f"does nothing here: {text}")
    for field, (kind, text) in upstream_flags.REFUSED.items():
        _add_flag(parser, field, kind, argparse.SUPPRESS, f"refused: {text}")


def _add_flag(parser: argparse.ArgumentParser, name: str, kind: type, default: object, text: str) -> None:
    settings: dict[str, Any] = {"default": default, "help": text, "type": _boolean if kind is bool else kind}
    if kind is bool:
        settings |= {"nargs": "?", "const": True, "metavar": "true|false"}
    parser.add_argument(f"--{name}", **settings)


def from_arguments(arguments: argparse.Namespace, **others: Any) -> ServerOptions:  # `Any`: the type of each field
    """Returns the options of parsed flags, with `others` for the flags that `add_flags` left out.

    Raises:
        UserError: See `ServerOptions` and `upstream_flags.settle`.
    """
    upstream_flags.settle(vars(arguments))
    names = {name for name, _, _ in _fields()}
    return ServerOptions(**{key: value for key, value in vars(arguments).items() if key in names}, **others)


def _fields() -> Iterator[tuple[str, type, str]]:
    """Yields name, type without None, and help of every field."""
    for field in dataclasses.fields(ServerOptions):
        kind, text = typing.get_args(field.type)
        yield field.name, next(iter(typing.get_args(kind)), kind), text


def _is_int32(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= 10 and -(2**31) <= int(text) < 2**31


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text == "true"
