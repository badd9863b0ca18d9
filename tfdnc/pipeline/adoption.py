"""Adoption of a finished station of another run with the same fingerprint: its files are hard-linked.

That is safe, because a finished folder is only replaced as a whole and never written into. The deletion of one name of
a file leaves the others.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfdnc.pipeline.manifests import MANIFEST, file_sizes, read_manifest, replace_folder


def adopted_folder(place: Path) -> Path:
    """Returns the folder in which the files of another run are collected before they move to `place`."""
    return place.with_name(f".{place.name}.adopted")


def adopt(place: Path, station: str, fingerprint: str) -> dict[str, Any] | None:
    """Links a finished folder with this fingerprint, of any station of any run in the same folder of runs.

    Args:
        place: folder of the station in its run.
        station: name of the station.
        fingerprint: required fingerprint.

    Returns:
        The manifest, with the other run as `adopted`: RUN, or RUN/FOLDER for another station. None without such a
        folder.
    """
    run, staging = place.parent, adopted_folder(place)
    for folder in _finished_elsewhere(run, fingerprint):
        manifest = read_manifest(folder)
        if manifest is None:  # damaged, or removed meanwhile
            continue
        run.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        try:
            whole = _link_files(folder, manifest, staging)
        except FileNotFoundError:  # deleted or replaced meanwhile
            whole = False
        if whole:
            owner = folder.parent.name if folder.name == place.name else f"{folder.parent.name}/{folder.name}"
            own = manifest | {"station": station, "adopted": owner}
            (staging / MANIFEST).write_text(json.dumps(own, indent=1))
            replace_folder(staging, place)
            return own
    shutil.rmtree(staging, ignore_errors=True)
    return None


def _finished_elsewhere(run: Path, fingerprint: str) -> Iterator[Path]:
    """Yields folders of finished stations with this fingerprint: of the run itself, then of its siblings by name."""
    runs = sorted(run.parent.glob("[!.]*"), key=lambda path: (path.name != run.name, path.name))
    for sibling in runs:
        for path in sorted(
            sibling.glob(f"[!.]*/{MANIFEST}")
        ):  # names of unfinished or outdated folders begin with a dot
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # as in `read_manifest`
                if json.loads(path.read_text())["fingerprint"] == fingerprint:
                    yield path.parent


def _link_files(folder: Path, manifest: dict[str, Any], target: Path) -> bool:
    """Links the files of a finished station into `target`; returns False if the station was replaced meanwhile."""
    target.mkdir()
    for path in sorted(folder.rglob("*")):  # a folder comes before its files
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            (target / name).mkdir()
        elif name in manifest["files"]:
            _link(path, target / name)
    return file_sizes(target) == manifest["files"] and read_manifest(folder) == manifest


def _link(path: Path, place: Path) -> None:
    try:
        os.link(path, place)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copy2(path, place)
