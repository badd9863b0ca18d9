"""Batches of a call: splits a large request by rows, and checks and joins the answers."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import grpc
import numpy as np
from tensorflow_serving.apis import predict_pb2

from serving import messages, tensors
from serving.client.answers import RetrievalError
from tfdnc.contracts import bundle as contract

Read = TypeVar("Read")

_OF_EVENTS = f"{contract.HISTORY}_"
"""Prefix of the inputs with a column per event, see `input_forms.history_rows`."""


class Part(NamedTuple):
    """A request for `rows` out of the `of` histories of a call."""

    rows: range
    of: int
    request: predict_pb2.PredictRequest

    @property
    def concerned(self) -> range | None:
        """Rows that an error names; None if it concerns all of them."""
        return self.rows if len(self.rows) < self.of else None


def split(request: predict_pb2.PredictRequest, rows: int, batch_size: int) -> Iterator[Part]:
    """Yields the request itself if it has at most `batch_size` rows, else parts with that many rows, in order.

    Every input of a bundle has a row per history (`bundle.SIGNATURES`), so all inputs are split alike. The whole
    request has been checked before.
    """
    if rows <= batch_size:
        yield Part(range(rows), rows, request)
        return
    arrays = {name: tensors.decode(proto) for name, proto in request.inputs.items()}
    for start in range(0, rows, batch_size):
        part = Part(range(start, min(start + batch_size, rows)), rows, predict_pb2.PredictRequest())
        part.request.model_spec.CopyFrom(request.model_spec)
        own = {name: _without_padding(array[part.rows.start : part.rows.stop]) for name, array in arrays.items()}
        for name, array in own.items():
            if name.startswith(_OF_EVENTS):  # a bundle refuses more columns than the history has, also of padding
                array = array[:, : own[contract.HISTORY].shape[1]]
            tensors.encode(array, part.request.inputs[name])
        yield part


def _without_padding(array: np.ndarray) -> np.ndarray:
    """Drops columns of padding at the end, which longer rows of other parts need; at least one column stays."""
    if array.dtype != object or array.ndim < 2:
        return array
    used = np.flatnonzero((array != b"").any(axis=tuple(axis for axis in range(array.ndim) if axis != 1)))
    return array[:, : used[-1] + 1 if len(used) else 1]


def read_part(
    part: Part, response: predict_pb2.PredictResponse, read: Callable[[predict_pb2.PredictResponse], Read]
) -> Read:
    """Returns the result of `read`, a function of `messages`, for the answer to `part`.

    Raises:
        RetrievalError: It is not the answer of a tfdnc bundle to this request.
    """
    try:
        for name, proto in response.outputs.items():
            sizes = [dim.size for dim in proto.tensor_shape.dim]
            if sizes[:1] != [len(part.rows)]:
                raise messages.ForeignModelError(
                    f"Expected {len(part.rows)} rows in every output, one per history, found shape {sizes} of {name}. "
                    "Ask for the model by the name it is served under."
                )
        return read(response)
    except (messages.ForeignModelError, tensors.MalformedTensorError) as error:
        message = f"{error} The model asked for was {part.request.model_spec.name!r}."
        raise RetrievalError(grpc.StatusCode.FAILED_PRECONDITION, message, part.concerned) from error


def join_encodings(encodings: list[messages.Encoding]) -> messages.Encoding:
    """Returns the encodings of the parts of a call as one."""
    if len(encodings) == 1:
        return encodings[0]
    return messages.Encoding(
        np.concatenate([encoding.user_embeddings for encoding in encodings]),
        np.concatenate([encoding.intent for encoding in encodings]),
    )
