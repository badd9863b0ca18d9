"""Subjects of a benchmark of serving: a version of a bundle, and the requests of its clients."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tensorflow_serving.apis import predict_pb2

from serving import messages
from serving.bundles.recorded import read_recorded
from serving.bundles.verify import find_version
from tfdnc.contracts import bundle
from tfdnc.contracts.errors import UserError
from tfdnc.load_test.bundle import Size, make_bundle, make_histories

_USERS = 64
_SIGNATURE = "retrieve"


class Subject(NamedTuple):
    """A version of a bundle, a description, and requests of one user each."""

    version: Path
    description: str
    requests: list[predict_pb2.PredictRequest]


def recorded(base_path: Path) -> Subject:
    """Returns the latest version under a base path, with its recorded requests of one user each.

    Raises:
        UserError: no bundle exists there, or it has no such request.
    """
    version = find_version(base_path)
    requests = [log.request for log in read_recorded(version) if _is_one_users(log.request)]
    if not requests:
        raise UserError(f"Expected recorded requests to {_SIGNATURE} for one user in {version}, found none.")
    return Subject(version, f"The bundle {base_path}, {len(requests)} recorded requests.", requests)


@contextlib.contextmanager
def synthetic(size: Size) -> Iterator[Subject]:
    """Yields a temporary bundle with random weights, and requests for it."""
    requests = [messages.retrieve_request([history], size.max_candidates) for history in make_histories(size, _USERS)]
    description = (
        f"A synthetic bundle with random weights: {size.encoder}, {size.items:,} items, {size.clusters} clusters, "
        f"D = {size.dim}, index {size.index}; histories of {size.history_length}, {size.max_candidates} candidates."
    )
    with tempfile.TemporaryDirectory() as folder:
        yield Subject(make_bundle(size, Path(folder)), description, requests)


def _is_one_users(request: predict_pb2.PredictRequest) -> bool:
    rows = request.inputs[bundle.HISTORY].tensor_shape.dim[0].size
    return request.model_spec.signature_name == _SIGNATURE and rows == 1
