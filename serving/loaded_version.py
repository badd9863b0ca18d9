"""The interface of a loaded version of a model: what the RPCs and the model manager need of it, batched or not."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from serving.deadline import Abandoned


class LoadedVersion(Protocol):
    """A version in memory, such as `serving.servable.Servable`; `run` may be called from many threads at once.

    Attributes:
        name: Name of the model.
        version: Number of the version.
        path: Folder of the version.
        signatures: `SignatureDef` by name.
    """

    name: str
    version: int
    path: Path
    signatures: dict[str, meta_graph_pb2.SignatureDef]

    def signature(self, key: str) -> meta_graph_pb2.SignatureDef:
        """Returns a signature by its name; see `Servable.signature`."""

    def run(
        self,
        key: str,
        feeds: Mapping[str, np.ndarray],
        outputs: Iterable[str],
        deadline: float | None = None,
        abandoned: Abandoned | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns the requested outputs of a signature; see `Servable.run`."""

    def interrupt(self) -> None:
        """Ends the running requests; no other may begin."""

    def close(self) -> None:
        """Frees the version; no request may be running."""


Load = Callable[[str, int, Path], LoadedVersion]
"""Loads a version, given the name of its model, its number and its folder."""
