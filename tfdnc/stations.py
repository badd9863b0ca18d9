"""Runs one station of the road: skips it when nothing it depends on changed, and never leaves a half-written folder.

A station reads the folders of the stations before it and writes its own, with a `manifest.json` that says what it was
made of. The manifest's fingerprint covers the station's settings, its input files and the fingerprints of the stations
it needs, so a change anywhere upstream reaches every station it concerns, and no other. It also lists the files of the
station with their sizes: a station with a missing or truncated file did not finish, and runs again.
"""

import contextlib
import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tfdnc import __version__
from tfdnc.config import ExperimentConfig
from tfdnc.errors import UserError

MANIFEST = "manifest.json"
_UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Workplace:
    """What a running station may touch.

    Attributes:
        config: the experiment.
        run: folder of the run, with the finished folders of the other stations.
        output: where the station writes; renamed to its place when the station is done.
    """

    config: ExperimentConfig
    run: Path
    output: Path


@dataclass(frozen=True)
class Station:
    """One station of the road.

    Attributes:
        name: of the station; also the command that runs it.
        folder: where in the run it writes.
        needs: the stations it reads from.
        settings: config -> the part of it that the result depends on, JSON-serialisable.
        work: does the work and returns figures, JSON-serialisable.
        headline: figures -> the one line a person wants to see.
        files: config, run -> input files that no needed station wrote.
        check: config -> raises a `UserError` for a name that `work` would stumble over, before any station works.
        resumes: whether `work` can continue in the unfinished `output` of a killed run.
    """

    name: str
    folder: str
    needs: tuple["Station", ...]
    settings: Callable[[ExperimentConfig], dict]
    work: Callable[[Workplace], dict]
    headline: Callable[[dict], str]
    files: Callable[[ExperimentConfig, Path], list[Path]] = field(default=lambda config, run: [])
    check: Callable[[ExperimentConfig], object] = field(default=lambda config: None)
    resumes: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a station ended."""

    figures: dict
    seconds: float
    skipped: bool


def run_station(station: Station, config: ExperimentConfig, run: Path, force: bool = False) -> Outcome:
    """Runs a station, or skips it when its manifest shows that it has already run on the same inputs.

    Args:
        station: what to run.
        config: the experiment.
        run: folder of the run.
        force: run although nothing changed.

    Raises:
        UserError: a station it needs has not finished, or an input file is missing.
    """
    inputs = _inputs(station, config, run)
    fingerprint = _digest(inputs)
    finished = read_manifest(run / station.folder)
    if finished and finished["fingerprint"] == fingerprint and not force:
        return Outcome(finished["figures"], finished["seconds"], skipped=True)

    output = run / f".{station.folder}.unfinished"
    _open_output(output, fingerprint, keep=station.resumes and not force)
    started = time.monotonic()
    figures = station.work(Workplace(config, run, output))
    seconds = round(time.monotonic() - started, 2)
    manifest = {
        "station": station.name,
        "fingerprint": fingerprint,
        "inputs": inputs,
        "figures": figures,
        "seconds": seconds,
        "files": {name: size for name, size in _sizes(output).items() if name != _UNFINISHED},
    }
    (output / MANIFEST).write_text(json.dumps(manifest, indent=1))
    (output / _UNFINISHED).unlink()
    _replace(output, run / station.folder)
    return Outcome(figures, seconds, skipped=False)


@contextlib.contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Keeps a second process out of a run; the lock goes with the process, however that ends.

    Raises:
        UserError: another process is at work in the run.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Expected {run} for itself, but another tfdnc is at work there: wait for it.") from error
        yield


def read_manifest(folder: Path) -> dict | None:
    """Returns the manifest of a finished station; None if it never finished, or its files are no longer whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        listed = manifest["files"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or not the JSON this module writes
        return None
    found = _sizes(folder)
    return manifest if all(found.get(name) == size for name, size in listed.items()) else None


def _sizes(folder: Path) -> dict[str, int]:
    """Every file below the folder, with its bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _inputs(station: Station, config: ExperimentConfig, run: Path) -> dict:
    """Everything the station's result depends on."""
    needed = {}
    for other in station.needs:
        manifest = read_manifest(run / other.folder)
        if manifest is None:
            raise UserError(f"Expected a finished {run / other.folder}, found none: run `tfdnc {other.name}` first.")
        needed[other.name] = manifest["fingerprint"]
    return {
        "tfdnc": __version__,
        "seed": config.seed,
        "settings": station.settings(config),
        "stations": needed,
        "files": _digests(station.files(config, run)),
    }


def _digests(paths: list[Path]) -> dict[str, str]:
    """Returns the digest of every file by its name; a second file of the same name is "NAME (2)"."""
    digests: dict[str, str] = {}
    for number, path in enumerate(paths):
        namesakes = sum(other.name == path.name for other in paths[:number])
        digests[f"{path.name} ({namesakes + 1})" if namesakes else path.name] = _file_digest(path)
    return digests


def _file_digest(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"Expected an input file at {path}, found none.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _open_output(output: Path, fingerprint: str, keep: bool) -> None:
    """Makes the unfinished folder; keeps the content of a killed run that had the same inputs."""
    note = output / _UNFINISHED
    if keep and note.is_file() and note.read_text() == fingerprint:
        return
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    note.write_text(fingerprint)


def _replace(output: Path, place: Path) -> None:
    """Puts a finished folder in its place; a reader sees the old folder, or none, or the new one."""
    if place.exists():
        old = place.with_name(f".{place.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        place.rename(old)
        output.rename(place)
        shutil.rmtree(old)
    else:
        output.rename(place)
