"""The client: candidates for histories, from the embedded server or any tensorflow_model_server with the same bundle.

Importing this imports TensorFlow (about 3 s): the TF Serving stubs need `tensorflow.core.framework`, and Python
imports the whole package on the way there. A face that must start fast imports this module late.
"""

import dataclasses
from collections.abc import Callable, Sequence

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from serving import messages, tensors
from serving.messages import Encoding, Retrieval
from tfdnc import schema
from tfdnc.errors import UserError

DEFAULT_TARGET = "127.0.0.1:8500"
DEFAULT_TIMEOUT = 10.0
"""Seconds."""

_SIGNATURE_DEF = "signature_def"


class RetrievalError(UserError):
    """A request that was not answered.

    Attributes:
        code: `grpc.StatusCode`.
        message: What the server said, or for UNAVAILABLE and DEADLINE_EXCEEDED what to do.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor in a signature: TensorFlow's short name of its dtype, and its shape, None where a size is open."""

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a signature, by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """State of one version: `AVAILABLE`, `LOADING`, ..., and what went wrong with it, or ""."""

    version: int
    state: str
    message: str


class RetrievalClient:
    """A connection to a server; safe to share between threads, and a context manager that closes it.

    Args:
        target: `host:port`.
        model_name: Name the model is served under.
        version: Version to ask, None for the latest.
        timeout: Seconds to wait for each answer.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        model_name: str = schema.MODEL_NAME,
        version: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ):
        self.target, self.timeout = target, timeout
        self._spec = model_pb2.ModelSpec(name=model_name)
        if version is not None:
            self._spec.version.value = version
        self._channel = grpc.insecure_channel(target, options=[("grpc.max_receive_message_length", -1)])
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def __enter__(self) -> "RetrievalClient":
        """Returns the client itself."""
        return self

    def __exit__(self, *_) -> None:
        """Closes the connection."""
        self.close()

    def close(self) -> None:
        """Closes the connection; requests under way are cancelled."""
        self._channel.close()

    def retrieve(
        self,
        histories: Sequence[Sequence[str]],
        num_candidates: int | Sequence[int] | None = None,
        alpha: float | Sequence[float] | None = None,
    ) -> list[Retrieval]:
        """Returns candidates for every history.

        Args:
            histories: [B] sequences of raw item ids, oldest first; unknown ids carry no signal, none is a cold start.
            num_candidates: Results wanted, for all users or one number each; None leaves it to the bundle.
            alpha: Exponent of the quota merge (>= 0; 0 shares equally, larger follows the intent more), for all users
                or one number each; None asks for the bundle's own merge. Needs `num_candidates`.

        Returns:
            [B] results.

        Raises:
            ValueError: Arguments that say nothing a server could answer.
            RetrievalError: The request was not answered.
        """
        request = messages.retrieve_request(histories, num_candidates, alpha)
        return self._predict(request, messages.read_retrievals) if histories else []

    def encode(self, histories: Sequence[Sequence[str]]) -> Encoding:
        """Returns user embeddings and intents of [B] histories, B at least 1.

        Raises:
            ValueError: No history, or one that is not a sequence of text.
            RetrievalError: The request was not answered.
        """
        if not histories:
            raise ValueError("Expected at least one history, got none.")
        return self._predict(messages.encode_request(histories), messages.read_encoding)

    def metadata(self) -> dict[str, Signature]:
        """Returns the signatures of the model by name.

        Raises:
            RetrievalError: The request was not answered.
        """
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=self._spec, metadata_field=[_SIGNATURE_DEF])
        response = self._call(self._prediction.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[_SIGNATURE_DEF].Unpack(signatures)
        return {
            key: Signature(_tensors(signature.inputs), _tensors(signature.outputs))
            for key, signature in signatures.signature_def.items()
        }

    def status(self) -> list[VersionStatus]:
        """Returns the state of every version of the model (or of the one this client asks).

        Raises:
            RetrievalError: The request was not answered.
        """
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec)
        response = self._call(self._model.GetModelStatus, request)
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return [
            VersionStatus(status.version, name(status.state), status.status.error_message)
            for status in response.model_version_status
        ]

    def _predict(self, request, read: Callable):
        request.model_spec.MergeFrom(self._spec)
        response = self._call(self._prediction.Predict, request)
        try:
            return read(response)
        except messages.ForeignModelError as error:
            raise RetrievalError(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from error

    def _call(self, method: Callable, request):
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise RetrievalError(error.code(), self._explain(error)) from error

    def _explain(self, error: grpc.RpcError) -> str:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return (
                f"Expected a server at {self.target}, none answered ({error.details()}). "
                "Start one with `tfdnc serve BUNDLE`, or give the address of one that runs."
            )
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return (
                f"Expected an answer from {self.target} within {self.timeout:g} s, none came. "
                "Look whether the server is overloaded, ask for less at once, or wait longer."
            )
        return error.details()


def _tensors(infos) -> dict[str, Tensor]:
    return {name: Tensor(tensors.type_name(info.dtype), _shape(info.tensor_shape)) for name, info in infos.items()}


def _shape(shape) -> tuple[int | None, ...] | None:
    if shape.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
