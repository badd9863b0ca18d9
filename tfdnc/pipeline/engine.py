"""The engine of the pipeline: runs one station, skips it if its inputs are unchanged, and leaves no partial folder.

A station reads the folders of the stations before it and writes its own folder, with a `manifest.json`. Its fingerprint
covers the station's settings, its input files and the fingerprints of the stations it needs. So a change of an input
makes every station out of date that depends on it, and no other. The manifest also lists the files with their sizes: a
station with a missing or truncated file runs again. It says by which commit, when and where the result was `made`. A
result of another run is adopted, see `adoption`.
"""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.plugins import import_plugins, source_digests
from tfdnc.contracts.provenance import provenance
from tfdnc.contracts.registry import Choice
from tfdnc.contracts.version import __version__
from tfdnc.pipeline.adoption import adopt, adopted_folder
from tfdnc.pipeline.changes import changes
from tfdnc.pipeline.fingerprint import RemoteFile, digest, digests_of
from tfdnc.pipeline.manifests import MANIFEST, file_sizes, old_folder, read_manifest, replace_folder

_UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Workplace:
    """Folders and config of a running station.

    Attributes:
        config: the experiment.
        run: folder of the run, with the finished folders of the other stations.
        output: folder to write to; renamed when the station is finished.
    """

    config: ExperimentConfig
    run: Path
    output: Path


@dataclass(frozen=True)
class Station:
    """One station of the pipeline.

    Attributes:
        name: name of the station, and of the command that runs it.
        folder: name of its folder in the run.
        needs: stations whose folders it reads.
        settings: config -> the part of it that the result depends on, JSON-serialisable.
        work: does the work and returns figures, JSON-serialisable.
        headline: figures -> one line for the user.
        files: config, run -> input files that no needed station wrote.
        choices: config -> names that `work` looks up in registries. If one is of a plug-in, the result depends on the
            source of the plug-ins.
        check: config -> raises a `UserError` for other faults on which `work` would fail, before any station works.
        resumes: True if `work` can continue in the unfinished `output` of a killed run.
        seeded: True if the result depends on the seed of the config; if not, runs with several seeds share it.
        adopts: True if the result of another run with the same fingerprint may be taken over.
        format: number of the format of the output. A change of the output by the code raises it, so that results of
            earlier versions are out of date.
    """

    name: str
    folder: str
    needs: tuple["Station", ...]
    settings: Callable[[ExperimentConfig], dict[str, Any]]
    work: Callable[[Workplace], dict[str, Any]]
    headline: Callable[[dict[str, Any]], str]
    files: Callable[[ExperimentConfig, Path], Sequence[Path | RemoteFile]] = field(default=lambda config, run: [])
    choices: Callable[[ExperimentConfig], Sequence[Choice]] = field(default=lambda config: ())
    check: Callable[[ExperimentConfig], object] = field(default=lambda config: None)
    resumes: bool = False
    seeded: bool = True
    adopts: bool = True
    format: int = 1


@dataclass(frozen=True)
class Outcome:
    """Outcome of a station.

    Attributes:
        figures: result of `work`, of now or of an earlier time.
        seconds: duration of `work`.
        skipped: True if `work` did not have to run.
        adopted: source of an adopted result: RUN, or RUN/FOLDER of another station; None for an own result.
    """

    figures: dict[str, Any]
    seconds: float
    skipped: bool
    adopted: str | None = None

    @property
    def effort(self) -> str:
        """Seconds of the work, or the reason why it was skipped."""
        if not self.skipped:
            return f"{self.seconds:.1f} s"
        return f"adopted from {self.adopted}" if self.adopted else "unchanged"


def check_stations(stations: Sequence[Station], config: ExperimentConfig) -> None:
    """Imports the plug-ins of a config, and checks names, options and limits that stations rely on.

    Raises:
        UserError: a plug-in cannot be imported, a name is unknown, or its options do not fit it.
    """
    import_plugins(config.plugins)
    for station in stations:
        for choice in station.choices(config):
            choice.check()
        station.check(config)


def run_station(station: Station, config: ExperimentConfig, run: Path, force: bool = False) -> Outcome:
    """Runs a station, or skips it when a manifest, its own or another run's, shows the result of the same inputs.

    Args:
        station: station to run.
        config: the experiment.
        run: folder of the run.
        force: run although nothing changed, here or elsewhere.

    Raises:
        UserError: a station it needs has not finished, or an input file is missing.
    """
    _clear_leftovers(station, run)
    inputs = _inputs(station, config, run)
    fingerprint = digest(inputs)
    finished = read_manifest(run / station.folder)
    if finished and finished["fingerprint"] == fingerprint and not force:
        return Outcome(finished["figures"], finished["seconds"], skipped=True)
    output = unfinished_folder(station, run)
    if station.adopts and not force and (adopted := adopt(run / station.folder, station.name, fingerprint)):
        shutil.rmtree(output, ignore_errors=True)  # progress of a killed run, no longer needed
        return Outcome(adopted["figures"], adopted["seconds"], skipped=True, adopted=adopted["adopted"])

    _open_output(output, fingerprint, keep=station.resumes and not force)
    made = provenance()  # before the work: the sources may change during it, those that were imported do not
    started = time.monotonic()
    try:
        figures = station.work(Workplace(config, run, output))
    except UserError:
        if not station.resumes:  # no later run continues in it
            shutil.rmtree(output)
        raise
    seconds = round(time.monotonic() - started, 2)
    manifest = {
        "station": station.name,
        "fingerprint": fingerprint,
        "inputs": inputs,
        "figures": figures,
        "seconds": seconds,
        "made": made,
        "files": {name: size for name, size in file_sizes(output).items() if name != _UNFINISHED},
    }
    (output / MANIFEST).write_text(json.dumps(manifest, indent=1))
    (output / _UNFINISHED).unlink()
    replace_folder(output, run / station.folder)
    return Outcome(figures, seconds, skipped=False)


def assist(station: Station, config: ExperimentConfig, run: Path, force: bool = False) -> bool:
    """Takes part in the work of a station that another process runs; output of this process is removed.

    Args:
        station: station whose `work` several processes do together.
        config: the experiment.
        run: folder of the run, common to all of them.
        force: same value as in the other process.

    Returns:
        False if the station is up to date, so that there is nothing to do.

    Raises:
        UserError: a station it needs has not finished.
    """
    fingerprint = digest(_inputs(station, config, run))
    finished = read_manifest(run / station.folder)
    if finished and finished["fingerprint"] == fingerprint and not force:
        return False
    with tempfile.TemporaryDirectory(prefix="tfdnc-") as scratch:
        station.work(Workplace(config, run, Path(scratch)))
    return True


def unfinished_folder(station: Station, run: Path) -> Path:
    """Returns the folder of a station until it is finished."""
    return run / f".{station.folder}.unfinished"


def finished_manifest(station: Station, run: Path) -> dict[str, Any]:
    """Returns the manifest of a station that another one needs.

    Raises:
        UserError: the station has not finished.
    """
    manifest = read_manifest(run / station.folder)
    if manifest is None:
        raise UserError(f"Expected a finished {run / station.folder}, found none: run `tfdnc {station.name}` first.")
    return manifest


def changed_inputs(station: Station, config: ExperimentConfig, run: Path) -> list[str]:
    """Returns what has changed since the last result of a station, see `changes`; nothing if there is none.

    Raises:
        UserError: a station it needs has not finished, or an input file is missing.
    """
    finished = read_manifest(run / station.folder)
    return changes(finished["inputs"], _inputs(station, config, run)) if finished else []


def standing(stations: list[Station], config: ExperimentConfig, run: Path) -> dict[str, dict[str, Any]]:
    """Returns the manifests of the leading stations that `run_station` would skip as unchanged, by station name."""
    found: dict[str, dict[str, Any]] = {}
    for station in stations:
        manifest = read_manifest(run / station.folder)
        if manifest is None:
            break
        try:
            current = manifest["fingerprint"] == digest(_inputs(station, config, run))
        except UserError:  # an input is missing, so the station could not be skipped
            current = False
        if not current:
            break
        found[station.name] = manifest
    return found


@contextlib.contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Excludes a second process from a run; the operating system releases the lock at the end of the process.

    If the work fails before it has written anything into a new run, the folder is removed.

    Raises:
        UserError: another process works in the run, or the folder cannot be made.
    """
    new = [folder for folder in (run, *run.parents) if not folder.exists()]
    path = run / ".lock"
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise UserError(f"Expected {run} to be a folder that can be written to (--runs): {error.strerror}.") from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = not path.samefile(f"/proc/self/fd/{file.fileno()}")  # a failed run has removed it meanwhile
        except (BlockingIOError, FileNotFoundError):
            taken = True
        if taken:
            raise UserError(f"Expected {run} for itself, but another tfdnc is at work there: wait for it.")
        try:
            yield
        except BaseException:
            if run in new and os.listdir(run) == [path.name]:
                path.unlink()
                for folder in new:  # the deepest comes first
                    with contextlib.suppress(OSError):  # not empty: another run is there
                        folder.rmdir()
            raise


def _inputs(station: Station, config: ExperimentConfig, run: Path) -> dict[str, Any]:
    """Returns everything that the result of a station depends on."""
    needed = {other.name: finished_manifest(other, run)["fingerprint"] for other in station.needs}
    plugins = _plugin_sources(station, config)
    return {
        **({"plugins": plugins} if plugins else {}),
        "tfdnc": __version__,
        "format": station.format,
        "seed": config.seed if station.seeded else None,
        "settings": station.settings(config),
        "stations": needed,
        "files": digests_of(station.files(config, run)),
    }


def _plugin_sources(station: Station, config: ExperimentConfig) -> dict[str, str]:
    """Returns the digests of all plug-ins if the station uses a name of one; a plug-in may import another."""
    if not config.plugins:
        return {}
    import_plugins(config.plugins)
    return source_digests(config.plugins) if any(choice.is_foreign for choice in station.choices(config)) else {}


def _open_output(output: Path, fingerprint: str, keep: bool) -> None:
    """Makes the unfinished folder; with `keep`, the content of a killed run with the same inputs stays."""
    note = output / _UNFINISHED
    if keep and note.is_file() and note.read_text() == fingerprint:
        return
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    note.write_text(fingerprint)


def _clear_leftovers(station: Station, run: Path) -> None:
    """Removes hidden folders of a killed run, except the progress of a station that resumes."""
    for leftover in (old_folder(run / station.folder), adopted_folder(run / station.folder)):
        shutil.rmtree(leftover, ignore_errors=True)
    if not station.resumes:
        shutil.rmtree(unfinished_folder(station, run), ignore_errors=True)
