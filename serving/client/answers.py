"""Answers of a client besides candidates: errors, signatures and version states, read from TF Serving's messages."""

import dataclasses
from collections.abc import Mapping

import grpc
from tensorflow.core.framework import tensor_shape_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from serving import tensors
from tfdnc.contracts.errors import UserError

SIGNATURE_DEF = "signature_def"


class RetrievalError(UserError):
    """A request that was not answered.

    Attributes:
        code: `grpc.StatusCode`.
        message: Message of the server, with advice if the client knows some.
        rows: Histories of the call that it concerns, None if all.
        said: Message of the server alone, or of gRPC if no server answered.
    """

    def __init__(self, code: grpc.StatusCode, message: str, rows: range | None = None, said: str | None = None) -> None:
        concerned = f" (histories {rows[0]} to {rows[-1]})" if rows else ""
        super().__init__(f"{code.name}{concerned}: {message}")
        self.code = code
        self.message = message
        self.rows = rows
        self.said = message if said is None else said


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
    """State of one version: `AVAILABLE`, `LOADING`, ..., and the message of its error, or ""."""

    version: int
    state: str
    message: str

    def __str__(self) -> str:
        said = f" ({self.message})" if self.message else ""
        return f"version {self.version} is {self.state}{said}"


def read_signatures(response: get_model_metadata_pb2.GetModelMetadataResponse) -> dict[str, Signature]:
    """Returns the signatures of a model by name."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata[SIGNATURE_DEF].Unpack(signatures)
    return {
        key: Signature(_tensors(signature.inputs), _tensors(signature.outputs))
        for key, signature in signatures.signature_def.items()
    }


def read_status(response: get_model_status_pb2.GetModelStatusResponse) -> list[VersionStatus]:
    """Returns the states of versions in the order of the answer."""
    name = get_model_status_pb2.ModelVersionStatus.State.Name
    return [
        VersionStatus(status.version, name(status.state), status.status.error_message)
        for status in response.model_version_status
    ]


def highest_available(versions: list[VersionStatus]) -> int | None:
    """Returns the highest version that answers requests, None if there is none."""
    return max((status.version for status in versions if status.state == "AVAILABLE"), default=None)


def _tensors(infos: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, Tensor]:
    return {name: Tensor(tensors.type_name(info.dtype), _shape(info.tensor_shape)) for name, info in infos.items()}


def _shape(shape: tensor_shape_pb2.TensorShapeProto) -> tuple[int | None, ...] | None:
    if shape.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
