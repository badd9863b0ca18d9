"""The models of a server: loads and unloads versions, and finds the version that answers a request."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from pathlib import Path

import grpc
from tensorflow_serving.apis import model_pb2

from serving import memory
from serving.lifecycle import State, Version, VersionState, next_to_load, next_to_unload
from serving.loaded_version import Load, LoadedVersion
from serving.servable import Servable
from serving.status import ServingError, invalid_argument
from serving.warmup import warm_up
from tfdnc.contracts.errors import UserError

_LOG = logging.getLogger(__name__)


class ModelManager:
    """Loads the wanted versions, lends them to requests, and unloads the others once no request uses them.

    Nothing is polled. After every event, such as a call of `want` or the end of a load, the policy of
    `serving.lifecycle` chooses the next load and unload. Both run on their own threads, never on a request's.

    Args:
        load: Makes a servable; an error that it raises fails the version.
        warm_up: Called with a new servable before any request gets it; an error that it raises fails the version.
        max_num_load_retries: Number of further tries for a version that failed.
        load_retry_interval: Seconds between two tries.
        num_load_threads: Versions that are loaded at a time.
        num_unload_threads: Versions that are unloaded at a time.
    """

    def __init__(
        self,
        load: Load = Servable.load,
        warm_up: Callable[[LoadedVersion], object] = warm_up,
        max_num_load_retries: int = 0,
        load_retry_interval: float = 60.0,
        num_load_threads: int = 1,
        num_unload_threads: int = 1,
    ) -> None:
        self._load_servable, self._warm_up = load, warm_up
        self._max_num_load_retries, self._load_retry_interval = max_num_load_retries, load_retry_interval
        self._loaders = futures.ThreadPoolExecutor(num_load_threads, thread_name_prefix="load")
        self._unloaders = futures.ThreadPoolExecutor(num_unload_threads, thread_name_prefix="unload")
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._closing = False
        self._wanted: dict[str, dict[int, Path]] = {}
        self._versions: dict[str, dict[int, Version]] = {}  # also those that have ended, for GetModelStatus
        self._available: dict[str, dict[int, Version]] = {}
        self._labels: Mapping[str, Mapping[str, int]] = {}

    def want(self, name: str, versions: Mapping[int, Path]) -> None:
        """Sets the versions of a model that shall be available; they are loaded and unloaded in the background.

        As in TF Serving, a version that failed is tried again only after a call that does not want it. A loaded version
        stays, even if its folder is another one now.
        """
        with self._lock:
            if self._closing:
                return
            self._wanted[name] = dict(versions)
            self._advance(name)

    def wait_until_available(self, names: Iterable[str]) -> dict[str, VersionState]:
        """Waits until each model has an available version, or all of its wanted versions have failed.

        It also waits for the first try of all other wanted versions, but not for their retries.

        Returns:
            A failed version of each model that has no available one.

        Raises:
            ServingError: UNAVAILABLE: the manager is being closed.
        """
        names = set(names)
        with self._changed:
            self._changed.wait_for(lambda: self._closing or all(self._is_settled(name) for name in names))
            if self._closing:
                raise ServingError(grpc.StatusCode.UNAVAILABLE, "The server is being stopped.")
            failed = {name for name in names if not self._available.get(name)}
            return {
                name: version.snapshot()
                for name in sorted(failed)
                for version in self._versions.get(name, {}).values()
                if version.wanted
            }

    def _is_settled(self, name: str) -> bool:
        """Returns whether every wanted version was tried, and one is available or all have ended; call it locked."""
        versions = self._versions.get(name, {})
        wanted = [versions[number] for number in self._wanted.get(name, {})]
        if not all(version.wanted for version in wanted):  # it is being unloaded, and will then be loaded again
            return False
        ended = all(version.state == State.END for version in wanted)
        tried = all(version.state in (State.AVAILABLE, State.END) or version.failures for version in wanted)
        return ended or (tried and bool(self._available.get(name)))

    def set_labels(self, labels: Mapping[str, Mapping[str, int]]) -> None:
        """Replaces all version labels: model -> label -> version."""
        with self._lock:
            self._labels = labels

    def labels(self, name: str) -> Mapping[str, int]:
        """Returns the version labels of a model."""
        with self._lock:
            return self._labels.get(name, {})

    @contextlib.contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[LoadedVersion]:
        """Lends the version of a request: it is not unloaded while the block runs.

        Without a version or label in `spec` it is the highest available one.

        Raises:
            ServingError: NOT_FOUND if it is not available, INVALID_ARGUMENT for no name or an unknown label.
        """
        with self._lock:
            version = self._find(spec)
            version.leases += 1
        try:
            yield version.loaded
        finally:
            with self._lock:
                version.leases -= 1
                idle = not version.leases and version.state == State.UNLOADING
                closing = self._closing
                if idle and not closing:
                    self._unloaders.submit(self._unload, version)
            if idle and closing:
                self._unload(version)

    def _find(self, spec: model_pb2.ModelSpec) -> Version:
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        available = self._available.get(spec.name, {})
        number = self._number(spec)
        if number is None:
            if not available:
                raise _not_found(f"Servable not found for request: Latest({spec.name})")
            number = max(available)
        if number not in available:
            raise _not_found(f"Servable not found for request: Specific({spec.name}, {number})")
        return available[number]

    def _number(self, spec: model_pb2.ModelSpec) -> int | None:
        """Returns the version that `spec` names by number or label, or None; call it locked."""
        if spec.WhichOneof("version_choice") != "version_label":
            return spec.version.value if spec.HasField("version") else None
        number = self._labels.get(spec.name, {}).get(spec.version_label)
        if number is None:
            raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
        return number

    def states(self, spec: model_pb2.ModelSpec) -> list[VersionState]:
        """Returns the state of the version `spec` names, or of all versions of its model, highest first.

        Raises:
            ServingError: NOT_FOUND if this manager has never seen them; INVALID_ARGUMENT for an unknown label.
        """
        with self._lock:
            number = self._number(spec)
            versions = sorted(self._versions.get(spec.name, {}).values(), key=lambda version: -version.number)
            states = [version.snapshot() for version in versions if number in (None, version.number)]
        if not states and number is not None:
            raise _not_found(f"Could not find version {number} of model {spec.name}")
        if not states:
            raise _not_found(f"Could not find any versions of model {spec.name}")
        return states

    def available(self) -> dict[str, list[int]]:
        """Returns the available versions of every model, lowest first."""
        with self._lock:
            return {name: sorted(versions) for name, versions in self._available.items()}

    def interrupt(self) -> None:
        """Ends the runs of all requests, finished or not; no other run may begin."""
        with self._lock:
            servables = [version.servable for version in self._all() if version.servable is not None]
        for servable in servables:
            servable.interrupt()

    def wait_until_unloaded(self) -> None:
        """Waits until no version is in memory; after `close`, this is the end of the last request."""
        with self._changed:
            self._changed.wait_for(lambda: all(version.state == State.END for version in self._all()))

    def _all(self) -> list[Version]:
        return [version for versions in self._versions.values() for version in versions.values()]

    def close(self) -> None:
        """Unloads all versions, those in use at the end of their last request; returns when its threads have ended."""
        with self._lock:
            self._closing = True
            for name in self._versions:
                self._wanted[name] = {}
                self._advance(name)
        self._loaders.shutdown(cancel_futures=True)
        self._unloaders.shutdown()
        with self._lock:
            for version in self._all():
                if version.state == State.LOADING:  # cancelled before it began
                    version.state = State.END

    def _advance(self, name: str) -> None:
        """Starts the loads and unloads that the policy chooses; call it locked."""
        wanted, versions = self._wanted[name], self._versions.setdefault(name, {})
        for version in versions.values():
            self._update_wanted(version, version.number in wanted)
        for number, path in wanted.items():
            if number not in versions or (versions[number].state == State.END and not versions[number].wanted):
                versions[number] = Version(name, number, path)
        while (unneeded := next_to_unload(versions.values())) is not None:
            self._withdraw(unneeded)
        while (new := next_to_load(versions.values())) is not None:
            new.state = State.LOADING
            self._loaders.submit(self._load, new)
        self._changed.notify_all()

    @staticmethod
    def _update_wanted(version: Version, wanted: bool) -> None:
        ending = version.state in (State.UNLOADING, State.END)
        version.wanted = wanted and (version.wanted or not ending)  # one that ends is not kept: it is loaded again
        waiting = version.state == State.START or version.retry is not None
        if waiting and not version.wanted:
            if version.retry is not None:
                version.retry.cancel()
                version.retry = None
            version.state = State.END

    def _load(self, version: Version) -> None:
        """Loads and warms up a version, on a thread of its own; a thread of the loaders waits for it."""
        thread = memory.thread_with_heap(f"version-{version.number}")
        started = time.perf_counter()
        _LOG.info("%s is being loaded from %s", version.title, version.path)
        try:
            servable = thread.submit(self._make, version).result()
        except Exception as error:
            thread.shutdown()
            self._fail(version, error)
            return
        with self._lock:
            version.servable, version.thread, version.state = servable, thread, State.AVAILABLE
            version.code, version.message = grpc.StatusCode.OK, ""
            self._available.setdefault(version.name, {})[version.number] = version
            self._advance(version.name)  # under the same lock: a request finds the old version or this one
        _LOG.info("%s is available, after %.1f s; %s", version.title, time.perf_counter() - started, memory.shown())

    def _make(self, version: Version) -> LoadedVersion:
        """Returns the servable of a version after its warm-up; one that fails in it is closed."""
        servable = self._load_servable(version.name, version.number, version.path)
        try:
            self._warm_up(servable)
        except Exception:
            servable.close()
            raise
        return servable

    def _fail(self, version: Version, error: Exception) -> None:
        """Records a load that failed, and schedules the next try if one is left."""
        explained = isinstance(error, UserError)  # its message is enough without a traceback
        _LOG.error("%s failed to load: %s", version.title, error, exc_info=None if explained else error)
        with self._lock:
            version.code, version.message = grpc.StatusCode.UNKNOWN, str(error)
            version.failures += 1
            if version.wanted and version.failures <= self._max_num_load_retries:
                # A timer, not a sleeping thread of the loaders: these load other models meanwhile.
                version.retry = threading.Timer(max(0.0, self._load_retry_interval), self._retry, [version])
                version.retry.daemon = True
                version.retry.start()
            else:
                version.state = State.END
                self._advance(version.name)

    def _retry(self, version: Version) -> None:
        with self._lock:
            if version.retry is None:  # cancelled while it was about to run
                return
            version.retry = None
            _LOG.info("retry %d of %s", version.failures, version.title)
            self._loaders.submit(self._load, version)

    def _withdraw(self, version: Version) -> None:
        """Lends a version to no further request, and unloads it if no request uses it; call it locked."""
        version.state = State.UNLOADING
        del self._available[version.name][version.number]
        if not version.leases:
            self._unloaders.submit(self._unload, version)

    def _unload(self, version: Version) -> None:
        """Frees a version; call it unlocked, because freeing a big index takes long."""
        started = time.perf_counter()
        try:
            version.loaded.close()
        except Exception:  # the version has ended nevertheless, and a caller may wait for its end
            _LOG.exception("%s did not close", version.title)
        version.end_thread()
        version.servable = None
        memory.give_back()
        with self._lock:
            version.state = State.END
            self._advance(version.name)
            closing = self._closing
        if not closing:  # the end of the server is said by itself
            _LOG.info("%s is unloaded, in %.1f s; %s", version.title, time.perf_counter() - started, memory.shown())


def _not_found(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.NOT_FOUND, message)
