"""Questions from a request log: the histories that clients sent. Their next events are not in it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow_serving.apis import predict_pb2

from serving import tensors
from serving.bundles.questions import Questions
from serving.bundles.request_log import read_request_log
from tfdnc.contracts import bundle
from tfdnc.contracts.bundle import Row
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import Feature


def read_logged_questions(log: Sequence[Path], features: Sequence[Feature], most_users: int) -> Questions:
    """Reads the histories of the lists that clients asked for, with other inputs of the models; no targets.

    Controls and conditions of the requests are not repeated: both versions are asked for plain lists.

    Args:
        log: Files and folders of a request log.
        features: Inputs that one of the models reads beside the histories.
        most_users: Most users; from more of them a sample is drawn, the same in every call.

    Raises:
        UserError: The log cannot be read, or has no request for lists.
    """
    rows = [row for feature in features for row in feature.request_rows]
    users = [
        user for one in read_request_log(log) if _asks_for_lists(one.request) for user in _users(one.request, rows)
    ]
    if not users:
        raise UserError(f"Expected requests for lists in {', '.join(map(str, log))}, found none. Name other files.")
    chosen = np.random.default_rng(0).permutation(len(users))[:most_users]
    histories, known = zip(*(users[number] for number in chosen), strict=True)
    sent = {name for values in known for name in values}
    return Questions(
        histories=histories,
        targets=[[] for _ in histories],
        known=known,
        features=[feature for feature in features if sent & {row.name for row in feature.request_rows}],
    )


def _asks_for_lists(request: predict_pb2.PredictRequest) -> bool:
    declared = bundle.signatures_of(attributes=True).get(request.model_spec.signature_name)
    return declared is not None and declared.encodes and bundle.ITEM_IDS in declared.output_names


def _users(request: predict_pb2.PredictRequest, rows: Sequence[Row]) -> Iterator[tuple[list[str], Mapping[str, Any]]]:
    """Yields the history of every row of a request, and its other inputs by the names of their tensors."""
    history = tensors.decode(request.inputs[bundle.HISTORY])  # [B, L]
    known = {row: tensors.decode(request.inputs[row.name]) for row in rows if row.name in request.inputs}
    for number, items in enumerate(history):
        columns = np.flatnonzero(items != b"")
        values = {
            row.name: _at(values[number], columns, row) if row.of_events else _plain(values[number])
            for row, values in known.items()
        }
        yield [items[column].decode() for column in columns], values


def _at(values: np.ndarray, columns: np.ndarray, row: Row) -> list[Any]:
    """Returns the values `[L']` of the events in `columns`; those that the request left out are unknown."""
    if row.shape == bundle.PER_EXPOSURE:
        shown = (values[column] if column < len(values) else () for column in columns)
        return [[item.decode() for item in of_event if item] for of_event in shown]
    return [_plain(values[column]) if column < len(values) else row.neutral for column in columns]


def _plain(value: Any) -> Any:
    """Returns a value of a tensor as a client gives it: text of bytes, a number of Python of NumPy's."""
    return value.decode() if isinstance(value, bytes) else value.item()
