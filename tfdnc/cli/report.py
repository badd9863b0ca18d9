"""`tfdnc report`: one HTML page about evaluated runs."""

import argparse
from pathlib import Path

from tfdnc.cli import screen
from tfdnc.cli.flag_types import count_or_none
from tfdnc.pipeline.working import last_log_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the runs, the file of the page, and the number of users on it."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run, such as runs/NAME")
    parser.add_argument("--output", type=Path, default=Path("report.html"), help="the page (default: report.html)")
    parser.add_argument(
        "--users",
        type=count_or_none,
        default=100,
        metavar="N",
        help="users whose histories and lists the page holds, 0 for none (default: 100)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the page."""
    from tfdnc.page.build import write_page

    with last_log_line("report"):
        shown = write_page(arguments.runs, arguments.output, arguments.users)
    size = arguments.output.stat().st_size / 1e6
    line = (
        f"{arguments.output}: {shown} {'run' if shown == 1 else 'runs'}, {size:.2f} MB, nothing loaded from elsewhere"
    )
    screen.console.print(line, soft_wrap=True)
