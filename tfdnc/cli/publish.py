"""`tfdnc publish`: verifies a bundle, and copies it into a model base path that servers watch."""

import argparse
from functools import partial
from pathlib import Path

from tfdnc.cli import screen, shared_flags
from tfdnc.cli.flag_types import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the bundle, the base path, and the number of the version."""
    shared_flags.add_bundle(parser)
    parser.add_argument("base_path", type=Path, metavar="MODEL_BASE_PATH", help="made if it is not there")
    parser.add_argument("--version", type=count, help="number of the version (default: one above the highest)")
    parser.add_argument("--keep", type=count, metavar="N", help="leave N versions, remove the oldest (default: all)")


def run(arguments: argparse.Namespace) -> None:
    """Copies the latest version of a bundle into a model base path, if the copy is verified."""
    from serving.bundles.publish import publish
    from serving.bundles.verify import find_version
    from tfdnc.cli.verification import check_version

    source = find_version(arguments.bundle)
    check = partial(check_version, source)
    final = publish(source, arguments.base_path, check, arguments.version, arguments.keep)
    screen.console.print(f"Published {source} as {final}", soft_wrap=True)
