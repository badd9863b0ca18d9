"""`tfdnc fetch`: the download of a public data set."""

import argparse
from pathlib import Path

from tfdnc.cli import screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the name of the data set, and the folder."""
    parser.add_argument("name", help="ml-1m")
    parser.add_argument("--output", type=Path, default=Path("data"), help="folder for the data set's own folder")


def run(arguments: argparse.Namespace) -> None:
    """Downloads and unpacks the data set."""
    from tfdnc.datasets.fetch import fetch

    folder = fetch(arguments.name, arguments.output / arguments.name)
    screen.console.print(f"{arguments.name} is in {folder}")
