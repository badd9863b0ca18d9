"""Finished folders of stations: their manifests, and their replacement as a whole."""

import json
import shutil
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Returns the manifest of a finished station; None if it is unfinished, or files are missing or truncated."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        listed = dict(manifest["files"])
        found = file_sizes(folder)
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # missing, removed meanwhile, or another format
        return None
    return manifest if all(found.get(name) == size for name, size in listed.items()) else None


def file_sizes(folder: Path) -> dict[str, int]:
    """Returns the bytes of every file below a folder, by relative path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def old_folder(place: Path) -> Path:
    """Returns the temporary name of a finished folder during its replacement."""
    return place.with_name(f".{place.name}.old")


def replace_folder(output: Path, place: Path) -> None:
    """Renames a finished folder to `place`; a reader sees the old folder, or none, or the new one."""
    if place.exists():
        old = old_folder(place)
        place.rename(old)
        output.rename(place)
        shutil.rmtree(old)
    else:
        output.rename(place)
