"""Publication of versions into a model base path that servers watch: complete and verified, or not at all.

A rollback publishes the files of an earlier version under a new number. Servers that load the latest version load it as
any other, and the content of a number never changes.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from serving.bundles import bundle, publications
from serving.bundles.exclusive import hold
from tfdnc.contracts.errors import UserError

_PUBLISHING, _REMOVING, _LOCK = ".publishing-", ".removing-", ".publish.lock"  # no numbers, so no server loads them


def publish(
    source: Path,
    base_path: Path,
    finish: Callable[[Path], object],
    version: int | None = None,
    keep: int | None = None,
    note: Mapping[str, Any] | None = None,
    held: Collection[int] = (),
) -> Path:
    """Copies the version in `source` into `base_path` and returns its new folder.

    The copy is written under a name that is no number, checked, flushed to the disk, and renamed. So a server sees only
    complete versions, and loads the bytes that were checked. A publish that is killed leaves nothing that a server
    reads; the next publish removes its remains.

    Args:
        source: Folder of one version; it is not changed.
        base_path: Folder on a file system that renames atomically; made if it does not exist.
        finish: Called with the folder of the copy, to complete and to check it; an exception stops the publish.
        version: Number of the version, None for one more than the highest.
        keep: Most versions to keep in the base path; older ones are removed. None removes none. A server reads a
            version only within seconds after it appears, but a rollback needs the files of the restored version.
        note: Further entries of the record of the version, see `publications`; JSON.
        held: Numbers that `keep` must not remove, such as those that a models.config lists.

    Raises:
        UserError: The version exists, the base path cannot be written or is used by another publish.
    """
    base_path = _base(base_path)
    with _reported(base_path), _locked(base_path):
        publications.update_history(base_path)  # also makes sure that every record can be read
        number = _number(base_path, version)
        origin = {"source": str(Path(source).absolute())}

        def fill(partial: Path) -> dict[str, Any]:
            shutil.copytree(source, partial, copy_function=shutil.copy2)
            finish(partial)
            return publications.new_record(number, "publish", latest(base_path), origin | dict(note or {}))

        return _add(base_path, number, fill, keep, held)


def rollback(base_path: Path, to: int | None = None, note: Mapping[str, Any] | None = None) -> tuple[Path, int]:
    """Publishes the files of an earlier version again; returns the new folder, and the number of the earlier version.

    The files are hard links, which takes almost no time, or copies on a file system without links. They were verified
    when the earlier version was published.

    Args:
        base_path: Folder with at least two versions.
        to: Number of the version to restore; None for the one before the latest, see `publications.version_before`.
        note: See `publish`.

    Raises:
        UserError: No such version, or the base path cannot be written or is used by another publish.
    """
    base_path = _base(base_path)
    if not base_path.is_dir():
        raise UserError(f"Expected a model base path with versions at {base_path}, found none.")
    with _reported(base_path), _locked(base_path):
        publications.update_history(base_path)
        models = bundle.models_in(base_path)
        current = max(models, default=None)
        if current is None:
            raise UserError(f"Expected versions in {base_path}, found none: there is nothing to go back to.")
        restored = publications.version_before(base_path, current) if to is None else to
        source = models.get(restored)
        if source is None or restored == current:
            there = ", ".join(map(str, sorted(models)))
            raise UserError(
                f"Expected to go back from version {current} to version {restored} of {base_path}, but it has "
                f"versions {there}. Name one with --to, or publish the bundle again; --keep leaves more versions."
            )
        number = _number(base_path, None)

        def fill(partial: Path) -> dict[str, Any]:
            shutil.copytree(source, partial, copy_function=_link_file)
            return publications.new_record(number, "rollback", current, {"restores": restored} | dict(note or {}))

        return _add(base_path, number, fill, keep=None), restored


def latest(base_path: Path) -> int | None:
    """Returns the highest version with a model in a base path, None for none."""
    return max(bundle.models_in(base_path), default=None)


def _base(base_path: Path) -> Path:
    base_path = Path(base_path)
    if (base_path / bundle.SAVED_MODEL).exists():
        raise UserError(f"Expected a folder of versions, but {base_path} is a version: name the folder above it.")
    return base_path


def _add(
    base_path: Path,
    number: int,
    fill: Callable[[Path], dict[str, Any]],
    keep: int | None,
    held: Collection[int] = (),
) -> Path:
    """Makes a version visible after `fill` has written its files and returned its record."""
    final, partial = base_path / str(number), base_path / f"{_PUBLISHING}{number}"
    try:
        record = fill(partial)
        publications.write_record(partial, record)
        for path in (partial, *partial.rglob("*")):
            _sync(path)
        partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    try:
        _sync(base_path)
        publications.update_history(base_path)
        if keep is not None:
            _remove_oldest(base_path, keep, {number, *held})
    except OSError as error:
        raise UserError(
            f"Version {number} is published as {final}, but afterwards the system refused to update the history or to "
            f"remove an old version: {error}. The next publish does both again."
        ) from error
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
    """Excludes a second publish; the operating system releases the lock at the end of the process."""
    base_path.mkdir(parents=True, exist_ok=True)
    with (base_path / _LOCK).open("w") as file:
        hold(file, f"Another publish is at work in {base_path}: wait until it is done.")
        _remove_leftovers(base_path)
        yield


def _remove_leftovers(base_path: Path) -> None:
    for prefix in (_PUBLISHING, _REMOVING):
        for path in base_path.glob(f"{prefix}*"):
            _remove(path)


def _remove(path: Path) -> None:
    """Removes a folder with its content; of a link, which may be put there by hand, the link only."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _number(base_path: Path, version: int | None) -> int:
    # Removed versions count too: clients and logs may still name them.
    published = (record["version"] for record in publications.read_history(base_path))
    existing = {*bundle.versions_in(base_path), *published}
    if version is None:
        return 1 + max(existing, default=0)
    if version in existing:
        raise UserError(
            f"Expected a version that {base_path} never had, but it has, or had, {version}, and a version never "
            f"changes. Leave the number out to publish version {1 + max(existing)}."
        )
    return version


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def _sync(path: Path) -> None:
    """Flushes the content of a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_oldest(base_path: Path, keep: int, held: Collection[int]) -> None:
    versions = bundle.versions_in(base_path)
    for version in sorted(versions)[: max(0, len(versions) - keep)]:
        if version not in held:
            # First a rename: a server must not find a version with half of its files.
            removing = base_path / f"{_REMOVING}{version}"
            versions[version].rename(removing)
            _remove(removing)
