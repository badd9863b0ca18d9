"""Predict on one servable: a request is checked against its signature, run, and answered, as TF Serving does it."""

from collections.abc import Iterable, Mapping

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from serving import deadline as deadlines
from serving import tensors
from serving.servable import LoadedVersion
from serving.status import ServingError, invalid_argument, status_of

DEFAULT_SIGNATURE = "serving_default"


def predict(
    servable: LoadedVersion,
    request: predict_pb2.PredictRequest,
    max_tensor_bytes: int | None = None,
    deadline: float | None = None,
    abandoned: deadlines.Abandoned | None = None,
    as_content: bool = False,
) -> predict_pb2.PredictResponse:
    """Answers one request; the response names the signature and the version that answered.

    Args:
        servable: The version to ask.
        request: Its `model_spec` says only the signature here; the version was chosen by whoever chose `servable`.
        max_tensor_bytes: See `tensors.decode`.
        deadline: See `serving.deadline`.
        abandoned: See `serving.deadline`.
        as_content: See `tensors.encode`.

    Raises:
        ServingError: The request does not fit the signature, or nobody waits for the answer any more.
        tf.errors.OpError: The graph failed on it.
    """
    key = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signature(key)
    feeds = bind_inputs(signature, request.inputs, max_tensor_bytes)
    outputs = choose_outputs(signature, request.output_filter)
    try:
        results = servable.run(key, feeds, outputs, deadline, abandoned)
    except (tf.errors.DeadlineExceededError, tf.errors.CancelledError):
        raise
    except tf.errors.OpError as error:
        raise _explained(error, signature, feeds) from error
    response = predict_pb2.PredictResponse()
    response.model_spec.name = request.model_spec.name or servable.name
    response.model_spec.signature_name = key
    response.model_spec.version.value = servable.version
    for alias, array in results.items():
        try:
            tensors.encode(np.asarray(array), response.outputs[alias], as_content)
        except TypeError as error:
            raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f'output "{alias}" cannot be sent: {error}') from error
    return response


def bind_inputs(
    signature: meta_graph_pb2.SignatureDef,
    inputs: Mapping[str, tensor_pb2.TensorProto],
    max_tensor_bytes: int | None = None,
) -> dict[str, np.ndarray]:
    """Returns the arrays to feed, by input name: the sent ones, and the signature's defaults for what was left out.

    Shapes are not compared with the signature here: TF Serving leaves that to the graph.

    Args:
        signature: The signature.
        inputs: Map from name to `TensorProto`, as sent.
        max_tensor_bytes: See `tensors.decode`.

    Raises:
        ServingError: INVALID_ARGUMENT: wrong names, a malformed tensor, or a wrong dtype.
    """
    _check_names(signature, inputs)
    feeds = {}
    for position, (alias, info) in enumerate(sorted(signature.inputs.items())):
        # Indexing a protobuf map adds the key, so ask first.
        proto = inputs[alias] if alias in inputs else signature.defaults[alias]
        if proto.dtype != info.dtype:
            raise invalid_argument(
                f'Expects input "{alias}" (arg[{position}]) to be {tensors.type_name(info.dtype)} '
                f"but {tensors.type_name(proto.dtype)} is provided"
            )
        try:
            feeds[alias] = tensors.decode(proto, max_tensor_bytes)
        except tensors.MalformedTensorError as error:
            raise invalid_argument(f"tensor parsing error: {alias}: {error}") from error
    return feeds


def _check_names(signature: meta_graph_pb2.SignatureDef, inputs: Iterable[str]) -> None:
    sent, wanted = set(inputs), set(signature.inputs)
    extra, missing = sent - wanted, wanted - sent - set(signature.defaults)
    if extra or missing:
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"len({_braces(sent)}) != len({_braces(wanted)}). "
            f"Sent extra: {_braces(extra)}. Missing but required: {_braces(missing)}."
        )


def choose_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Iterable[str]) -> list[str]:
    """Returns the names of the outputs asked for: those in the filter, or all if it is empty.

    Raises:
        ServingError: INVALID_ARGUMENT: a name that the signature lacks, or one named twice.
    """
    chosen: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {_braces(signature.outputs)}."
            )
        if alias in chosen:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        chosen.append(alias)
    return chosen or list(signature.outputs)


def _explained(
    error: tf.errors.OpError, signature: meta_graph_pb2.SignatureDef, feeds: dict[str, np.ndarray]
) -> Exception:
    """Returns INVALID_ARGUMENT with a sentence if the graph failed on a shape the signature excludes, else `error`."""
    misfits = []
    for alias, array in feeds.items():
        declared = tf.TensorShape(signature.inputs[alias].tensor_shape)
        if not declared.is_compatible_with(array.shape):
            misfits.append(f'input "{alias}" should have shape {_shape(declared)}, came {_shape(array.shape)}')
    if not misfits:
        return error
    return invalid_argument(f"{'; '.join(misfits)}: {status_of(error)[1]}")


def _shape(shape: Iterable[int | None]) -> str:
    sizes = [None if size is None else int(size) for size in shape]
    return "[" + ", ".join("?" if size is None else str(size) for size in sizes) + "]"


def _braces(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
