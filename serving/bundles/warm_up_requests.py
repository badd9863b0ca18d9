"""Warm-up requests of a version from a request log: those of real clients, in their sizes, beside the exported ones."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.bundles.request_log import read_request_log
from serving.warmup import MAX_RECORDS
from tfdnc.contracts import bundle
from tfdnc.contracts.errors import UserError

_OF_A_VERSION = {"K or 1", "K", "V", "D"}
"""Letters of shapes whose sizes differ between versions."""


def add_logged_requests(version_folder: Path, log: Sequence[Path], most: int) -> int:
    """Adds requests of a log to the warm-up file of a version; returns their number.

    They are taken evenly from the whole log. Requests whose tensors depend on the number of clusters or on the vectors
    of one version are left out, because another version may refuse them. The file is replaced, not changed.

    Args:
        version_folder: Folder of a version that no server has loaded.
        log: Files and folders of a request log.
        most: Most requests to add; with the exported ones at most `serving.warmup.MAX_RECORDS`.

    Raises:
        UserError: The log cannot be read, or has no suitable request.
    """
    file = version_folder / bundle.WARMUP_ASSET
    exported = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator()) if file.is_file() else []
    suitable = [one.request for one in read_request_log(log) if _is_free(one.request)]
    if not suitable:
        raise UserError(
            f"Expected requests in {', '.join(map(str, log))} that any version answers, found none. Name other files."
        )
    count = min(most, len(suitable), MAX_RECORDS - len(exported))
    chosen = [suitable[number * len(suitable) // count] for number in range(count)]
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)  # it may be a hard link
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in [*exported, *map(_record, chosen)]:
            writer.write(record)
    return count


def _is_free(request: predict_pb2.PredictRequest) -> bool:
    """Returns True if the tensors of a request have the shapes of any version."""
    declared = bundle.SIGNATURES.get(request.model_spec.signature_name)
    if declared is None:
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
