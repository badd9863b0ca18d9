"""Runs one station of the road: skips it when nothing it depends on changed, and never leaves a half-written folder.

A station reads the folders of the stations before it and writes its own, with a `manifest.json` that says what it was
made of. The manifest's fingerprint covers the station's settings, its input files and the fingerprints of the stations
it needs, so a change anywhere upstream reaches every station it concerns, and no other. It also lists the files of the
station with their sizes: a station with a missing or truncated file did not finish, and runs again.

What another run of the same folder has already made is adopted: its files are hard-linked. That is safe because a
finished folder is only ever replaced as a whole, never written into, and deleting one name of a file leaves the others.
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

from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.plugins import import_plugins, source_digests
from tfdnc.contracts.registry import Choice
from tfdnc.contracts.version import __version__
from tfdnc.pipeline.fingerprint import RemoteFile, digest, digests_of

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
        choices: config -> the names that `work` looks up in registries. Where one is a plug-in's, the result depends on
            the source of the plug-ins.
        check: config -> raises a `UserError` for what else `work` would stumble over, before any station works.
        resumes: whether `work` can continue in the unfinished `output` of a killed run.
        seeded: whether the result depends on the config's seed; runs that differ in nothing else share it if not.
        adopts: whether the result of another run with the same fingerprint is as good as an own one.
        format: number of the layout of what it writes. A change of the code that changes its output raises it, so that
            what earlier versions wrote is out of date.
    """

    name: str
    folder: str
    needs: tuple["Station", ...]
    settings: Callable[[ExperimentConfig], dict]
    work: Callable[[Workplace], dict]
    headline: Callable[[dict], str]
    files: Callable[[ExperimentConfig, Path], list[Path | RemoteFile]] = field(default=lambda config, run: [])
    choices: Callable[[ExperimentConfig], Sequence[Choice]] = field(default=lambda config: ())
    check: Callable[[ExperimentConfig], object] = field(default=lambda config: None)
    resumes: bool = False
    seeded: bool = True
    adopts: bool = True
    format: int = 1


@dataclass(frozen=True)
class Outcome:
    """How a station ended.

    Attributes:
        figures: what `work` returned, now or when it ran.
        seconds: how long that took.
        skipped: whether `work` did not have to run.
        adopted: whose result was taken over: RUN, or RUN/FOLDER where another station made it; None for an own one.
    """

    figures: dict
    seconds: float
    skipped: bool
    adopted: str | None = None

    @property
    def effort(self) -> str:
        """The seconds of the work, or why there was none to do."""
        if not self.skipped:
            return f"{self.seconds:.1f} s"
        return f"adopted from {self.adopted}" if self.adopted else "unchanged"


def check_stations(stations: Sequence[Station], config: ExperimentConfig) -> None:
    """Imports the plug-ins of a config, and looks at everything in it that a station would stumble over later.

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
        station: what to run.
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
    if station.adopts and not force and (adopted := _adopt(station, run, fingerprint)):
        shutil.rmtree(output, ignore_errors=True)  # of a killed run: there is nothing left to continue
        return adopted

    _open_output(output, fingerprint, keep=station.resumes and not force)
    started = time.monotonic()
    try:
        figures = station.work(Workplace(config, run, output))
    except UserError:
        if not station.resumes:  # nothing will continue in it
            shutil.rmtree(output)
        raise
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


def assist(station: Station, config: ExperimentConfig, run: Path, force: bool = False) -> bool:
    """Takes part in the work of a station that another process runs; what this one writes is thrown away.

    Args:
        station: one whose `work` several processes do together.
        config: the experiment.
        run: folder of the run, common to all of them.
        force: as the other process has it.

    Returns:
        False where there is nothing to do, because the station stands.

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
    """Where a station works until it is done."""
    return run / f".{station.folder}.unfinished"


def standing(stations: list[Station], config: ExperimentConfig, run: Path) -> dict[str, dict]:
    """Returns the manifests of the leading stations that `run_station` would skip as unchanged, by station name."""
    found: dict[str, dict] = {}
    for station in stations:
        manifest = read_manifest(run / station.folder)
        try:
            current = manifest and manifest["fingerprint"] == digest(_inputs(station, config, run))
        except UserError:  # an input is gone, so nobody can say what it would be made of
            current = False
        if not current:
            break
        found[station.name] = manifest
    return found


@contextlib.contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Keeps a second process out of a run; the lock goes with the process, however that ends.

    Work that fails before it has put anything into a new run takes the folder away again.

    Raises:
        UserError: another process is at work in the run, or there can be no such folder.
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


def read_manifest(folder: Path) -> dict | None:
    """Returns the manifest of a finished station; None if it never finished, or its files are no longer whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        listed = manifest["files"]
        found = _sizes(folder)
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, not the JSON this module writes, or just gone
        return None
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
    """Digests of the plug-ins where the station uses a name of theirs: of all, for one may import another."""
    if not config.plugins:
        return {}
    import_plugins(config.plugins)
    return source_digests(config.plugins) if any(choice.is_foreign for choice in station.choices(config)) else {}


def _open_output(output: Path, fingerprint: str, keep: bool) -> None:
    """Makes the unfinished folder; keeps the content of a killed run that had the same inputs."""
    note = output / _UNFINISHED
    if keep and note.is_file() and note.read_text() == fingerprint:
        return
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    note.write_text(fingerprint)


def _clear_leftovers(station: Station, run: Path) -> None:
    """Removes what a killed run left of this station, but for the progress of one that resumes."""
    for leftover in (_old_folder(run / station.folder), _adopted_folder(station, run)):
        shutil.rmtree(leftover, ignore_errors=True)
    if not station.resumes:
        shutil.rmtree(unfinished_folder(station, run), ignore_errors=True)


def _old_folder(place: Path) -> Path:
    """Where a finished folder goes for the moment in which another one takes its place."""
    return place.with_name(f".{place.name}.old")


def _adopted_folder(station: Station, run: Path) -> Path:
    """Where another run's result is gathered until it is whole."""
    return run / f".{station.folder}.adopted"


def _replace(output: Path, place: Path) -> None:
    """Puts a finished folder in its place; a reader sees the old folder, or none, or the new one."""
    if place.exists():
        old = _old_folder(place)
        place.rename(old)
        output.rename(place)
        shutil.rmtree(old)
    else:
        output.rename(place)


def _adopt(station: Station, run: Path, fingerprint: str) -> Outcome | None:
    """Takes over a finished folder with this fingerprint, of any station of any run in the same folder of runs."""
    staging = _adopted_folder(station, run)
    for folder in _finished_elsewhere(run, fingerprint):
        manifest = read_manifest(folder)
        run.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        try:
            whole = manifest is not None and _link_files(folder, manifest, staging)
        except FileNotFoundError:  # deleted or replaced meanwhile
            whole = False
        if whole:
            owner = folder.parent.name if folder.name == station.folder else f"{folder.parent.name}/{folder.name}"
            own = manifest | {"station": station.name, "adopted": owner}
            (staging / MANIFEST).write_text(json.dumps(own, indent=1))
            _replace(staging, run / station.folder)
            return Outcome(manifest["figures"], manifest["seconds"], skipped=True, adopted=owner)
    shutil.rmtree(staging, ignore_errors=True)
    return None


def _finished_elsewhere(run: Path, fingerprint: str) -> Iterator[Path]:
    """Folders of finished stations with this fingerprint: of the run itself first, then of its siblings by name."""
    runs = sorted(run.parent.glob("[!.]*"), key=lambda path: (path.name != run.name, path.name))
    for sibling in runs:
        for path in sorted(sibling.glob(f"[!.]*/{MANIFEST}")):  # what is unfinished, or outdated, has a dot
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # as in `read_manifest`
                if json.loads(path.read_text())["fingerprint"] == fingerprint:
                    yield path.parent


def _link_files(folder: Path, manifest: dict, target: Path) -> bool:
    """Links the files of a finished station into `target`; False if another result took its place meanwhile."""
    target.mkdir()
    for path in sorted(folder.rglob("*")):  # a folder comes before its files
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            (target / name).mkdir()
        elif name in manifest["files"]:
            _link(path, target / name)
    return _sizes(target) == manifest["files"] and read_manifest(folder) == manifest


def _link(path: Path, place: Path) -> None:
    try:
        os.link(path, place)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copy2(path, place)
