"""What the stand-alone commands of the two jobs share: their flags, their output folder and their way to fail."""

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
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
    temporary = flags.output.with_name(f"{flags.output.name}.tmp-{os.getpid()}")
    try:
        if flags.output.exists():
            raise UserError(f"Expected to create {flags.output}, but it exists; remove it or name another folder.")
        figures = job(flags, load_config(flags.config, flags.set), temporary, runner_args)
        os.replace(temporary, flags.output)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _log.info("%s: %s", flags.output, json.dumps(figures))
    return 0
