"""Common part of the commands of the two jobs: flags, output folder and errors."""

import argparse
import fcntl
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apache_beam.io.filesystems import FileSystems

from beam_jobs.files import absolute, delete, exists, find_files, is_local, join, whole_file
from beam_jobs.pipeline import options_of
from tfdnc.contracts.config import ExperimentConfig, load_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.plugins import import_plugins

_log = logging.getLogger(__name__)

FINISHED = "figures.json"
"""Last file of an output, the job's figures. In a store, where folders cannot be renamed, it marks a finished job."""


def run_command(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    job: Callable[[argparse.Namespace, ExperimentConfig, str, list[str]], dict[str, Any]],
) -> int:
    """Runs one job from the command line.

    Args:
        parser: has the job's own flags; `--config`, `--set` and `--output` are added here.
        argv: arguments; unknown flags are passed to Beam's `PipelineOptions`.
        job: called with the flags, the config, the folder to write to and the runner's flags.

    Returns:
        Exit status: 0, or 2 after a message about bad input.
    """
    parser.add_argument("--config", required=True, type=Path, help="YAML of the experiment")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override the config")
    parser.add_argument("--output", required=True, help="folder to create, on a disk or in a store (scheme://...)")
    flags, runner_args = parser.parse_known_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    FileSystems.set_options(options_of(runner_args))  # the flags may hold credentials for a store
    output = absolute(flags.output)
    try:
        config = load_config(flags.config, flags.set)
        import_plugins(config.plugins)
        with _local_folder(Path(output)) if is_local(output) else _empty_prefix(output) as folder:
            figures = job(flags, config, folder, runner_args)
            with whole_file(join(folder, FINISHED)) as stream:
                stream.write(json.dumps(figures, indent=1).encode())
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _log.info("%s: %s", output, json.dumps(figures))
    return 0


@contextmanager
def _local_folder(output: Path) -> Iterator[str]:
    """Yields an empty folder, locked by this process, that becomes `output` when the block ends without an error.

    Its name is fixed, so the next job removes the files of a killed one. The lock ends with its process.
    """
    temporary = output.with_name(f".{output.name}.unfinished")
    temporary.mkdir(parents=True, exist_ok=True)
    lock = os.open(temporary, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not (temporary.exists() and os.path.samestat(os.fstat(lock), temporary.stat())):
            raise BlockingIOError  # another job has renamed the folder before this one got the lock
    except BlockingIOError as error:
        os.close(lock)
        raise UserError(f"Expected {output} for itself, but another job is writing it: wait for it.") from error
    try:
        if output.exists():
            raise UserError(f"Expected to create {output}, but it exists; remove it or name another folder.")
        for leftover in temporary.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        yield str(temporary)
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


@contextmanager
def _empty_prefix(output: str) -> Iterator[str]:
    """Yields `output` itself, a prefix of paths in a store, and deletes the files below it if the block fails.

    There must be no files before, because those of a killed job look like those of a running one.
    """
    if found := find_files(output, "**"):
        raise UserError(
            f"Expected nothing at {output}, found {len(found)} files such as {found[0]}; remove them or name another "
            "folder."
        )
    try:
        yield output
    except BaseException:
        if written := find_files(output, "**"):
            delete(written)
        raise


def refuse_unfinished(folder: str) -> None:
    """Raises a `UserError` if a folder in a store is not the finished output of a command."""
    if not is_local(folder) and not exists(join(folder, FINISHED)):
        raise UserError(
            f"Expected the finished output of a job at {folder}, found no {FINISHED} there: it is still running or was "
            "stopped; wait for it, or run it again."
        )
