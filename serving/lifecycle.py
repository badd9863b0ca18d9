"""The life of one version, and the policy that says what comes next so that a model is never without one."""

import dataclasses
import threading
from collections.abc import Collection
from pathlib import Path

import grpc
from tensorflow_serving.apis import get_model_status_pb2

from serving.servable import LoadedVersion

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
        wanted: Whether it shall be served; TF Serving says "aspired".
        state: Where it is in its life.
        code: Of the last load that failed, else OK.
        message: Belongs to `code`.
        failures: Loads that failed.
        retry: Runs until the next try.
        servable: While it is available or being unloaded.
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
    leases: int = 0

    def snapshot(self) -> VersionState:
        """Returns what GetModelStatus tells about it."""
        return VersionState(self.number, self.state, self.code, self.message)


def next_to_unload(versions: Collection[Version]) -> Version | None:
    """Returns the version to unload now: the lowest unwanted one, but the last one only if it can be spared.

    It can once a wanted version is available, or if none is wanted at all. As TF Serving's availability-preserving
    policy has it, a wanted version that failed to load therefore leaves the old one in place.
    """
    available = [version for version in versions if version.state == State.AVAILABLE]
    unwanted = [version for version in available if not version.wanted]
    nothing_wanted = not any(version.wanted for version in versions)
    spare = nothing_wanted or len(unwanted) < len(available) or len(unwanted) > 1
    return min(unwanted, key=lambda version: version.number) if unwanted and spare else None


def next_to_load(versions: Collection[Version]) -> Version | None:
    """Returns the highest wanted version that was not tried yet."""
    new = [version for version in versions if version.wanted and version.state == State.START]
    return max(new, key=lambda version: version.number, default=None)
