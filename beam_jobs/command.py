"""What the stand-alone commands of the two jobs share: their flags, their output folder and their way to fail."""

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

from tfdnc.config import ExperimentConfig, load_config
from tfdnc.errors import UserError

_log = logging.getLogger(__name__)


def run_command(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    job: Callable[[argparse.Namespace, ExperimentConfig, Path, list[str]], dict],
) -> int:
    """Runs one job from the command line.

    Args:
        parser: the job's own flags; `--config`, `--set` and `--output` are added here.
        argv: arguments; flags that the parser does not know go to Beam's `PipelineOptions`.
        job: called with the flags, the config, a temporary output folder and the runner's flags. The folder gets its
            final name when the job is done, so a killed job leaves nothing that looks finished.

    Returns:
        Exit status: 0, or 2 after a message about bad input.
    """
    parser.add_argument("--config", required=True, type=Path, help="YAML of the experiment")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override the config")
    parser.add_argument("--output", required=True, type=Path, help="folder to create")
    flags, runner_args = parser.parse_known_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    try:
        config = load_config(flags.config, flags.set)
        with _unfinished_folder(flags.output) as temporary:
            figures = job(flags, config, temporary, runner_args)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _log.info("%s: %s", flags.output, json.dumps(figures))
    return 0


@contextmanager
def _unfinished_folder(output: Path) -> Iterator[Path]:
    """Yields an empty folder beside `output`, for this process alone, that becomes `output` when the block ends well.

    It has one name, so that what a killed run left there is cleared by the next one; the lock goes with its process.

    Raises:
        UserError: `output` exists, or another process is making it.
    """
    place = output.with_name(f".{output.name}.unfinished")
    place.mkdir(parents=True, exist_ok=True)
    folder = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not (place.exists() and os.path.samestat(os.fstat(folder), place.stat())):  # finished just now by another
            raise BlockingIOError
    except BlockingIOError as error:
        os.close(folder)
        raise UserError(f"Expected {output} for itself, but another job is making it: wait for it.") from error
    try:
        if output.exists():
            raise UserError(f"Expected to create {output}, but it exists; remove it or name another folder.")
        for left in place.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield place
        os.replace(place, output)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(folder)
