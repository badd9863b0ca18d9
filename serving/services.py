"""The two gRPC services of TF Serving that the server answers: PredictionService and ModelService."""

import functools
import time
from collections.abc import Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message
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
from serving.loaded_version import LoadedVersion
from serving.manager import ModelManager
from serving.metrics import Metrics
from serving.predict import predict
from serving.request_log import RequestLogs
from serving.status import invalid_argument, status_of

SIGNATURE_DEF = "signature_def"
"""The only metadata field that TF Serving knows."""

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


def answer(
    handle: Callable[[Request], Response],
    request: Request,
    context: grpc.ServicerContext,
    observe: Callable[[grpc.StatusCode, float], None] | None = None,
) -> Response:
    """Returns the response of `handle`; an error that it raises becomes the status of the RPC.

    Args:
        handle: Answers the request.
        request: Must have a `model_spec` if its message type has that field.
        context: gRPC's context of the call.
        observe: Called with status and seconds after the response or the error.
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
    raise AssertionError("unreachable: gRPC's abort raises")


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """The RPCs on the models of a manager; the methods in lower case do the same for callers other than gRPC.

    Args:
        manager: Holds the models.
        max_tensor_bytes: See `tensors.decode`.
        check_method_names: See `Inference`.
        metrics: Counts the RPCs.
        as_content: Write the outputs of Predict as `tensor_content`.
        request_logs: Samples the calls of Predict; None for no log.
    """

    def __init__(
        self,
        manager: ModelManager,
        max_tensor_bytes: int | None = None,
        check_method_names: bool = False,
        metrics: Metrics | None = None,
        as_content: bool = False,
        request_logs: RequestLogs | None = None,
    ) -> None:
        self._manager = manager
        self._request_logs = request_logs
        self._as_content = as_content
        self._max_tensor_bytes = max_tensor_bytes
        self._check_method_names = check_method_names
        self._metrics = metrics

    def Predict(  # noqa: N802 - the RPC's name
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs one signature of one version."""
        return self._answer("Predict", self.predict, request, request.model_spec.name, context)

    def Classify(  # noqa: N802
        self, request: classification_pb2.ClassificationRequest, context: grpc.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        """Returns the classes of examples."""
        return self._answer("Classify", self.classify, request, request.model_spec.name, context)

    def Regress(  # noqa: N802
        self, request: regression_pb2.RegressionRequest, context: grpc.ServicerContext
    ) -> regression_pb2.RegressionResponse:
        """Returns the values of examples."""
        return self._answer("Regress", self.regress, request, request.model_spec.name, context)

    def MultiInference(  # noqa: N802
        self, request: inference_pb2.MultiInferenceRequest, context: grpc.ServicerContext
    ) -> inference_pb2.MultiInferenceResponse:
        """Classifies and regresses the same examples by several signatures."""
        return self._answer("MultiInference", self.multi_inference, request, _first_spec(request).name, context)

    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Returns the signatures of one version."""
        return answer(self.metadata, request, context)

    def _answer(
        self,
        api: str,
        handle: Callable[[Request, float | None, deadlines.Abandoned | None], Response],
        request: Request,
        model: str,
        context: grpc.ServicerContext,
    ) -> Response:
        def observe(code: grpc.StatusCode, seconds: float) -> None:
            if self._metrics is not None:
                self._metrics.observe_request(model, api, "GRPC", code.name, seconds)

        def handle_in_time(request: Request) -> Response:
            return handle(request, deadlines.of(context), lambda: not context.is_active())

        return answer(handle_in_time, request, context, observe)

    def predict(
        self,
        request: predict_pb2.PredictRequest,
        deadline: float | None = None,
        abandoned: deadlines.Abandoned | None = None,
    ) -> predict_pb2.PredictResponse:
        """Answers Predict; `deadline` and `abandoned` are those of `serving.deadline`, also in the methods below.

        Raises:
            ServingError: No such version, or see `predict.predict`. The methods below raise the errors of `Inference`.
            tf.errors.OpError: The graph failed on the request.
        """
        with self._manager.lease(request.model_spec) as servable:
            response = predict(servable, request, self._max_tensor_bytes, deadline, abandoned, self._as_content)
            self.log(servable, request, response)
            return response

    def log(
        self, servable: LoadedVersion, request: predict_pb2.PredictRequest, response: predict_pb2.PredictResponse
    ) -> None:
        """Hands a call of Predict that `servable` has answered to the request log, if there is one."""
        if self._request_logs is not None:
            self._request_logs.sample(servable, request, response)

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
        """Answers MultiInference by the version of the first task."""
        with self._manager.lease(_first_spec(request)) as servable:
            return self._inference(servable, deadline, abandoned).multi(request)

    def _inference(
        self, servable: LoadedVersion, deadline: float | None, abandoned: deadlines.Abandoned | None
    ) -> Inference:
        return Inference(servable, self._max_tensor_bytes, self._check_method_names, deadline, abandoned)

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Answers GetModelMetadata.

        Raises:
            ServingError: No such version, or no such metadata.
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

    def __init__(
        self, manager: ModelManager, reload: Callable[[model_server_config_pb2.ModelServerConfig], None]
    ) -> None:
        self._manager = manager
        self._reload_config = reload

    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the state of one version, or of all versions of a model."""
        return answer(functools.partial(model_status, self._manager), request, context)

    def HandleReloadConfigRequest(  # noqa: N802
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replaces the models; answers when the new ones are available."""
        return answer(self._reload, request, context)

    def _reload(self, request: model_management_pb2.ReloadConfigRequest) -> model_management_pb2.ReloadConfigResponse:
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        self._reload_config(request.config)
        response = model_management_pb2.ReloadConfigResponse(status=status_pb2.StatusProto())
        for name in request.metric_names:  # TensorFlow's own metrics, not counted here: 0, as for an unknown name
            response.metric.add(name=name, int64_value_increase=0)
        return response
