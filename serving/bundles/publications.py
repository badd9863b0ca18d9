"""Records of publications, with time, source and reason: one in every version, and all of them in the base path."""

import contextlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serving.bundles import bundle
from tfdnc.contracts.errors import UserError

RECORD_ASSET = "assets.extra/publication.json"
"""Inside a published version, a JSON object: `version`, `action` (publish or rollback), `time` (UTC), `previous` (the
latest version before, null for none), and the entries of the publisher, such as source, run, figures and reason."""

HISTORY = ".publications.jsonl"
"""In the base path: the records of all versions, also of removed ones, oldest first. Servers ignore this file."""


def new_record(version: int, action: str, previous: int | None, note: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the record for the publication of a version."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"version": version, "action": action, "time": now, "previous": previous, **note}


def write_record(version_folder: Path, record: Mapping[str, Any]) -> None:
    """Writes the record into a version before servers can see it.

    An existing file is removed first, because it may be a hard link to the record of another version.
    """
    file = version_folder / RECORD_ASSET
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_text(json.dumps(record, indent=1))


def read_record(version_folder: Path) -> dict[str, Any] | None:
    """Returns the record of a version; None for one that was copied by hand, or published by an earlier tfdnc."""
    file = version_folder / RECORD_ASSET
    try:
        return _record(file.read_text(), file)
    except FileNotFoundError:
        return None


def update_history(base_path: Path) -> None:
    """Adds missing records to the history, such as that of a publish that was killed after its rename.

    The whole file is written and renamed, so a reader sees the old history or the new one.
    """
    known = read_history(base_path)
    existing = {(record["version"], record["time"]) for record in known}
    records = [read_record(folder) for _, folder in sorted(bundle.models_in(base_path).items())]
    added = [record for record in records if record and (record["version"], record["time"]) not in existing]
    if added:
        lines = "".join(json.dumps(record) + "\n" for record in known + added)
        partial = base_path / f"{HISTORY}.new"
        with partial.open("w") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(base_path / HISTORY)


def read_history(base_path: Path) -> list[dict[str, Any]]:
    """Returns the records of all publications into a base path, oldest first.

    Raises:
        UserError: A line is no record.
    """
    file = base_path / HISTORY
    with contextlib.suppress(FileNotFoundError):
        return [_record(line, file) for line in file.read_text().splitlines()]
    return []


def _record(text: str, file: Path) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except ValueError:
        record = None
    kinds = {"version": int, "action": str, "time": str, "previous": int | None}
    whole = isinstance(record, dict) and all(
        key in record and isinstance(record[key], kind) for key, kind in kinds.items()
    )
    if not whole or (record["action"] == "rollback" and not isinstance(record.get("restores"), int)):
        raise UserError(
            f"Expected records of publications in {file}, JSON objects with {', '.join(kinds)}; found {text[:80]!r}. "
            "Remove that line, or the file: nothing was published."
        )
    return record


def version_before(base_path: Path, version: int) -> int:
    """Returns the version that a rollback of `version` restores.

    It is the version that was the latest when `version` was published. If `version` is itself a rollback, it is the
    version before the restored one, so that two rollbacks go back two versions. Without a record it is the next lower
    number.

    Raises:
        UserError: No earlier version exists.
    """
    records = {record["version"]: record for record in read_history(base_path)}
    record = records.get(version)
    if record and record["action"] == "rollback":
        return version_before(base_path, record["restores"])
    lower = [number for number in bundle.models_in(base_path) if number < version]
    previous = record["previous"] if record else max(lower, default=None)
    if previous is None:
        raise UserError(f"Expected a version before {version} in {base_path}, found none: nothing can be brought back.")
    return previous
