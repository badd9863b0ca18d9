"""The two gRPC services of TF Serving that the server answers: PredictionService and ModelService."""

from collections.abc import Callable
from typing import TypeVar

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
    status_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from serving import deadline as deadlines
from serving.manager import ModelManager
from serving.predict import predict
from serving.status import invalid_argument, status_of

SIGNATURE_DEF = "signature_def"
"""The only metadata field that TF Serving knows."""

Request, Response = TypeVar("Request"), TypeVar("Response")


def answer(handle: Callable[[Request], Response], request: Request, context: grpc.ServicerContext) -> Response:
    """Returns what `handle` makes of a request; whatever it raises becomes the status of the RPC, and nothing more."""
    try:
        if "model_spec" in request.DESCRIPTOR.fields_by_name and not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        return handle(request)
    except Exception as error:
        code, message = status_of(error)
    context.abort(code, message)


def _unimplemented(name: str) -> Callable:
    def handle(self, request, context):
        context.abort(grpc.StatusCode.UNIMPLEMENTED, f"This server does not answer {name}; it answers Predict.")

    handle.__doc__ = f"Refuses {name}."
    return handle


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata over the models of a manager.

    Args:
        manager: Holds the models.
        max_tensor_bytes: See `tensors.decode`.
    """

    Classify = _unimplemented("Classify")
    Regress = _unimplemented("Regress")
    MultiInference = _unimplemented("MultiInference")

    def __init__(self, manager: ModelManager, max_tensor_bytes: int | None = None):
        self._manager = manager
        self._max_tensor_bytes = max_tensor_bytes

    def Predict(self, request, context):  # noqa: N802 - the RPC's name
        """Runs one signature of one version."""
        return answer(lambda request: self._predict(request, context), request, context)

    def GetModelMetadata(self, request, context):  # noqa: N802
        """Returns the signatures of one version."""
        return answer(self._metadata, request, context)

    def _predict(self, request, context):
        with self._manager.lease(request.model_spec) as servable:
            return predict(
                servable, request, self._max_tensor_bytes, deadlines.of(context), lambda: not context.is_active()
            )

    def _metadata(self, request):
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise invalid_argument(f"Metadata field {field} is not supported")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._manager.lease(request.model_spec) as servable:
            response.model_spec.name = servable.name
            response.model_spec.version.value = servable.version
            for key, signature in servable.signatures.items():
                signatures.signature_def[key].CopyFrom(signature)
                signatures.signature_def[key].ClearField("defaults")  # TF Serving keeps them to itself
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest.

    Args:
        manager: Holds the models.
        reload: Replaces the models by those of a config; see `ModelSource.reload`.
    """

    def __init__(self, manager: ModelManager, reload: Callable[[model_server_config_pb2.ModelServerConfig], None]):
        self._manager = manager
        self._reload_config = reload

    def GetModelStatus(self, request, context):  # noqa: N802
        """Returns the state of one version, or of all versions of a model."""
        return answer(self._status, request, context)

    def HandleReloadConfigRequest(self, request, context):  # noqa: N802
        """Replaces the models; answers when the new ones are available."""
        return answer(self._reload, request, context)

    def _status(self, request):
        response = get_model_status_pb2.GetModelStatusResponse()
        for state in self._manager.states(request.model_spec):
            status = response.model_version_status.add(version=state.version, state=state.state)
            status.status.error_code = state.code.value[0]
            status.status.error_message = state.message
        return response

    def _reload(self, request):
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        self._reload_config(request.config)
        return model_management_pb2.ReloadConfigResponse(status=status_pb2.StatusProto())
