"""Commands to type next, as the shell that is in use understands them."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from tfdnc.contracts import schema
from tfdnc.pipeline import stations

DEFAULT_RUNS = Path("runs")


def program() -> str:
    """Returns how this shell starts `tfdnc`: by its name where that is found, else by its path or by its module."""
    beside = Path(sys.executable).with_name("tfdnc")
    if not beside.is_file():
        return shlex.join([sys.executable, "-m", "tfdnc.cli.main"])
    found = shutil.which("tfdnc")
    if found and Path(found) == beside:
        return "tfdnc"
    return shlex.quote(str(_short(beside)))


def evaluate_command(run: Path) -> str:
    """Returns the command that shows the whole report of a run."""
    runs = [] if run.parent == DEFAULT_RUNS else ["--runs", str(run.parent)]
    return f"{program()} {shlex.join(['evaluate', str(run / schema.RUN_CONFIG), *runs])}"


def next_steps(run: Path) -> str:
    """Returns what a run ends with: where the bundle is, and the commands that serve it and ask it."""
    bundle = run / stations.EXPORT.folder
    serve, query = shlex.join(["serve", str(bundle)]), shlex.join(["query", "--run", str(run)])
    return (
        f"\nThe bundle is {bundle}. Serve it, and ask it from another terminal:\n\n"
        f"    {program()} {serve}\n"
        f"    {program()} {query}\n"
    )


def _short(path: Path) -> Path:
    """The path relative to the current folder, if it lies below."""
    here = Path(os.getcwd())
    return path.relative_to(here) if path.is_relative_to(here) else path
