"""What a client of a tfdnc bundle says and hears: histories into request tensors, response tensors into results."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from tensorflow_serving.apis import predict_pb2

from serving import arguments, tensors
from tfdnc.contracts import schema
from tfdnc.contracts.schema import UNKNOWN_TIME

BUNDLE_MERGE = -1.0
"""Value of `alpha` that asks for the merge the bundle was exported with."""


@dataclasses.dataclass(frozen=True, eq=False)
class Retrieval:
    """What one user gets, best first; n is the number of results.

    Attributes:
        item_ids: [n] raw item ids.
        scores: float32 [n] merge keys, never increasing.
        cluster_ids: int32 [n] the cluster each item came from.
        quotas: int32 [K] results per cluster.
        intent: float32 [K] probability that the next item is in the cluster.
    """

    item_ids: list[str]
    scores: np.ndarray
    cluster_ids: np.ndarray
    quotas: np.ndarray
    intent: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Encoding:
    """What the model makes of the users of one request.

    Attributes:
        user_embeddings: float32 [B, V, D].
        intent: float32 [B, K] probabilities.
    """

    user_embeddings: np.ndarray
    intent: np.ndarray


class ForeignModelError(ValueError):
    """The answer lacks what every tfdnc bundle sends: another kind of model has the name."""


def history_array(histories: Iterable[Iterable[str]], name: str = "histories") -> np.ndarray:
    """Returns histories (oldest first) as one object array [B, L] of text, padded with "".

    Every row begins with "": a server that pads requests of different lengths into one batch repeats the first element
    of a request, which must not be an item. So L is at least 1, also for an empty history, which is answered from
    the prior.

    Raises:
        ValueError: Not a sequence of sequences of text; `name` is what the caller knows it by.
    """
    return _padded(arguments.text_rows(histories, name))


def _padded(rows: list[list[str]]) -> np.ndarray:
    array = np.full((len(rows), 1 + max(map(len, rows), default=0)), "", object)
    for row, history in zip(array, rows, strict=True):
        row[1 : 1 + len(history)] = history
    return array


def retrieve_request(
    histories: Iterable[Iterable[str]],
    num_candidates: int | Iterable[int] | None = None,
    alpha: float | Iterable[float] | None = None,
    *,
    times: Iterable[Iterable[int]] | None = None,
    request_time: int | Iterable[int] = UNKNOWN_TIME,
    joint_alpha: float | Iterable[float] | None = None,
    exclude: Iterable[Iterable[str]] | None = None,
    cluster_quotas: Iterable | None = None,
    cluster_min: Iterable | None = None,
    cluster_max: Iterable | None = None,
) -> predict_pb2.PredictRequest:
    """Returns the request for candidates; its `model_spec` names only the signature.

    Sequences may be lists, arrays, series of pandas, polars or Arrow, or generators.

    Args:
        histories: [B] histories.
        num_candidates: Results wanted, for all users or one number each; None leaves it to the bundle, and then
            nothing else may be asked for: the signatures that take more take this too.
        alpha: Exponent of the quota merge (>= 0), for all users or one number each; None, or a negative number, asks
            for the bundle's own merge.
        times: [B] sequences, when each item of the history was, from 0 up in the unit of the log that the model
            learned from; -1 for an unknown one, an empty sequence for a history of these. Models that read times want
            it, others refuse it.
        request_time: When the candidates are asked for, for all users or one number each; -1 for a user without times.
        joint_alpha: Instead of `alpha`, the exponent (>= 0) of p(cluster) in the joint merge: 1 lists items by their
            probability, less spreads the list over more clusters. Negative where a user has another merge.
        exclude: [B] sequences of item ids that must not come back; they say nothing about the user.
        cluster_quotas: [K] for all users or [B, K] numbers from 0 up, by which the clusters share the list instead of
            by `alpha`: counts that add up to `num_candidates` are met as long as the clusters have as many items. 0
            gives a cluster only what no other can fill; a row of zeros leaves it to the merge.
        cluster_min: [K] or [B, K] whole numbers, least results of each cluster, if it has as many.
        cluster_max: [K] or [B, K] whole numbers, most results of each cluster; negative for no bound.

    Raises:
        ValueError: Arguments that say nothing a server could answer.
    """
    rows = arguments.text_rows(histories, "histories")
    controls = (exclude, cluster_quotas, cluster_min, cluster_max)
    controlled = any(control is not None for control in controls)
    if num_candidates is None and (alpha is not None or joint_alpha is not None or controlled):
        raise ValueError(
            "Expected num_candidates together with alpha, exclude and what clusters get, got these alone. "
            "Say how many results you want."
        )
    inputs = {schema.HISTORY: _padded(rows)} | _time_inputs(rows, times, request_time)
    if num_candidates is None:
        return _request("serving_default", inputs)
    wishes = _wishes(len(rows), num_candidates, alpha, joint_alpha)
    if controlled or (alpha is not None and joint_alpha is not None):
        return _request("retrieve_controlled", inputs | _check_one_merge(wishes | _controls(len(rows), *controls)))
    asked = wishes.pop(schema.JOINT_ALPHA)
    if joint_alpha is None:
        return _request("retrieve", inputs | wishes)
    return _request("retrieve_joint", inputs | wishes | {schema.ALPHA: asked})


def _wishes(rows: int, num_candidates, alpha, joint_alpha) -> dict[str, np.ndarray]:
    """Returns the inputs that say how long each list is and which merge makes it."""
    exponents = {schema.ALPHA: alpha, schema.JOINT_ALPHA: joint_alpha}
    wanted = arguments.per_row(num_candidates, rows, np.int32, schema.NUM_CANDIDATES, least=1)
    return {schema.NUM_CANDIDATES: wanted} | {
        name: arguments.per_row(BUNDLE_MERGE if asked is None else asked, rows, np.float32, name)
        for name, asked in exponents.items()
    }


def _check_one_merge(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the inputs, in which no row asks for the joint merge and another one."""
    others = {schema.ALPHA: inputs[schema.ALPHA] >= 0}
    if schema.CLUSTER_QUOTAS in inputs:
        others[schema.CLUSTER_QUOTAS] = (inputs[schema.CLUSTER_QUOTAS] > 0).any(axis=1)
    for name, asked in others.items():
        both = np.flatnonzero(asked & (inputs[schema.JOINT_ALPHA] >= 0))
        if len(both):
            raise ValueError(
                f"Expected joint_alpha or {name} for a history, got both for history {both[0]}: a list has one merge. "
                "Drop one, or make joint_alpha negative where the other counts."
            )
    return inputs


def encode_request(
    histories: Iterable[Iterable[str]],
    times: Iterable[Iterable[int]] | None = None,
    request_time: int | Iterable[int] = UNKNOWN_TIME,
) -> predict_pb2.PredictRequest:
    """Returns the request for embeddings and intents of [B] histories; times as for `retrieve_request`."""
    rows = arguments.text_rows(histories, "histories")
    return _request("encode", {schema.HISTORY: _padded(rows)} | _time_inputs(rows, times, request_time))


def search_request(
    encoding: Encoding,
    histories: Iterable[Iterable[str]],
    num_candidates: int | Iterable[int],
    alpha: float | Iterable[float] | None = None,
    joint_alpha: float | Iterable[float] | None = None,
) -> predict_pb2.PredictRequest:
    """Returns the request for candidates of [B] users who are encoded already; their histories only exclude.

    Raises:
        ValueError: As for `retrieve_request`.
    """
    history = history_array(histories)  # without times: the vectors have read them
    wishes = _check_one_merge(_wishes(len(history), num_candidates, alpha, joint_alpha))
    encoded = {schema.USER_EMBEDDINGS: encoding.user_embeddings, schema.INTENT: encoding.intent}
    return _request("search", {schema.HISTORY: history} | wishes | encoded)


def describe_request(rows: int = 1) -> predict_pb2.PredictRequest:
    """Returns the request for the names of the clusters, which every row of the answer repeats."""
    return _request("describe", {schema.HISTORY: history_array([[]] * rows)})


def _time_inputs(histories: list[list[str]], times, request_time) -> dict[str, np.ndarray]:
    """Returns the inputs of models that read times, of the width of `history_array`; none where `times` is None."""
    if times is None:
        if not np.all(np.asarray(request_time) == UNKNOWN_TIME):
            raise ValueError(
                "Expected times together with request_time, got request_time alone. Give the items' times."
            )
        return {}
    times, lengths = arguments.number_rows(times, "times"), [len(history) for history in histories]
    if len(times) != len(lengths) or any(len(row) not in (0, n) for row, n in zip(times, lengths, strict=True)):
        raise ValueError(
            f"Expected times for each of {len(lengths)} histories, none or as many as it has items ({lengths}), got "
            f"{[len(row) for row in times]}."
        )
    requested = arguments.per_row(request_time, len(lengths), np.int64, "request_time")
    array = np.full((len(lengths), 1 + max(lengths, default=0)), UNKNOWN_TIME, np.int64)
    for row, given in zip(array, times, strict=True):
        if given:
            row[1 : 1 + len(given)] = arguments.per_row(given, len(given), np.int64, "times")
    if min(array.min(initial=0), requested.min(initial=0)) < UNKNOWN_TIME:
        raise ValueError(
            f"Expected times and request_time from 0 up, or {UNKNOWN_TIME} for an unknown time, got less. Only "
            "differences count: add a constant to all times of a user."
        )
    if np.any((array >= 0).any(axis=1) & (requested < 0)):
        raise ValueError(
            f"Expected request_time, when the candidates are asked for, with the times of a history, got "
            f"{request_time!r}: without it no model can tell how long ago they were. Say both or none."
        )
    return {schema.HISTORY_TIMES: array, schema.REQUEST_TIME: requested}


def _controls(rows: int, exclude, quotas, minimum, maximum) -> dict[str, np.ndarray]:
    """Returns the inputs about items and clusters of `retrieve_controlled`; what is None is zeros."""
    excluded = history_array([()] * rows if exclude is None else exclude, "exclude")
    if len(excluded) != rows:
        raise ValueError(f"Expected one sequence to exclude per history, {rows}, got {len(excluded)}.")
    given = {schema.CLUSTER_QUOTAS: quotas, schema.CLUSTER_MIN: minimum, schema.CLUSTER_MAX: maximum}
    dtypes = {schema.CLUSTER_QUOTAS: np.float32, schema.CLUSTER_MIN: np.int32, schema.CLUSTER_MAX: np.int32}
    inputs = {name: arguments.per_cluster(value, rows, dtypes[name], name) for name, value in given.items()}
    widths = {name: array.shape[1] for name, array in inputs.items() if given[name] is not None}
    if len(set(widths.values())) > 1:
        raise ValueError(f"Expected as many clusters in {' and '.join(widths)}, got {list(widths.values())}.")
    if not np.all(np.isfinite(inputs[schema.CLUSTER_QUOTAS]) & (inputs[schema.CLUSTER_QUOTAS] >= 0)):
        raise ValueError(f"Expected {schema.CLUSTER_QUOTAS} to be finite numbers from 0 up, got {quotas!r}.")
    return {schema.EXCLUDE: excluded} | inputs


def _request(signature: str, inputs: dict[str, np.ndarray]) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    for name, array in inputs.items():
        tensors.encode(array, request.inputs[name])
    return request


def read_retrievals(response: predict_pb2.PredictResponse) -> list[Retrieval]:
    """Returns the results of a retrieve response, one per history.

    Raises:
        ForeignModelError: An output is missing.
    """
    outputs = _outputs(response, "retrieve")
    results = []
    for row, count in enumerate(outputs[schema.NUM_RESULTS].tolist()):
        results.append(
            Retrieval(
                item_ids=[item.decode() for item in outputs[schema.ITEM_IDS][row, :count].tolist()],
                scores=outputs[schema.SCORES][row, :count],
                cluster_ids=outputs[schema.CLUSTER_IDS][row, :count],
                quotas=outputs[schema.QUOTAS][row],
                intent=outputs[schema.INTENT][row],
            )
        )
    return results


def read_versioned(response: predict_pb2.PredictResponse) -> tuple[int, list[Retrieval]]:
    """Returns the version that answered, and the results as `read_retrievals`."""
    return response.model_spec.version.value, read_retrievals(response)


def read_cluster_names(response: predict_pb2.PredictResponse) -> tuple[int, list[str]]:
    """Returns the version that answered, and the names of its clusters in order of their numbers.

    Raises:
        ForeignModelError: An output is missing.
    """
    names = _outputs(response, "describe")[schema.CLUSTER_NAMES][0]
    return response.model_spec.version.value, [name.decode() for name in names.tolist()]


def read_encoding(response: predict_pb2.PredictResponse) -> Encoding:
    """Returns the results of an encode response.

    Raises:
        ForeignModelError: An output is missing.
    """
    outputs = _outputs(response, "encode")
    return Encoding(outputs[schema.USER_EMBEDDINGS], outputs[schema.INTENT])


def _outputs(response: predict_pb2.PredictResponse, signature: str) -> dict[str, np.ndarray]:
    wanted = schema.SIGNATURES[signature][1]
    missing = [name for name in wanted if name not in response.outputs]
    if missing:
        raise ForeignModelError(
            f"Expected the outputs of a tfdnc bundle, found {sorted(response.outputs)} without {missing}. "
            "Ask for the model by the name it is served under."
        )
    return {name: tensors.decode(response.outputs[name]) for name in wanted}
