"""Arguments of a client into the tensors of a signature: each as its row says, by the shape that it has."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from serving import arguments
from tfdnc.contracts.bundle import EXCLUDED, PER_CLUSTER, PER_EVENT, PER_USER, Row

Histories = Sequence[Sequence[str]]


def tensor_of(row: Row, value: Any, histories: Histories) -> np.ndarray:
    """Returns `value` as the tensor of an input, or the input's neutral values if it is None.

    Args:
        row: The input.
        value: What a client was given for `row.says`.
        histories: [B] histories of the request, which say how many rows there are and how many events each has.

    Raises:
        ValueError: It is of another kind or shape, or below `row.least`.
    """
    if value is None:
        return row.blank({"B": len(histories)})
    return _READERS.get(row.shape, _as_it_is)(row, value, histories)


def history_array(rows: Histories) -> np.ndarray:
    """Returns rows of text as one object array [B, L], padded with "".

    Every row begins with "": a server that pads requests of different lengths into one batch repeats the first element
    of a request, which must not be an item. So L is at least 1, also for an empty history, which is answered from
    the prior.
    """
    return _pad(rows, max(map(len, rows), default=0), "", np.dtype(object))


def _pad(rows: Sequence[Sequence], width: int, neutral: str | float, dtype: np.dtype) -> np.ndarray:
    array = np.full((len(rows), 1 + width), neutral, dtype)
    for padded, values in zip(array, rows, strict=True):
        padded[1 : 1 + len(values)] = values
    return array


def _per_user(row: Row, value: Any, histories: Histories) -> np.ndarray:
    return arguments.per_row(value, len(histories), row.numpy_dtype.type, row.says, row.least)


def _per_cluster(row: Row, value: Any, histories: Histories) -> np.ndarray:
    return arguments.per_cluster(value, len(histories), row.numpy_dtype.type, row.says, row.least)


def _per_event(row: Row, value: Any, histories: Histories) -> np.ndarray:
    """A value beside each item of the history, or none for all items of a user: [B, L], as wide as the histories."""
    text = row.dtype == "string"
    rows = arguments.text_rows(value, row.says) if text else arguments.number_rows(value, row.says)
    lengths = [len(history) for history in histories]
    if len(rows) != len(lengths) or any(len(given) not in (0, n) for given, n in zip(rows, lengths, strict=True)):
        raise ValueError(
            f"Expected {row.says} for each of {len(lengths)} histories, none or as many as it has items ({lengths}), "
            f"got {[len(given) for given in rows]}."
        )
    if not text:
        dtype = row.numpy_dtype.type
        rows = [arguments.per_row(given, len(given), dtype, row.says, row.least) if given else [] for given in rows]
    return _pad(rows, max(lengths, default=0), row.neutral, row.numpy_dtype)


def _excluded(row: Row, value: Any, histories: Histories) -> np.ndarray:
    rows = arguments.text_rows(value, row.says)
    if len(rows) != len(histories):
        raise ValueError(f"Expected one sequence to {row.says} per history, {len(histories)}, got {len(rows)}.")
    return history_array(rows)


def _as_it_is(row: Row, value: Any, histories: Histories) -> np.ndarray:
    """What a bundle has answered, and reads again."""
    return np.asarray(value)


_READERS: dict[tuple[str, ...], Callable[[Row, Any, Histories], np.ndarray]] = {
    PER_USER: _per_user,
    PER_EVENT: _per_event,
    PER_CLUSTER: _per_cluster,
    EXCLUDED: _excluded,
}
