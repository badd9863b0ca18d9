"""Provenance of a result: date, commit of the code, machine and versions of the libraries."""

import functools
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tfdnc.contracts.version import __version__

_PACKAGE = Path(__file__).parents[1]
_SOURCES = ("tfdnc", "beam_jobs", "serving")
_LIBRARIES = ("tensorflow", "tf-keras", "numpy", "apache-beam")


def provenance() -> dict[str, Any]:
    """Returns `date` (UTC, to the second), `commit`, `changed`, `machine` and `versions` of this process.

    `commit` is None outside a git repository of this package, as in an installed package. `changed` is True if the
    sources differ from the commit, so that the commit alone does not describe the code.
    """
    return {"date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), **_of_process()}


def machine() -> str:
    """Returns the number of cores and the name of the processor."""
    return f"{os.cpu_count()} cores, {_processor()}"


def versions() -> dict[str, str]:
    """Returns the versions of this package, of Python and of the installed libraries, by name."""
    found = {"tfdnc": __version__, "Python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a client or a server needs only some of them
            continue
    return found


@functools.cache  # the code of a process stays what was imported
def _of_process() -> dict[str, Any]:
    commit = _git("rev-parse", "HEAD") if _is_tracked() else None
    changed = bool(_git("status", "--porcelain", "--", *_SOURCES)) if commit else None
    return {"commit": commit, "changed": changed, "machine": machine(), "versions": versions()}


def _is_tracked() -> bool:
    """True if git tracks this file: a virtual environment may lie in the repository of another project."""
    return _git("ls-files", "--", str(Path(__file__).relative_to(_PACKAGE.parent))) is not None


def _git(*arguments: str) -> str | None:
    """Returns the output of a git command in the folder of the sources; None if it is empty, or git knows no such."""
    command = ["git", "-C", str(_PACKAGE.parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):  # no git on this machine
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
