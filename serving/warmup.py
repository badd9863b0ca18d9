"""Warm-up: replays the requests recorded inside a bundle, so that no client pays for what is built on first use."""

import functools
import logging
import time

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from serving.inference import Inference
from serving.predict import predict
from serving.servable import LoadedVersion
from serving.status import status_of
from tfdnc.contracts import bundle
from tfdnc.contracts.errors import UserError

_LOG = logging.getLogger(__name__)

MAX_RECORDS = 1000
"""As in TF Serving."""


def warm_up(servable: LoadedVersion, repeats: int = 1) -> int:
    """Replays each warm-up request of a servable `repeats` times; returns how many there are, 0 without a file.

    As in TF Serving, a request that fails means that the version is broken, and so does a file with more than
    `MAX_RECORDS` records or one of a call that cannot be replayed, of `Session.run` for instance.

    Raises:
        UserError: The file cannot be read, or a request in it fails.
    """
    file = servable.path / bundle.WARMUP_ASSET
    if not file.is_file():
        return 0
    started, count = time.perf_counter(), 0
    try:
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            count += 1
            if count > MAX_RECORDS:
                raise UserError(
                    f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}. "
                    "Export the version with fewer."
                )
            log = prediction_log_pb2.PredictionLog.FromString(record)
            for _ in range(repeats):
                _replay(servable, log)
    except (DecodeError, tf.errors.DataLossError) as error:
        raise UserError(f"Failed to parse warmup record {count} from {file}: {error}. Export again.") from error
    _LOG.info("warmed up version %d with %d requests, %.2f s", servable.version, count, time.perf_counter() - started)
    return count


def _replay(servable: LoadedVersion, log: prediction_log_pb2.PredictionLog) -> None:
    inference = Inference(servable)
    calls = {
        "predict_log": functools.partial(predict, servable),
        "classify_log": inference.classify,
        "regress_log": inference.regress,
        "multi_inference_log": inference.multi,
    }
    kind = log.WhichOneof("log_type")
    if kind is None:  # as upstream, where a record of nothing asks for nothing
        return
    if kind not in calls:
        raise UserError(
            f"Unsupported log_type for warmup: {kind}, in {servable.path}. Record the calls {', '.join(calls)} only."
        )
    try:
        calls[kind](getattr(log, kind).request)
    except Exception as error:
        code, message = status_of(error)
        raise UserError(
            f"Expected the warm-up requests in {servable.path} to succeed, one failed with {code.name}: {message}. "
            "Export the version again."
        ) from error
