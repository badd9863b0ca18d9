"""`tfdnc rollback`: brings back the version before the latest one, under a new number."""

import argparse
from pathlib import Path

from tfdnc.cli import label, screen
from tfdnc.cli.flag_types import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the base path, and the version."""
    parser.add_argument("base_path", type=Path, metavar="MODEL_BASE_PATH")
    parser.add_argument("--to", type=count, metavar="VERSION", help="bring back this one (default: the one before)")
    parser.add_argument("--reason", help="kept in the record of the version")
    label.add_flags(parser)


def run(arguments: argparse.Namespace) -> None:
    """Publishes the files of an earlier version again."""
    from serving.bundles.publish import rollback

    label.check_flags(arguments)
    note = {"reason": arguments.reason} if arguments.reason else {}
    final, restored = rollback(arguments.base_path, arguments.to, note)
    line = f"Version {restored} is back as version {final.name} of {arguments.base_path}"
    screen.console.print(line, soft_wrap=True)
    label.move_to(arguments, int(final.name))
