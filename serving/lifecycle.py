"""The life of one version, and the policy that chooses the next load and unload so that a model stays available."""

import dataclasses
import threading
from collections.abc import Collection
from concurrent import futures
from pathlib import Path

import grpc
from tensorflow_serving.apis import get_model_status_pb2

from serving.loaded_version import LoadedVersion

State = get_model_status_pb2.ModelVersionStatus.State
"""START, LOADING, AVAILABLE, UNLOADING, END: the life of a version, in TF Serving's numbers."""


@dataclasses.dataclass(frozen=True)
class VersionState:
    """State of one version for GetModelStatus: a `State` number, and the failure of its last load, if any."""

    version: int
    state: int
    code: grpc.StatusCode
    message: str


@dataclasses.dataclass(eq=False)
class Version:
    """One version of one model, from the moment it is wanted; guarded by the manager's lock.

    Attributes:
        name: Name of the model.
        number: Number of the version.
        path: Its folder.
        wanted: True while it is to be served; TF Serving calls it "aspired".
        state: Number of its `State`.
        code: Status of the last load that failed, else OK.
        message: Error message for `code`.
        failures: Number of loads that failed.
        retry: Timer of the next try.
        servable: Set while the version is available or being unloaded.
        thread: The thread that made the servable; see `memory.thread_with_heap`.
        leases: Requests that use the servable.
    """

    name: str
    number: int
    path: Path
    wanted: bool = True
    state: int = State.START
    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""
    failures: int = 0
    retry: threading.Timer | None = None
    servable: LoadedVersion | None = None
    thread: futures.Executor | None = None
    leases: int = 0

    @property
    def title(self) -> str:
        """Name for messages."""
        return f"version {self.number} of model {self.name}"

    def end_thread(self) -> None:
        """Ends the thread of the servable; returns when it has ended."""
        if self.thread is not None:
            self.thread.shutdown()
            self.thread = None

    def snapshot(self) -> VersionState:
        """Returns the state for GetModelStatus."""
        return VersionState(self.number, self.state, self.code, self.message)

    @property
    def loaded(self) -> LoadedVersion:
        """The servable of a version that is available or being unloaded.

        Raises:
            RuntimeError: The version is not in memory.
        """
        if self.servable is None:
            raise RuntimeError(f"version {self.number} of model {self.name} is not in memory")
        return self.servable


def next_to_unload(versions: Collection[Version]) -> Version | None:
    """Returns the version to unload now, the lowest one that is not wanted, or None.

    The last available version is kept until a wanted one is available, or none is wanted at all. This is TF Serving's
    availability-preserving policy: while the new version fails to load, the old one goes on answering.
    """
    available = [version for version in versions if version.state == State.AVAILABLE]
    unwanted = [version for version in available if not version.wanted]
    nothing_wanted = not any(version.wanted for version in versions)
    may_unload = nothing_wanted or len(unwanted) < len(available) or len(unwanted) > 1
    return min(unwanted, key=lambda version: version.number) if unwanted and may_unload else None


def next_to_load(versions: Collection[Version]) -> Version | None:
    """Returns the highest wanted version that was not tried yet."""
    new = [version for version in versions if version.wanted and version.state == State.START]
    return max(new, key=lambda version: version.number, default=None)
