"""Requests to a tfdnc bundle: the arguments decide the signature, and its declaration gives the inputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tensorflow_serving.apis import predict_pb2

from serving import arguments, tensors
from serving.arguments import ClusterNumbers, Features, NumberRows, Numbers, TextRows, WholeNumbers, Words
from serving.messages.answers import Encoding
from serving.messages.bounds import Bounded, bound_rows
from serving.messages.inputs import Histories, tensor_of
from serving.messages.rules import AllowedRows, Rules, allowed_rows, condition_rows
from tfdnc.contracts import bundle
from tfdnc.contracts.bundle import Row
from tfdnc.contracts.features import TIME, Feature, Kind, event_feature
from tfdnc.contracts.schema import UNKNOWN_TIME

Inputs = dict[str, np.ndarray]


def retrieve_request(
    histories: TextRows,
    num_candidates: WholeNumbers | None = None,
    alpha: Numbers | None = None,
    *,
    times: NumberRows | None = None,
    request_time: WholeNumbers = UNKNOWN_TIME,
    features: Features | None = None,
    declared: Sequence[Row] | None = None,
    joint_alpha: Numbers | None = None,
    exclude: TextRows | None = None,
    cluster_quotas: ClusterNumbers | None = None,
    cluster_min: ClusterNumbers | None = None,
    cluster_max: ClusterNumbers | None = None,
    where: Rules | None = None,
    forbid: Rules | None = None,
    allow: AllowedRows | None = None,
    at_least: Bounded | None = None,
    at_most: Bounded | None = None,
    seen: Words | None = None,
) -> predict_pb2.PredictRequest:
    """Returns the request for candidates; its `model_spec` names only the signature.

    Sequences may be lists, arrays, series of pandas, polars or Arrow, or generators.

    Args:
        histories: [B] histories.
        num_candidates: Results wanted, for all users or one number each; None leaves it to the bundle. Then no other
            control is allowed, because the signatures with controls need this number.
        alpha: Exponent of the quota merge (>= 0), for all users or one number each; None, or a negative number, asks
            for the bundle's own merge.
        times: [B] sequences, the time of each item of the history, from 0 up in the unit of the training log. -1 is an
            unknown time, an empty sequence stands for a history of unknown times. Models that read times need them,
            others refuse them.
        request_time: Time of the request, for all users or one number each; -1 for a user without times.
        features: Inputs of `model.inputs` by name. Of events: [B] sequences with a value for each item of the history;
            an empty one stands for a history of unknown values. Of `exposures` a value is a sequence of item ids, those
            passed over after the item and before the next one, or the request. `request_NAME` and `user_NAME`: one
            value for all histories, or [B]. None is an unknown value.
        declared: Inputs of the model, for their types; those that `features` lacks are unknown. None: all that
            `features` has are numbers of events.
        joint_alpha: Instead of `alpha`, the exponent (>= 0) of p(cluster) in the joint merge: 1 lists items by their
            probability, less spreads the list over more clusters. Negative for a user with another merge.
        exclude: [B] sequences of item ids that the list must not hold; the model does not read them.
        cluster_quotas: [K] for all users or [B, K] numbers from 0 up, by which the clusters share the list instead of
            by `alpha`. Counts that add up to `num_candidates` are met if the clusters have as many items. A cluster
            with 0 gets only results that no other can fill; a row of zeros asks for the bundle's merge.
        cluster_min: [K] or [B, K] whole numbers, least results of each cluster, if it has as many.
        cluster_max: [K] or [B, K] whole numbers, most results of each cluster; negative for no bound.
        where: Rule that every result meets, such as `{"in_stock": True, "brand": ["a", "b"], "price": (None, 20)}`: by
            column of the bundle's attributes a value, alternatives, or a range (least, most). Or conditions as text.
            One rule for all users, or [B]; None for a user without. The column `cluster` has the names of clusters.
        forbid: Rule of values that no result has, likewise, without ranges.
        allow: [B] sequences of the only item ids that may come back; None for a user without.
        at_least: Least results with a value of an attribute, such as `{"country": {"local": 0.2}}`: a count, or a float
            as a share of the list. One dict for all users, or [B].
        at_most: Most results with a value, likewise; `{"brand": {"*": 3}}` is for each value of the column.
        seen: Items of the history in the list, "allow" or "exclude", for all users or one word each; None, or "", asks
            for the bundle's own rule.

    Raises:
        ValueError: Arguments that no server could answer.
    """
    rows = arguments.text_rows(histories, "histories")
    controls = {
        bundle.ALPHA: alpha,
        bundle.EXCLUDE: exclude,
        bundle.CLUSTER_QUOTAS: cluster_quotas,
        bundle.CLUSTER_MIN: cluster_min,
        bundle.CLUSTER_MAX: cluster_max,
        bundle.JOINT_ALPHA: joint_alpha,
        bundle.WHERE: condition_rows(where, forbid, len(rows)),
        bundle.ALLOW: allowed_rows(allow, len(rows)),
        bundle.SEEN: seen,
    }
    given = {name: value for name, value in controls.items() if value is not None}
    if num_candidates is not None:
        lengths = tensor_of(bundle.row_of(bundle.NUM_CANDIDATES), num_candidates, rows)
        given[bundle.NUM_CANDIDATES] = lengths
        bounds = bound_rows(at_least, at_most, lengths.tolist())
        given |= {} if bounds is None else {bundle.BOUNDS: bounds}
    elif given or at_least is not None or at_most is not None:
        raise ValueError(
            "Expected num_candidates together with alpha, exclude, seen, rules and what clusters get, got these alone. "
            "Say how many results you want."
        )
    read, known = _declared(times, request_time, features, declared)
    return _request(bundle.suitable(given), rows, given | known, read)


def encode_request(
    histories: TextRows,
    times: NumberRows | None = None,
    request_time: WholeNumbers = UNKNOWN_TIME,
    features: Features | None = None,
    declared: Sequence[Row] | None = None,
) -> predict_pb2.PredictRequest:
    """Returns the request for embeddings and intents of [B] histories; inputs as for `retrieve_request`."""
    rows = arguments.text_rows(histories, "histories")
    read, known = _declared(times, request_time, features, declared)
    return _request("encode", rows, known, read)


def search_request(
    encoding: Encoding,
    histories: TextRows,
    num_candidates: WholeNumbers,
    alpha: Numbers | None = None,
    joint_alpha: Numbers | None = None,
) -> predict_pb2.PredictRequest:
    """Returns the request for candidates of [B] encoded users; the histories only exclude items.

    A user with an empty history gets the list that `seen: "allow"` asks for.

    Raises:
        ValueError: As for `retrieve_request`.
    """
    given = {
        bundle.USER_EMBEDDINGS: encoding.user_embeddings,
        bundle.INTENT: encoding.intent,
        bundle.NUM_CANDIDATES: num_candidates,
        bundle.ALPHA: alpha,
        bundle.JOINT_ALPHA: joint_alpha,
    }
    return _request("search", arguments.text_rows(histories, "histories"), given)


def describe_request(rows: int = 1) -> predict_pb2.PredictRequest:
    """Returns the request for the names of the clusters; every row of the answer repeats them."""
    return _request("describe", [[]] * rows, {})


def describe_rules_request(rows: int = 1) -> predict_pb2.PredictRequest:
    """Returns the request for the known conditions; every row of the answer repeats them."""
    return _request("describe_rules", [[]] * rows, {})


def known_arguments(features: Sequence[Feature], users: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the arguments of `retrieve_request` for the known inputs of users.

    Args:
        features: Inputs that the model reads beside the histories.
        users: [B] values by names of their tensors; a missing name is unknown.
    """
    known: dict[str, Any] = {}
    beside: dict[str, list[Any]] = {}
    for feature, row in ((one, row) for one in features for row in one.request_rows):
        unknown: Any = [] if row.of_events else row.neutral
        values = [user.get(row.name, unknown) for user in users]
        if feature == TIME:
            known[row.says] = values
        else:
            beside[key_of(row)] = values
    return known | {"features": beside} if beside else known


def declared_rows(features: Sequence[Feature]) -> list[Row]:
    """Returns the argument `declared` of `retrieve_request` for the inputs of a model."""
    return [row for feature in features if feature != TIME for row in feature.request_rows]


def _declared(
    times: NumberRows | None,
    request_time: WholeNumbers,
    features: Features | None,
    declared: Sequence[Row] | None,
) -> tuple[list[Row], dict[str, Any]]:
    """Returns the inputs of the request beside the histories, and the values of their arguments."""
    rows: list[Row] = []
    known: dict[str, Any] = {}
    if times is not None:
        rows += TIME.request_rows
        known |= {"times": times, bundle.REQUEST_TIME: request_time}
    elif not np.all(np.asarray(request_time) == UNKNOWN_TIME):
        raise ValueError("Expected times together with request_time, got request_time alone. Give the items' times.")
    if features is not None and not isinstance(features, Mapping):
        raise ValueError(f"Expected features to be a dict of values by name, got {type(features).__name__}.")
    given = features or {}
    if declared is None:
        declared = [row for name in given for row in event_feature(name, Kind.NUMBER).request_rows]
    by_key = {key_of(row): row for row in declared}
    for name in given:
        if name not in by_key:
            read = ", ".join(by_key) or "no inputs beside the histories and their times"
            raise ValueError(f"Expected features that the model reads, got {name!r}; it reads {read}.")
    return [*rows, *declared], known | {by_key[name].says: values for name, values in given.items()}


def key_of(row: Row) -> str:
    """Returns the key of an input in the argument `features` of a client."""
    return row.name.removeprefix("history_")


def _request(
    name: str, histories: Histories, given: Mapping[str, Any], features: Sequence[Row] = ()
) -> predict_pb2.PredictRequest:
    """Returns a request of signature `name` with a tensor for each of its inputs.

    Args:
        name: Name of the signature.
        histories: [B] lists of text.
        given: Values by argument; an input without one gets its neutral values.
        features: Inputs that the model reads beside the histories.
    """
    rows, given = bundle.inputs_of(name, features), {bundle.HISTORY: histories, **given}
    inputs = {row.says: tensor_of(row, given.get(row.says), histories) for row in rows}
    _check_widths([row for row in rows if given.get(row.says) is not None], inputs)
    _check_one_merge(inputs)
    _check_times(inputs, given)
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = name
    for row in rows:
        tensors.encode(inputs[row.says], request.inputs[row.name])
    return request


def _check_widths(given: list[Row], inputs: Inputs) -> None:
    """Raises for controls with different numbers of clusters."""
    widths = {row.name: inputs[row.says].shape[1] for row in given if row.shape == bundle.PER_CLUSTER}
    if len(set(widths.values())) > 1:
        raise ValueError(f"Expected as many clusters in {' and '.join(widths)}, got {list(widths.values())}.")


def _check_one_merge(inputs: Inputs) -> None:
    """Raises if a row asks for the joint merge and for another one."""
    if bundle.JOINT_ALPHA not in inputs:
        return
    others: dict[str, np.ndarray] = {}
    if bundle.ALPHA in inputs:
        others[bundle.ALPHA] = inputs[bundle.ALPHA] >= 0
    if bundle.CLUSTER_QUOTAS in inputs:
        others[bundle.CLUSTER_QUOTAS] = np.any(inputs[bundle.CLUSTER_QUOTAS] > 0, axis=1)
    for name, asked in others.items():
        both = np.flatnonzero(asked & (inputs[bundle.JOINT_ALPHA] >= 0))
        if len(both):
            raise ValueError(
                f"Expected joint_alpha or {name} for a history, got both for history {both[0]}: a list has one merge. "
                "Drop one, or make joint_alpha negative where the other counts."
            )


def _check_times(inputs: Inputs, given: Mapping[str, Any]) -> None:
    """Raises for times below 0, and for times without the time of the request, from which no age follows."""
    if bundle.REQUEST_TIME not in inputs:
        return
    times, requested = inputs["times"], inputs[bundle.REQUEST_TIME]
    if min(times.min(initial=0), requested.min(initial=0)) < UNKNOWN_TIME:
        raise ValueError(
            f"Expected times and request_time from 0 up, or {UNKNOWN_TIME} for an unknown time, got less. Only "
            "differences count: add a constant to all times of a user."
        )
    if np.any((times >= 0).any(axis=1) & (requested < 0)):
        raise ValueError(
            f"Expected request_time, when the candidates are asked for, with the times of a history, got "
            f"{given[bundle.REQUEST_TIME]!r}: without it no model can tell how long ago they were. Say both or none."
        )
