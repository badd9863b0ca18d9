"""Reads a request log: the Predict calls that a server has sampled, with its answers."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from serving.record_files import SUFFIX, UNFINISHED
from tfdnc.contracts.errors import UserError


def read_request_log(paths: Iterable[Path]) -> Iterator[prediction_log_pb2.PredictLog]:
    """Yields the logged calls of Predict, requests with their answers; records of other calls are passed over.

    Args:
        paths: Files, and folders whose complete files are read in order of their names. The file that a server writes,
            or that a killed one has left, must be named itself: it is read up to its last whole record.

    Raises:
        UserError: There is no such file, none in a folder, or one is damaged.
    """
    for file in [file for path in paths for file in _files(Path(path))]:
        for record in _records(file):
            try:
                log = prediction_log_pb2.PredictionLog.FromString(record)
            except DecodeError as error:
                raise UserError(f"Expected PredictionLog records in {file}, found others. Check the path.") from error
            if log.HasField("predict_log"):
                yield log.predict_log


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob(f"*{SUFFIX}"))
    if not files:
        raise UserError(
            f"Expected complete files (*{SUFFIX}) of a request log in {path}, found none. Wait until the server has "
            "finished one, or name an unfinished one itself."
        )
    return files


def _records(file: Path) -> Iterator[bytes]:
    try:
        yield from tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    except tf.errors.DataLossError as error:
        if not file.name.endswith(UNFINISHED):
            raise UserError(
                f"Expected a whole TFRecord file in {file}, it is damaged: {error.message}. Leave it out."
            ) from error
    except tf.errors.OpError as error:
        raise UserError(
            f"Expected a request log in {file}, could not read it: {error.message}. Check the path."
        ) from error
