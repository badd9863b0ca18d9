"""Answers of a client besides candidates: errors, signatures and version states, read from TF Serving's messages."""

import dataclasses
from collections.abc import Mapping

import grpc
from tensorflow.core.framework import tensor_shape_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from serving import tensors
from tfdnc.contracts.bundle import Row
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.input_forms import declared_row

SIGNATURE_DEF = "signature_def"

_LONG_NAMES = {"float": "float32"}
"""Names of types in the rows of `contracts.bundle`, where they are not those of metadata."""


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
    return signatures_of(signatures.signature_def)


def signatures_of(found: Mapping[str, meta_graph_pb2.SignatureDef]) -> dict[str, Signature]:
    """Returns the signatures of a SavedModel by name."""
    return {key: Signature(_tensors(one.inputs), _tensors(one.outputs)) for key, one in found.items()}


def declared_inputs(signatures: Mapping[str, Signature]) -> list[Row]:
    """Returns the inputs that the config of a bundle's model declares, from its signatures."""
    inputs = signatures["encode"].inputs if "encode" in signatures else {}
    rows = (declared_row(name, _LONG_NAMES.get(tensor.dtype, tensor.dtype)) for name, tensor in inputs.items())
    return [row for row in rows if row is not None]


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
