"""Puts a version into a model base path that servers watch: whole, verified and under a number, or not at all."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from serving.bundles import bundle
from tfdnc.contracts.errors import UserError

_PUBLISHING, _REMOVING, _LOCK = ".publishing-", ".removing-", ".publish.lock"  # no numbers, so no server loads them


def publish(
    source: Path,
    base_path: Path,
    check: Callable[[Path], object],
    version: int | None = None,
    keep: int | None = None,
) -> Path:
    """Copies the version in `source` into `base_path` and returns the folder it got there.

    The copy is written under a name that is no number, checked, forced to the disk, and renamed. A server therefore
    sees a version that is complete, and what was checked is what it loads, byte for byte. Killed at any moment, a
    publish leaves nothing that a server looks at; the next one removes what it did leave.

    Args:
        source: Folder of one version; it is not changed.
        base_path: On a local or mounted file system that renames atomically; made if it is not there.
        check: Called with the folder of the copy; whatever it raises stops the publish.
        version: Number of the version, None for one more than the highest there.
        keep: Most versions left in the base path, the oldest go; None removes none. A server loads a version within
            seconds of seeing it and reads nothing of it afterwards, but one that is to go back to a version needs it.

    Raises:
        UserError: The version exists, the base path cannot be written or is used by another publish.
    """
    base_path = Path(base_path)
    if (base_path / bundle.SAVED_MODEL).exists():
        raise UserError(f"Expected a folder of versions, but {base_path} is a version: name the folder above it.")
    with _reported(base_path), _locked(base_path):
        _remove_leftovers(base_path)
        final = base_path / str(_number(base_path, version))
        partial = base_path / f"{_PUBLISHING}{final.name}"
        try:
            _copy(source, partial)
            check(partial)
            partial.rename(final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _sync(base_path)
        if keep is not None:
            _remove_oldest(base_path, keep, final)
    return final


@contextlib.contextmanager
def _reported(base_path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"Expected to write a version into {base_path}, the system refused: {error}. "
            "Nothing was published; make room or get permission, and publish again."
        ) from error


@contextlib.contextmanager
def _locked(base_path: Path) -> Iterator[None]:
    """Keeps a second publish out; the lock goes with the process, however that ends."""
    base_path.mkdir(parents=True, exist_ok=True)
    with (base_path / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Another publish is at work in {base_path}: wait until it is done.") from error
        yield


def _remove_leftovers(base_path: Path) -> None:
    for prefix in (_PUBLISHING, _REMOVING):
        for path in base_path.glob(f"{prefix}*"):
            shutil.rmtree(path)


def _number(base_path: Path, version: int | None) -> int:
    existing = bundle.versions_in(base_path)
    if version is None:
        return 1 + max(existing, default=0)
    if version in existing:
        raise UserError(
            f"Expected a version that {base_path} does not have yet, but it has {version}, and a version never "
            f"changes. Leave the number out to publish version {1 + max(existing)}."
        )
    return version


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=_copy_file)
    for folder in [target, *(path for path in target.rglob("*") if path.is_dir())]:
        _sync(folder)


def _copy_file(source: str, target: str) -> None:
    shutil.copy2(source, target)
    _sync(Path(target))


def _sync(path: Path) -> None:
    """Returns when the content of a file, or the names in a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_oldest(base_path: Path, keep: int, published: Path) -> None:
    versions = bundle.versions_in(base_path)
    for version in sorted(versions)[: max(0, len(versions) - keep)]:
        if versions[version] != published:
            # First out of sight: a server must not find a version that is half gone.
            removing = base_path / f"{_REMOVING}{version}"
            versions[version].rename(removing)
            shutil.rmtree(removing)
