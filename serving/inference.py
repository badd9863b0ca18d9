"""Classify, Regress and MultiInference on one servable: from `tf.Example`s to labels, scores and values."""

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, model_pb2, regression_pb2

from serving import deadline as deadlines
from serving import tensors
from serving.loaded_version import LoadedVersion
from serving.predict import DEFAULT_SIGNATURE
from serving.status import ServingError, invalid_argument

_CLASSIFY, _REGRESS = tf.saved_model.CLASSIFY_METHOD_NAME, tf.saved_model.REGRESS_METHOD_NAME

# The names that a signature must give its tensors.
_INPUTS, _VALUES = tf.saved_model.CLASSIFY_INPUTS, tf.saved_model.REGRESS_OUTPUTS
_CLASSES, _SCORES = tf.saved_model.CLASSIFY_OUTPUT_CLASSES, tf.saved_model.CLASSIFY_OUTPUT_SCORES


class Inference:
    """Answers the three calls by one version.

    Args:
        servable: The version to run.
        max_tensor_bytes: Refuse examples that would take more bytes than this in memory, each with its context.
        check_method_names: Refuse signatures whose `method_name` is not the call's. TensorFlow 2 writes the one of
            Predict into every signature, so TF Serving does not check by default.
        deadline: See `serving.deadline`.
        abandoned: See `serving.deadline`.
    """

    def __init__(
        self,
        servable: LoadedVersion,
        max_tensor_bytes: int | None = None,
        check_method_names: bool = False,
        deadline: float | None = None,
        abandoned: deadlines.Abandoned | None = None,
    ) -> None:
        self._servable, self._max_tensor_bytes = servable, max_tensor_bytes
        self._check_method_names = check_method_names
        self._deadline, self._abandoned = deadline, abandoned

    def classify(self, request: classification_pb2.ClassificationRequest) -> classification_pb2.ClassificationResponse:
        """Answers one request.

        Raises:
            ServingError: INVALID_ARGUMENT: no example, no such signature, or one that does not classify.
            tf.errors.OpError: The graph failed on it.
        """
        response = classification_pb2.ClassificationResponse()
        signature = self._signature(request.model_spec, "No signature was found with the name: ")
        self._classify(request.model_spec, signature, self._examples(request.input), response.result)
        self._fill_spec(request.model_spec, response.model_spec)
        return response

    def regress(self, request: regression_pb2.RegressionRequest) -> regression_pb2.RegressionResponse:
        """Answers one request; raises as `classify`."""
        response = regression_pb2.RegressionResponse()
        signature = self._signature(request.model_spec, "No signature was found with the name: ")
        self._regress(request.model_spec, signature, self._examples(request.input), response.result)
        self._fill_spec(request.model_spec, response.model_spec)
        return response

    def multi(self, request: inference_pb2.MultiInferenceRequest) -> inference_pb2.MultiInferenceResponse:
        """Answers one request: every task classifies or regresses the same examples; raises as `classify`.

        All tasks are checked before the first one runs.
        """
        signatures = self._task_signatures(request)
        examples = self._examples(request.input)
        response = inference_pb2.MultiInferenceResponse()
        for task, signature in zip(request.tasks, signatures, strict=True):
            result = response.results.add()
            if task.method_name == _CLASSIFY:
                self._classify(task.model_spec, signature, examples, result.classification_result)
            else:
                self._regress(task.model_spec, signature, examples, result.regression_result)
            self._fill_spec(task.model_spec, result.model_spec)
        return response

    def _task_signatures(self, request: inference_pb2.MultiInferenceRequest) -> list[meta_graph_pb2.SignatureDef]:
        names: set[str] = set()
        found: list[meta_graph_pb2.SignatureDef] = []
        for task in request.tasks:
            spec = task.model_spec
            if not spec.name:
                raise invalid_argument("Found ModelSpec with an empty model name.")
            if spec.name != request.tasks[0].model_spec.name:
                raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
            if _key(spec) in names:
                raise invalid_argument(f"Duplicate evaluation of signature: {_key(spec)}")
            names.add(_key(spec))
            signature = self._signature(spec, "Requested signature not found in model graph: ")
            if task.method_name == _CLASSIFY:
                self._check_classifies(signature)
            elif task.method_name == _REGRESS:
                self._check_regresses(signature)
            else:
                raise ServingError(
                    grpc.StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
                )
            found.append(signature)
        return found

    def _signature(self, spec: model_pb2.ModelSpec, complaint: str) -> meta_graph_pb2.SignatureDef:
        if _key(spec) not in self._servable.signatures:
            raise invalid_argument(f"{complaint}{_key(spec)}")
        return self._servable.signatures[_key(spec)]

    def _classify(
        self,
        spec: model_pb2.ModelSpec,
        signature: meta_graph_pb2.SignatureDef,
        examples: np.ndarray,
        result: classification_pb2.ClassificationResult,
    ) -> None:
        outputs = self._run(spec, self._check_classifies(signature), examples)
        for alias, dtype in ((_CLASSES, "DT_STRING"), (_SCORES, "DT_FLOAT")):
            if alias in outputs:
                _check_matrix(alias, outputs[alias], dtype, len(examples))
        shape = next(iter(outputs.values())).shape  # at least one of the two is there
        classes = outputs[_CLASSES] if _CLASSES in outputs else np.full(shape, b"", object)
        scores: np.ndarray = outputs[_SCORES] if _SCORES in outputs else np.zeros(shape, np.float32)
        if classes.shape != scores.shape:
            raise invalid_argument(
                f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
            )
        for labels, numbers in zip(classes.tolist(), scores.tolist(), strict=True):
            classification = result.classifications.add()
            for label, number in zip(labels, numbers, strict=True):
                classification.classes.add(label=label.decode(errors="replace"), score=number)

    def _regress(
        self,
        spec: model_pb2.ModelSpec,
        signature: meta_graph_pb2.SignatureDef,
        examples: np.ndarray,
        result: regression_pb2.RegressionResult,
    ) -> None:
        values = self._run(spec, self._check_regresses(signature), examples)[_VALUES]
        if values.ndim != 1 and values.shape[1:] != (1,):
            raise invalid_argument(
                f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(values)}"
            )
        if len(values) != len(examples):
            raise invalid_argument(
                f"Input batch size did not match output batch size: {len(examples)} vs. {len(values)}"
            )
        if _dtype(values) != "DT_FLOAT":
            raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {_dtype(values)}")
        for value in values.ravel().tolist():
            result.regressions.add(value=value)

    def _run(self, spec: model_pb2.ModelSpec, outputs: list[str], examples: np.ndarray) -> dict[str, np.ndarray]:
        results = self._servable.run(_key(spec), {_INPUTS: examples}, outputs, self._deadline, self._abandoned)
        return {alias: np.asarray(value) for alias, value in results.items()}

    def _examples(self, content: input_pb2.Input) -> np.ndarray:
        """Returns the examples as the graph parses them: [B] bytes.

        The bytes of the context precede those of each example. A protobuf parser merges two messages in a row into one,
        and a field of the later message wins.
        """
        context = b""
        examples = content.example_list.examples
        if content.WhichOneof("kind") == "example_list_with_context":
            context = content.example_list_with_context.context.SerializeToString()
            examples = content.example_list_with_context.examples
        if not examples:
            raise invalid_argument("Input is empty.")
        # A long context with a million empty examples fits into a message, but not into memory.
        size = content.ByteSize() + len(examples) * (len(context) + tensors.STRING_BYTES)
        if self._max_tensor_bytes is not None and size > self._max_tensor_bytes:
            raise invalid_argument(
                f"{len(examples)} examples with their context ask for {size} bytes, more than the "
                f"{self._max_tensor_bytes} that one tensor may take"
            )
        return np.array([context + example.SerializeToString() for example in examples], object)

    def _check_classifies(self, signature: meta_graph_pb2.SignatureDef) -> list[str]:
        """Returns the outputs to ask for."""
        self._check_method(signature, _CLASSIFY, "classification")
        if len(signature.inputs) != 1:
            raise invalid_argument("Expected one input Tensor.")
        if len(signature.outputs) not in (1, 2):
            raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
        if _INPUTS not in signature.inputs:
            raise invalid_argument(f"No classification inputs found in SignatureDef: {signature}")
        found = [alias for alias in (_CLASSES, _SCORES) if alias in signature.outputs]
        if not found:
            raise invalid_argument(
                "Expected classification signature outputs to contain at least one of "
                f'"{_CLASSES}" or "{_SCORES}". Signature was: {signature}'
            )
        return found

    def _check_regresses(self, signature: meta_graph_pb2.SignatureDef) -> list[str]:
        """Returns the outputs to ask for."""
        self._check_method(signature, _REGRESS, "regression")
        if len(signature.inputs) != 1:
            raise invalid_argument("Expected one input Tensor.")
        if len(signature.outputs) != 1:
            raise invalid_argument("Expected one output Tensor.")
        if _INPUTS not in signature.inputs:
            raise invalid_argument(f"No regression inputs found in SignatureDef: {signature}")
        if _VALUES not in signature.outputs:
            raise invalid_argument(f"No regression outputs found in SignatureDef: {signature}")
        return [_VALUES]

    def _check_method(self, signature: meta_graph_pb2.SignatureDef, method: str, call: str) -> None:
        if self._check_method_names and signature.method_name != method:
            raise invalid_argument(
                f"Expected {call} signature method_name to be {method}. Was: {signature.method_name}"
            )

    def _fill_spec(self, asked: model_pb2.ModelSpec, answered: model_pb2.ModelSpec) -> None:
        answered.name = asked.name
        answered.signature_name = _key(asked)
        answered.version.value = self._servable.version


def _key(spec: model_pb2.ModelSpec) -> str:
    return spec.signature_name or DEFAULT_SIGNATURE


def _check_matrix(alias: str, array: np.ndarray, dtype: str, rows: int) -> None:
    if array.ndim != 2:
        raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
    if _dtype(array) != dtype:
        raise invalid_argument(f"Expected {alias} Tensor of {dtype}. Got: {_dtype(array)}")
    if len(array) != rows:
        raise invalid_argument(f"Expected {alias} output batch size of {rows}. Got: {len(array)}")


def _dtype(array: np.ndarray) -> str:
    return types_pb2.DataType.Name(tf.as_dtype(array.dtype).as_datatype_enum)


def _shape(array: np.ndarray) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"
