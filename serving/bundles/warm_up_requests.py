"""Warm-up requests of a version from a request log: those of real clients, in their sizes, beside the exported ones."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.bundles.bundle import read_manifest
from serving.bundles.request_log import read_request_log
from serving.warmup import MAX_RECORDS
from tfdnc.contracts import bundle
from tfdnc.contracts.bundle import Row
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.request_inputs import manifest_features

_OF_A_VERSION = {"K or 1", "K", "V", "D"}
"""Letters of shapes whose sizes differ between versions."""


def add_logged_requests(version_folder: Path, log: Sequence[Path], most: int) -> int:
    """Adds requests of a log to the warm-up file of a version; returns their number.

    They are taken evenly from the whole log. Requests that this version may refuse are left out, because a server does
    not load a version whose warm-up fails: with other inputs than it has, with tensors whose shape depends on the
    clusters or vectors of one version, and with conditions on attributes. The file is replaced, not changed.

    Args:
        version_folder: Folder of a version that no server has loaded.
        log: Files and folders of a request log.
        most: Most requests to add; with the exported ones at most `serving.warmup.MAX_RECORDS`.

    Raises:
        UserError: The log cannot be read, or has no suitable request.
    """
    file = version_folder / bundle.WARMUP_ASSET
    exported = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator()) if file.is_file() else []
    config = read_manifest(version_folder).get("config")
    features = [row for one in (manifest_features(config) if config else ()) for row in one.request_rows]
    suitable = [one.request for one in read_request_log(log) if _is_suitable(one.request, features)]
    if not suitable:
        raise UserError(
            f"Expected requests in {', '.join(map(str, log))} that {version_folder} certainly answers, found none. "
            "Name other files, or publish without --warm-up."
        )
    count = min(most, len(suitable), MAX_RECORDS - len(exported))
    chosen = [suitable[number * len(suitable) // count] for number in range(count)]
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)  # it may be a hard link
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in [*exported, *map(_record, chosen)]:
            writer.write(record)
    return count


def _is_suitable(request: predict_pb2.PredictRequest, features: Sequence[Row]) -> bool:
    """Returns True for a request with the inputs of a version, in shapes that do not depend on the version."""
    name = request.model_spec.signature_name
    if name not in bundle.SIGNATURES:
        return False
    declared = bundle.signature(name, features)
    if set(declared.input_names) != set(request.inputs):
        return False
    bound = {row.name for row in declared.inputs if _OF_A_VERSION & set(row.shape)}
    shapes = (tensor.tensor_shape.dim for name, tensor in request.inputs.items() if name in bound)
    return all(len(shape) == 2 and shape[1].size == 1 for shape in shapes)


def _record(request: predict_pb2.PredictRequest) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(request)
    spec = log.predict_log.request.model_spec
    spec.Clear()
    spec.name, spec.signature_name = bundle.MODEL_NAME, request.model_spec.signature_name
    return bytes(log.SerializeToString())
