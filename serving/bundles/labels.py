"""Version labels in a models.config that servers poll, moved to versions only after the servers have loaded them.

A server refuses a label of a version that is not available, and a version that is no longer listed is unloaded. So a
move has three steps: the file lists the new version too, the label is moved, and versions without a label leave.
"""

import contextlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import grpc
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_pb2, model_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from serving import text_proto
from serving.bundles.exclusive import hold
from serving.client import connection
from tfdnc.contracts.errors import UserError

_LOG = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_CALL_SECONDS = 5.0


class Wanted(NamedTuple):
    """A version that servers have to answer from, by its number, or by a label."""

    model: str
    version: int
    label: str = ""

    def __str__(self) -> str:
        name = f"version {self.version} of model {self.model}"
        return f"label {self.label} at {name}" if self.label else name

    @property
    def spec(self) -> model_pb2.ModelSpec:
        """The version as a request names it."""
        spec = model_pb2.ModelSpec(name=self.model)
        if self.label:
            spec.version_label = self.label
        else:
            spec.version.value = self.version
        return spec


Wait = Callable[[Sequence[Wanted]], None]
"""Returns after the servers have all wanted versions."""


def move(file: Path, model: str, labels: Mapping[str, int], wait: Wait) -> list[int]:
    """Moves labels of a model, and returns the versions that the file lists then.

    Every change of the file is one rename, so a server reads the old content or the new one. Comments above the first
    entry stay, others are lost. If the servers do not load a version, the file gets its old content back.

    Args:
        file: A models.config, TF Serving's ModelServerConfig.
        model: Name of the model in it.
        labels: Version by label, such as {"stable": 12}; other labels stay where they are.
        wait: Waits until servers have taken the file up, see `wait_for_servers` and `wait_seconds`.

    Raises:
        UserError: The file cannot be read or written, has no such model, or its policy is not `specific`; another
            move is at work, or the file was edited meanwhile; or from `wait`.
    """
    with _locked(file):
        config = text_proto.read(file, model_server_config_pb2.ModelServerConfig())
        before = file.read_text()
        entry = _entry(config, file, model)
        listed = entry.model_version_policy.specific.versions
        listed.extend(sorted(set(labels.values()) - set(listed)))
        written = _replace(file, before, _text(before, config))
        try:
            wait([Wanted(model, number) for number in sorted(set(labels.values()))])
        except BaseException:
            _replace(file, written, before)
            raise
        entry.version_labels.update(labels)
        written = _replace(file, written, _text(before, config))
        wait([Wanted(model, number, label) for label, number in labels.items()])
        del listed[:]
        listed.extend(sorted(set(entry.version_labels.values())))
        _replace(file, written, _text(before, config))
        return list(listed)


def listed_versions(file: Path, model: str) -> set[int]:
    """Returns the versions of a model that a models.config lists, which servers hold.

    Raises:
        UserError: See `move`.
    """
    config = text_proto.read(file, model_server_config_pb2.ModelServerConfig())
    return set(_entry(config, file, model).model_version_policy.specific.versions)


def wait_for_servers(targets: Sequence[str], timeout: float, tls: connection.Tls | None = None) -> Wait:
    """Returns a `Wait` that asks every server with GetModelStatus until all wanted versions are available.

    Args:
        targets: Servers, `host:port` each.
        timeout: Most seconds of one wait.
        tls: Files of encrypted connections.
    """

    def wait(wanted: Sequence[Wanted]) -> None:
        end = time.monotonic() + timeout
        for target in targets:
            with connection.connect(grpc, target, tls, connection.Retry(attempts=1), options={}) as channel:
                stub = model_service_pb2_grpc.ModelServiceStub(channel)
                for one in wanted:
                    _LOG.info("waiting until %s has %s", target, one)
                    _wait_for(stub, one, target, end)

    return wait


def wait_seconds(seconds: float) -> Wait:
    """Returns a `Wait` of a fixed time, for servers that cannot be reached from here.

    Args:
        seconds: Longer than servers take to read the file again and to load a version.
    """

    def wait(wanted: Sequence[Wanted]) -> None:
        _LOG.info("waiting %g seconds until servers have %s", seconds, ", ".join(map(str, wanted)))
        time.sleep(seconds)

    return wait


def _wait_for(stub: model_service_pb2_grpc.ModelServiceStub, wanted: Wanted, target: str, end: float) -> None:
    while problem := _problem(stub, wanted):
        if time.monotonic() >= end:
            raise UserError(
                f"Expected {target} to have {wanted} by now, it says: {problem}. Look at its log; if it only needs "
                "longer, raise --timeout. The same labels can be moved again."
            )
        time.sleep(_POLL_SECONDS)


def _problem(stub: model_service_pb2_grpc.ModelServiceStub, wanted: Wanted) -> str | None:
    """Returns the words of a server about a version that is not available; None for one that is."""
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=wanted.spec)
    try:
        answer = stub.GetModelStatus(request, timeout=_CALL_SECONDS)
    except grpc.RpcError as error:
        return f"{error.code().name}, {error.details()}"
    state = get_model_status_pb2.ModelVersionStatus.State
    found = {status.version: status for status in answer.model_version_status}
    if wanted.version in found and found[wanted.version].state == state.AVAILABLE:
        return None
    states = (
        f"version {number} is {state.Name(status.state)} {status.status.error_message}".rstrip()
        for number, status in found.items()
    )
    return ", ".join(states) or "no version"


def _entry(
    config: model_server_config_pb2.ModelServerConfig, file: Path, model: str
) -> model_server_config_pb2.ModelConfig:
    """Returns the entry of a model whose policy lists its versions."""
    entries = {entry.name: entry for entry in config.model_config_list.config}
    if model not in entries:
        known = ", ".join(sorted(entries)) or "no model"
        raise UserError(f"Expected model {model} in {file}, found {known}. Name it with --model-name.")
    entry = entries[model]
    if entry.model_version_policy.WhichOneof("policy_choice") != "specific":
        raise UserError(
            f"Expected `model_version_policy {{ specific {{ versions: NUMBER }} }}` of model {model} in {file}: under "
            "another policy servers load and unload versions by themselves, and labels lose theirs. Write the versions "
            "that are served now."
        )
    return entry


def _text(before: str, config: model_server_config_pb2.ModelServerConfig) -> str:
    """Returns the config as text, below the comments at the head of the earlier content."""
    lines = before.splitlines(keepends=True)
    head = itertools.takewhile(lambda line: line.startswith("#") or not line.strip(), lines)
    return "".join(head) + text_format.MessageToString(config)


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Excludes a second move; the operating system releases the lock at the end of the process."""
    try:
        stream = file.with_name(f".{file.name}.lock").open("w")
    except OSError as error:
        raise UserError(f"Expected to write beside {file}, the system refused: {error}.") from error
    with stream:
        hold(stream, f"Another command moves labels in {file}: wait until it is done.")
        yield


def _replace(file: Path, expected: str, content: str) -> str:
    """Writes new content in place of the expected one, and returns it; an edit by others is never overwritten."""
    partial = file.with_name(f".{file.name}.new")
    try:
        if file.read_text() != expected:
            raise UserError(f"Expected {file} as this command wrote it, it has been edited. Move the labels again.")
        with partial.open("w") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.rename(file)
    except OSError as error:
        raise UserError(f"Expected to write {file}, the system refused: {error}. Labels were not moved.") from error
    return content
