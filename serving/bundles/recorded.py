"""Requests with their answers inside a bundle: what a version said when it was exported, to be asked again later."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving import messages, tensors
from serving.bundles import bundle
from serving.predict import predict
from serving.servable import Servable
from tfdnc.contracts import bundle as contract
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError

RECORDED_ASSET = "assets.extra/tfdnc_recorded_requests"
"""TFRecord file of `PredictionLog`, each a `predict_log` with request and response."""

UNKNOWN_ITEM = "an item that no log of this bundle has"

_LATER = 1 << 40
"""By how much recorded times are moved: seconds that a float32 could not hold, some days in microseconds."""

_ALPHAS = (contract.BUNDLE_MERGE, 0.0, 0.5, 1.0, 2.0)


def record(
    path: Path,
    histories: Sequence[Sequence[str]],
    num_candidates: int,
    max_candidates: int,
    times: Sequence[Sequence[int]] | None = None,
) -> int:
    """Loads the version at `path` as a server does, asks every signature, and stores requests and answers in it.

    The answers are those of the loaded files, not of the model in the memory of whoever exported it: what was lost
    on the way to the disk would otherwise not be found.

    Args:
        path: A complete version of a tfdnc bundle.
        histories: Real ones, of different lengths; users without history or with unknown ids are added here.
        num_candidates: What `serving_default` returns.
        max_candidates: The most that `retrieve` returns.
        times: Of each history those of its items and, last, of the request, for a model that reads times. Every
            request with times is stored a second time, with all of them moved by a constant and the same answer: only
            differences may count.

    Returns:
        The number of requests.

    Raises:
        UserError: The version cannot be loaded.
        ServingError: It does not answer.
    """
    users = [*zip(histories, times or itertools.repeat([]), strict=False), ([], []), ([UNKNOWN_ITEM], [])]
    users += [([UNKNOWN_ITEM, *history], []) for history in histories[:1]]
    servable = Servable.load(contract.MODEL_NAME, bundle.UNNUMBERED_VERSION, path)
    try:
        pairs = [
            (request, predict(servable, request))
            for request in _requests(servable, users, (max_candidates, num_candidates, 1), times is not None)
        ]
    finally:
        servable.close()
    pairs += [(_move_times(request), answer) for request, answer in pairs if contract.HISTORY_TIMES in request.inputs]
    write_recorded(path, pairs)
    return len(pairs)


def _requests(
    servable: Servable, users: list[tuple[list[str], list[int]]], lengths: Sequence[int], with_times: bool
) -> Iterator[predict_pb2.PredictRequest]:
    """Every signature, for each user alone and for all at once, with lengths, alphas and merges that take turns."""
    turns = zip(users, itertools.cycle(lengths), itertools.cycle(_ALPHAS), itertools.cycle((False, True)), strict=False)
    per_user = [(*user, length, alpha, joint) for user, length, alpha, joint in turns]
    for batch in [[user] for user in per_user] + [per_user]:
        histories, times, length, alpha, joint = map(list, zip(*batch, strict=True))
        when = _when(times) if with_times else {}
        yield messages.retrieve_request(histories, **when)
        retrieve = messages.retrieve_request(histories, length, alpha, **when)
        encode = messages.encode_request(histories, **when)
        yield retrieve
        yield encode
        encoding = messages.read_encoding(predict(servable, encode))
        merges = {"alpha": np.where(joint, -1.0, alpha), "joint_alpha": np.where(joint, alpha, -1.0)}
        yield messages.search_request(encoding, histories, length, **merges)
        best = [found.item_ids[:1] for found in messages.read_retrievals(predict(servable, retrieve))]
        controls = _controls(encoding.intent.shape[1], np.array(joint))
        yield messages.retrieve_request(histories, length, **merges, exclude=best, **controls, **when)
        yield messages.retrieve_request(histories, length, joint_alpha=alpha, **when)
        yield messages.describe_request(len(histories))


def _when(times: list[list[int]]) -> dict[str, list]:
    """Arguments about time, given the times of the items and the request of every user; [] where they are unknown."""
    unknown = schema.UNKNOWN_TIME
    return {"times": [row[:-1] for row in times], "request_time": [row[-1] if row else unknown for row in times]}


def _move_times(request: predict_pb2.PredictRequest) -> predict_pb2.PredictRequest:
    """The same request by a clock with another zero point."""
    moved = predict_pb2.PredictRequest()
    moved.CopyFrom(request)
    for name in (contract.HISTORY_TIMES, contract.REQUEST_TIME):
        times = tensors.decode(request.inputs[name])
        moved.inputs[name].Clear()
        tensors.encode(np.where(times == schema.UNKNOWN_TIME, times, times + _LATER), moved.inputs[name])
    return moved


def _controls(num_clusters: int, joint: np.ndarray) -> dict[str, np.ndarray]:
    """Growing shares of the list, at least one item of the first cluster, at most two of every second one.

    Rows that ask for the joint merge, `joint` [B], have no shares: these are a merge of their own.
    """
    clusters = np.arange(num_clusters)
    return {
        "cluster_quotas": np.where(joint[:, None], 0, clusters + 1),
        "cluster_min": np.where(clusters == 0, 1, 0),
        "cluster_max": np.where(clusters % 2, 2, -1),
    }


def recorded_vectors(path: Path) -> np.ndarray:
    """Returns `[users, V, D]`: what the version at `path` has encoded the users of `record` to, in their order."""
    answers = (log.response.outputs.get(contract.USER_EMBEDDINGS) for log in read_recorded(path))
    return max((tensors.decode(vectors) for vectors in answers if vectors is not None), key=len)


def write_recorded(path: Path, pairs: Sequence[tuple[predict_pb2.PredictRequest, predict_pb2.PredictResponse]]) -> None:
    """Stores requests with their answers in the version at `path`."""
    file = path / RECORDED_ASSET
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for request, response in pairs:
            log = prediction_log_pb2.PredictLog(request=request, response=response)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def read_recorded(path: Path) -> list[prediction_log_pb2.PredictLog]:
    """Returns the recorded requests and answers of the version at `path`.

    Raises:
        UserError: There are none, or the file is damaged.
    """
    file = path / RECORDED_ASSET
    if not file.is_file():
        raise UserError(
            f"Expected recorded requests in {file}, found none, so nothing can be verified. "
            "Export the bundle again with `tfdnc export CONFIG --force`, which records them."
        )
    try:
        records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
        logs = [prediction_log_pb2.PredictionLog.FromString(record).predict_log for record in records]
    except (DecodeError, tf.errors.DataLossError) as error:
        raise UserError(f"Expected recorded requests in {file}, the file is damaged: {error}. Export again.") from error
    if not logs:
        raise UserError(f"Expected recorded requests in {file}, the file is empty. Export again.")
    return logs
