"""`tfdnc refresh`: a new version of a run's bundle with the items of a newer item file, without training."""

import argparse
from pathlib import Path

from tfdnc.cli import screen
from tfdnc.cli.flag_types import count
from tfdnc.pipeline.working import last_log_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the run, the item file, and what becomes of items that it lacks."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run with a bundle, such as runs/mine")
    parser.add_argument("--items", required=True, metavar="FILE", help="the whole catalogue, read as data.items says")
    parser.add_argument(
        "--vectors", nargs=3, action="append", default=[], metavar=("NAME", "ARRAY", "IDS"),
        help="a newer array of the feature NAME of kind vector, and its ids (default: those of data.items.vectors)",
    )  # fmt: skip
    parser.add_argument("--keep-missing", action="store_true", help="items that the file lacks do not leave")
    parser.add_argument(
        "--keep", type=count, metavar="N", help="leave N refreshed versions, remove the oldest (default: all)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the version, and shows what has changed."""
    from tfdnc.operations.refresh import refresh

    with last_log_line("refresh"):
        vectors = {name: (array, ids) for name, array, ids in arguments.vectors}
        figures = refresh(arguments.run, arguments.items, arguments.keep_missing, arguments.keep, vectors)
    table = screen.table(f"{arguments.run}, version {figures['from_version']} -> {figures['version']}", "items", "")
    for name, key in _ROWS.items():
        table.add_row(name, f"{figures[key]:,}")
    screen.console.print(table)
    lines = f"{figures['recorded_requests']} requests recorded, index {figures['index']}, {figures['seconds']:.1f} s"
    screen.console.print(f"Version {figures['version']}: {lines}", soft_wrap=True)


_ROWS = {
    "in lists": "items",
    "new": "new",
    "returned": "returned",
    "left": "left",
    "with another title, category, feature or vector": "replaced",
    "new, but left out": "left_out",
    "in histories only": "history_only",
}
"""Name on the screen -> figure."""
