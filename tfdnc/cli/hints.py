"""Hints for the user: the commands to type next, in a form that works in the current shell."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from tfdnc.contracts import schema
from tfdnc.pipeline import stations

DEFAULT_RUNS = Path("runs")


def program() -> str:
    """Returns the command that starts this `tfdnc`: its name if the shell finds it, else its path or its module."""
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
    """Returns the last lines of a run: the path of its bundle, and the commands that show, serve and query it."""
    bundle = run / stations.EXPORT.folder
    serve, query = shlex.join(["serve", str(bundle)]), shlex.join(["query", "--run", str(run)])
    explore = shlex.join(["explore", str(run)])
    return (
        f"\nThe bundle is {bundle}. Serve it, and ask it from another terminal:\n\n"
        f"    {program()} {serve}\n"
        f"    {program()} {query}\n\n"
        "Or see in a browser how lists change with alpha:\n\n"
        f"    {program()} {explore}\n"
    )


def _short(path: Path) -> Path:
    """Returns the path relative to the current folder, if it is below."""
    here = Path(os.getcwd())
    return path.relative_to(here) if path.is_relative_to(here) else path
