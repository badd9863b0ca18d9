"""The models a server holds: which versions are loaded, in which state, and which one answers a request."""

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_pb2

from serving import bundle
from serving.servable import Servable
from serving.status import ServingError, invalid_argument
from serving.warmup import warm_up

_LOG = logging.getLogger(__name__)

State = get_model_status_pb2.ModelVersionStatus.State
"""START, LOADING, AVAILABLE, UNLOADING, END: the life of a version, in TF Serving's numbers."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A model to serve: the name clients ask for, and the folder of its versions (see `bundle.find_versions`)."""

    name: str
    base_path: Path


@dataclasses.dataclass
class _Entry:
    """One version of one model; the fields below `path` are guarded by the manager's lock.

    A version that ended because it failed keeps its code and message, for GetModelStatus.
    """

    name: str
    version: int
    path: Path
    state: int = State.START
    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""
    servable: Servable | None = None
    leases: int = 0


@dataclasses.dataclass(frozen=True)
class VersionState:
    """State of one version: `State` number, and the error it ended with, if any."""

    version: int
    state: int
    code: grpc.StatusCode
    message: str


class ModelManager:
    """Loads versions, lends them to requests, and unloads them once nobody uses them any more."""

    def __init__(self):
        self._lock = threading.Lock()
        self._models: dict[str, dict[int, _Entry]] = {}

    def load_latest(self, config: ModelConfig) -> int:
        """Loads the highest version of a model, warms it up, makes it available, and returns its number.

        Raises:
            UserError: There is no version, or it cannot be served; the state of a version that failed is kept.
        """
        versions = bundle.find_versions(config.base_path)
        latest = max(versions)
        self.load(config.name, latest, versions[latest])
        return latest

    def load(self, name: str, version: int, path: Path) -> None:
        """Loads one version from `path`; it answers requests from the moment this returns.

        Raises:
            UserError: The version cannot be served.
        """
        entry = _Entry(name, version, path, State.LOADING)
        with self._lock:
            self._models.setdefault(name, {})[version] = entry
        servable = None
        try:
            servable = Servable.load(name, version, path)
            warm_up(servable)
        except Exception as error:
            if servable is not None:
                servable.close()
            with self._lock:
                entry.state, entry.code, entry.message = State.END, grpc.StatusCode.UNKNOWN, str(error)
            raise
        with self._lock:
            entry.servable, entry.state = servable, State.AVAILABLE

    @contextlib.contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """Lends the version that a request asks for; it is not unloaded while the block runs.

        Without a version in `spec` that is the highest available one.

        Raises:
            ServingError: NOT_FOUND if it is not available, INVALID_ARGUMENT for no name or an unknown label.
        """
        with self._lock:
            entry = self._find(spec)
            entry.leases += 1
        try:
            yield entry.servable
        finally:
            with self._lock:
                entry.leases -= 1
                finished = self._take_if_idle(entry)
            self._end(entry, finished)

    def _find(self, spec: model_pb2.ModelSpec) -> _Entry:
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        if spec.version_label:
            raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
        entries = self._models.get(spec.name, {})
        available = [version for version, entry in entries.items() if entry.state == State.AVAILABLE]
        if not spec.HasField("version"):
            if not available:
                raise _not_found(f"Servable not found for request: Latest({spec.name})")
            return entries[max(available)]
        if spec.version.value not in available:
            raise _not_found(f"Servable not found for request: Specific({spec.name}, {spec.version.value})")
        return entries[spec.version.value]

    def states(self, spec: model_pb2.ModelSpec) -> list[VersionState]:
        """Returns the state of the version `spec` names, or of all versions of its model, highest first.

        Raises:
            ServingError: NOT_FOUND if this manager has never seen them; INVALID_ARGUMENT for an unknown label.
        """
        if spec.version_label:
            raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
        with self._lock:
            entries = sorted(self._models.get(spec.name, {}).values(), key=lambda entry: -entry.version)
            if spec.HasField("version"):
                entries = [entry for entry in entries if entry.version == spec.version.value]
            states = [VersionState(entry.version, entry.state, entry.code, entry.message) for entry in entries]
        if not states and spec.HasField("version"):
            raise _not_found(f"Could not find version {spec.version.value} of model {spec.name}")
        if not states:
            raise _not_found(f"Could not find any versions of model {spec.name}")
        return states

    def available(self) -> dict[str, list[int]]:
        """Returns the available versions of every model, lowest first."""
        with self._lock:
            return {
                name: sorted(version for version, entry in entries.items() if entry.state == State.AVAILABLE)
                for name, entries in self._models.items()
            }

    def unload(self, name: str, version: int) -> None:
        """Lends a version to no further request, and frees it as soon as those that have it are done."""
        with self._lock:
            entry = self._models[name][version]
            if entry.state != State.AVAILABLE:
                return
            entry.state = State.UNLOADING
            finished = self._take_if_idle(entry)
        self._end(entry, finished)

    def close(self) -> None:
        """Unloads everything."""
        for name, versions in self.available().items():
            for version in versions:
                self.unload(name, version)

    @staticmethod
    def _take_if_idle(entry: _Entry) -> Servable | None:
        """Returns the servable to close if `entry` is to be unloaded and nobody uses it; needs the lock."""
        if entry.state != State.UNLOADING or entry.leases:
            return None
        servable, entry.servable = entry.servable, None
        return servable

    def _end(self, entry: _Entry, servable: Servable | None) -> None:
        """Closes what `_take_if_idle` gave; without the lock, because freeing a big index takes a while."""
        if servable is None:
            return
        servable.close()
        with self._lock:
            entry.state = State.END


def _not_found(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.NOT_FOUND, message)
