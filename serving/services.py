"""The two gRPC services of TF Serving that the server answers: PredictionService and ModelService."""

import functools
import time
from collections.abc import Callable
from typing import TypeVar

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
    status_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from serving import deadline as deadlines
from serving.inference import Inference
from serving.manager import ModelManager
from serving.metrics import Metrics
from serving.predict import predict
from serving.servable import LoadedVersion
from serving.status import invalid_argument, status_of

SIGNATURE_DEF = "signature_def"
"""The only metadata field that TF Serving knows."""

Request, Response = TypeVar("Request"), TypeVar("Response")


def answer(
    handle: Callable[[Request], Response],
    request: Request,
    context: grpc.ServicerContext,
    observe: Callable[[grpc.StatusCode, float], None] | None = None,
) -> Response:
    """Returns what `handle` makes of a request; whatever it raises becomes the status of the RPC, and nothing more.

    Args:
        handle: Answers the request.
        request: If its kind has a model_spec, it must have one.
        context: Of the RPC.
        observe: Told status and seconds in the end.
    """
    started, code = time.perf_counter(), grpc.StatusCode.OK
    try:
        if "model_spec" in request.DESCRIPTOR.fields_by_name and not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        return handle(request)
    except Exception as error:
        code, message = status_of(error)
    finally:
        if observe is not None:
            observe(code, time.perf_counter() - started)
    context.abort(code, message)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """What can be asked of the models of a manager; the RPCs, and in small letters the same for other doors.

    Args:
        manager: Holds the models.
        max_tensor_bytes: See `tensors.decode`.
        check_method_names: See `Inference`.
        metrics: Counts the RPCs.
        as_content: Write the outputs of Predict as `tensor_content`.
    """

    def __init__(
        self,
        manager: ModelManager,
        max_tensor_bytes: int | None = None,
        check_method_names: bool = False,
        metrics: Metrics | None = None,
        as_content: bool = False,
    ):
        self._manager = manager
        self._as_content = as_content
        self._max_tensor_bytes = max_tensor_bytes
        self._check_method_names = check_method_names
        self._metrics = metrics

    def Predict(self, request, context):  # noqa: N802 - the RPC's name
        """Runs one signature of one version."""
        return self._answer("Predict", self.predict, request, request.model_spec.name, context)

    def Classify(self, request, context):  # noqa: N802
        """Returns the classes of examples."""
        return self._answer("Classify", self.classify, request, request.model_spec.name, context)

    def Regress(self, request, context):  # noqa: N802
        """Returns the values of examples."""
        return self._answer("Regress", self.regress, request, request.model_spec.name, context)

    def MultiInference(self, request, context):  # noqa: N802
        """Classifies and regresses the same examples by several signatures."""
        return self._answer("MultiInference", self.multi_inference, request, _first_spec(request).name, context)

    def GetModelMetadata(self, request, context):  # noqa: N802
        """Returns the signatures of one version."""
        return answer(self.metadata, request, context)

    def _answer(self, api: str, handle: Callable, request, model: str, context: grpc.ServicerContext):
        def observe(code: grpc.StatusCode, seconds: float) -> None:
            self._metrics.observe_request(model, api, "GRPC", code.name, seconds)

        def handle_in_time(request):
            return handle(request, deadlines.of(context), lambda: not context.is_active())

        return answer(handle_in_time, request, context, None if self._metrics is None else observe)

    def predict(
        self,
        request: predict_pb2.PredictRequest,
        deadline: float | None = None,
        abandoned: deadlines.Abandoned | None = None,
    ) -> predict_pb2.PredictResponse:
        """Answers Predict; `deadline` and `abandoned` are those of `serving.deadline`, here and below.

        Raises:
            ServingError: There is no such version, or see `predict.predict`; below, see `inference`.
            tf.errors.OpError: The graph failed on the request.
        """
        with self._manager.lease(request.model_spec) as servable:
            return predict(servable, request, self._max_tensor_bytes, deadline, abandoned, self._as_content)

    def classify(
        self,
        request: classification_pb2.ClassificationRequest,
        deadline: float | None = None,
        abandoned: deadlines.Abandoned | None = None,
    ) -> classification_pb2.ClassificationResponse:
        """Answers Classify."""
        with self._manager.lease(request.model_spec) as servable:
            return self._inference(servable, deadline, abandoned).classify(request)

    def regress(
        self,
        request: regression_pb2.RegressionRequest,
        deadline: float | None = None,
        abandoned: deadlines.Abandoned | None = None,
    ) -> regression_pb2.RegressionResponse:
        """Answers Regress."""
        with self._manager.lease(request.model_spec) as servable:
            return self._inference(servable, deadline, abandoned).regress(request)

    def multi_inference(
        self,
        request: inference_pb2.MultiInferenceRequest,
        deadline: float | None = None,
        abandoned: deadlines.Abandoned | None = None,
    ) -> inference_pb2.MultiInferenceResponse:
        """Answers MultiInference; the first task says which version."""
        with self._manager.lease(_first_spec(request)) as servable:
            return self._inference(servable, deadline, abandoned).multi(request)

    def _inference(self, servable: LoadedVersion, deadline, abandoned) -> Inference:
        return Inference(servable, self._max_tensor_bytes, self._check_method_names, deadline, abandoned)

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Answers GetModelMetadata.

        Raises:
            ServingError: There is no such version, or no such metadata.
        """
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
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response


def _first_spec(request: inference_pb2.MultiInferenceRequest) -> model_pb2.ModelSpec:
    return request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()


def model_status(
    manager: ModelManager, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Answers GetModelStatus.

    Raises:
        ServingError: See `ModelManager.states`.
    """
    response = get_model_status_pb2.GetModelStatusResponse()
    for state in manager.states(request.model_spec):
        status = response.model_version_status.add(version=state.version, state=state.state)
        status.status.error_code = state.code.value[0]
        status.status.error_message = state.message
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
        return answer(functools.partial(model_status, self._manager), request, context)

    def HandleReloadConfigRequest(self, request, context):  # noqa: N802
        """Replaces the models; answers when the new ones are available."""
        return answer(self._reload, request, context)

    def _reload(self, request):
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        self._reload_config(request.config)
        response = model_management_pb2.ReloadConfigResponse(status=status_pb2.StatusProto())
        for name in request.metric_names:  # of TensorFlow's inside, which are not counted here: as of unknown ones
            response.metric.add(name=name, int64_value_increase=0)
        return response
