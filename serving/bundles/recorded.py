"""Recorded requests inside a bundle, with the answers at export; a later check asks them again."""

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving import messages, tensors
from serving.bundles import bundle
from serving.predict import predict
from serving.servable import Servable
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.bundle import Row
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import Feature

_LOG = logging.getLogger(__name__)

RECORDED_ASSET = "assets.extra/tfdnc_recorded_requests"
"""TFRecord file of `PredictionLog`: each is a `predict_log` with request and response."""

UNKNOWN_ITEM = "an item that no log of this bundle has"

_LATER = 1 << 40
"""Shift of recorded times: in seconds too large for a float32 to keep differences, in microseconds some days."""

_ALPHAS = (contract.BUNDLE_MERGE, 0.0, 0.5, 1.0, 2.0)


def record(
    path: Path,
    histories: Sequence[Sequence[str]],
    num_candidates: int,
    max_candidates: int,
    features: Sequence[Feature] = (),
    known: Sequence[Mapping[str, Any]] | None = None,
    rules: Sequence[Sequence[str]] = (),
) -> int:
    """Loads the version at `path` as a server does, asks every signature, and stores requests and answers in it.

    The loaded files answer, not the model in memory, so that a later check finds errors of saving too.

    Args:
        path: A complete version of a tfdnc bundle.
        histories: Real histories of different lengths; users without history or with unknown ids are added here.
        num_candidates: Number of results of `serving_default`.
        max_candidates: Most results of `retrieve`.
        features: Inputs that the model reads beside the histories. For inputs of which only differences count, each
            request is stored a second time, with all values moved by a constant and the same answer.
        known: Values of these inputs for each history, by the names of their tensors.
        rules: Conditions that the bundle knows, to be asked in turn; none for a bundle without attributes.

    Returns:
        The number of requests.

    Raises:
        UserError: The version cannot be loaded.
        ServingError: The version refuses a request.
    """
    users = [*zip(histories, known or [{}] * len(histories), strict=True), ([], {}), ([UNKNOWN_ITEM], {})]
    users += [([UNKNOWN_ITEM, *history], {}) for history in histories[:1]]
    servable = Servable.load(contract.MODEL_NAME, bundle.UNNUMBERED_VERSION, path)
    try:
        pairs: list[tuple[predict_pb2.PredictRequest, predict_pb2.PredictResponse]] = []
        for request in _requests(servable, users, (max_candidates, num_candidates, 1), features, rules):
            _LOG.info("recording the answer of %s, request %d", request.model_spec.signature_name, len(pairs) + 1)
            pairs.append((request, predict(servable, request)))
    finally:
        servable.close()
    relative = {row.name: row for one in features if one.form.relative for row in one.request_rows}
    moved = [pair for pair in pairs if relative.keys() & pair[0].inputs.keys()]
    pairs += [(_move(request, relative), answer) for request, answer in moved]
    write_recorded(path, pairs)
    return len(pairs)


def _requests(
    servable: Servable,
    users: list[tuple[Sequence[str], Mapping[str, Any]]],
    lengths: Sequence[int],
    features: Sequence[Feature],
    rules: Sequence[Sequence[str]],
) -> Iterator[predict_pb2.PredictRequest]:
    """Yields requests to every signature, for each user alone and for all together, in turn with all merges."""
    asked = itertools.cycle(rules)
    turns = zip(users, itertools.cycle(lengths), itertools.cycle(_ALPHAS), itertools.cycle((False, True)), strict=False)
    per_user = [(*user, length, alpha, joint) for user, length, alpha, joint in turns]
    for batch in [[user] for user in per_user] + [per_user]:
        histories, known, length, alpha, joint = map(list, zip(*batch, strict=True))
        beside = messages.known_arguments(features, known) | {"declared": messages.declared_rows(features)}
        yield messages.retrieve_request(histories, **beside)
        retrieve = messages.retrieve_request(histories, length, alpha, **beside)
        encode = messages.encode_request(histories, **beside)
        yield retrieve
        yield encode
        encoding = messages.read_encoding(predict(servable, encode))
        alphas, joint_alphas = np.where(joint, -1.0, alpha), np.where(joint, alpha, -1.0)
        yield messages.search_request(encoding, histories, length, alphas, joint_alphas)
        best = [found.item_ids[:1] for found in messages.read_retrievals(predict(servable, retrieve))]
        quotas, least, most = _controls(encoding.intent.shape[1], np.array(joint))
        yield messages.retrieve_request(
            histories,
            length,
            alphas,
            joint_alpha=joint_alphas,
            exclude=best,
            cluster_quotas=quotas,
            cluster_min=least,
            cluster_max=most,
            seen=[seen for _, seen in zip(histories, itertools.cycle(("", *contract.SEEN_RULES)), strict=False)],
            **beside,
        )
        yield messages.retrieve_request(histories, length, joint_alpha=alpha, **beside)
        yield messages.describe_request(len(histories))
        if rules:
            where = [list(next(asked)) for _ in histories]
            yield messages.retrieve_request(
                histories, length, alphas, joint_alpha=joint_alphas, cluster_max=most, where=where, **beside
            )
            at_least, at_most = ([_bounds(rule, count) for rule in where] for count in (1, 4))
            yield messages.retrieve_request(histories, length, alpha, at_least=at_least, at_most=at_most, **beside)
            yield messages.describe_rules_request(len(histories))


def _bounds(rule: Sequence[str], count: int) -> dict[str, dict[str, int]]:
    """Returns bounds on the values of the conditions `COLUMN=VALUE` of a rule; `*` is no value there."""
    parts = [condition.partition("=") for condition in rule]
    return {column: {value: count} for column, _, value in parts if column[-1] not in "<>!" and value != "*"}


def _move(request: predict_pb2.PredictRequest, rows: Mapping[str, Row]) -> predict_pb2.PredictRequest:
    """Returns the request with the known values of some inputs moved, as from a clock with another zero point."""
    moved = predict_pb2.PredictRequest()
    moved.CopyFrom(request)
    for name, row in rows.items():
        values = tensors.decode(request.inputs[name])
        moved.inputs[name].Clear()
        tensors.encode(np.where(values == row.neutral, values, values + _LATER), moved.inputs[name])
    return moved


def _controls(num_clusters: int, joint: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns quotas [B, K] that grow, and bounds [K]: one item of the first cluster, two of every second one.

    Rows with the joint merge, `joint` [B], have no quotas, because these are another merge.
    """
    clusters = np.arange(num_clusters)
    quotas = np.where(joint[:, None], 0, clusters + 1)
    return quotas, np.where(clusters == 0, 1, 0), np.where(clusters % 2, 2, -1)


def recorded_vectors(path: Path) -> np.ndarray:
    """Returns the recorded embeddings `[users, V, D]` of the users of `record`, in their order."""
    answers = (log.response.outputs.get(contract.USER_EMBEDDINGS) for log in read_recorded(path))
    return max((tensors.decode(vectors) for vectors in answers if vectors is not None), key=len)


def recorded_cold_start(path: Path) -> np.ndarray:
    """Returns the recorded embedding `[V, D]` of a user without history."""
    for log in read_recorded(path):
        vectors, history = log.response.outputs.get(contract.USER_EMBEDDINGS), log.request.inputs[contract.HISTORY]
        if vectors is not None and not any(tensors.decode(history).ravel()):
            return tensors.decode(vectors)[0]
    raise UserError(f"Expected a recorded user without history in {path / RECORDED_ASSET}, found none. Export again.")


def write_recorded(path: Path, pairs: Sequence[tuple[predict_pb2.PredictRequest, predict_pb2.PredictResponse]]) -> None:
    """Stores requests with their answers in the version at `path`."""
    file = path / RECORDED_ASSET
    file.parent.mkdir(exist_ok=True)
    logs = (prediction_log_pb2.PredictLog(request=request, response=response) for request, response in pairs)
    write_messages(file, (prediction_log_pb2.PredictionLog(predict_log=log) for log in logs))


def write_messages(file: Path, protos: Iterable[Message]) -> None:
    """Writes protocol buffers as the records of a TFRecord file."""
    with tf.io.TFRecordWriter(str(file)) as writer:
        for message in protos:
            writer.write(message.SerializeToString())


def read_recorded(path: Path) -> list[prediction_log_pb2.PredictLog]:
    """Returns the recorded requests and answers of the version at `path`.

    Raises:
        UserError: The file is missing, empty or damaged.
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
