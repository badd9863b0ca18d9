"""`tfdnc picture`: one user's list at several alphas, as an SVG for a document."""

import argparse
from pathlib import Path

from tfdnc.cli import screen
from tfdnc.cli.flag_types import at_least_zero, count
from tfdnc.pipeline.working import last_log_line

_MERGES = ("quota", "joint")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the run, the user, the lists and the file."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run with a bundle")
    parser.add_argument("--output", type=Path, default=Path("lists.svg"), help="the picture (default: lists.svg)")
    parser.add_argument("--user", help="user id of the log (default: the first one with an event held out for testing)")
    parser.add_argument(
        "--alphas",
        type=at_least_zero,
        nargs="+",
        default=[0.0, 1.0, 2.0],
        metavar="ALPHA",
        help="a column for each (default: 0 1 2)",
    )
    parser.add_argument("--merge", choices=_MERGES, default="quota", help="what alpha is of (default: quota)")
    parser.add_argument("--num-candidates", type=count, default=10, help="length of the lists (default: 10)")


def run(arguments: argparse.Namespace) -> None:
    """Writes the picture."""
    with last_log_line("picture"):
        from tfdnc.explore.picture import draw_lists
        from tfdnc.explore.subject import Subject
        from tfdnc.page.template import write_text

        subject = Subject(arguments.run)
        user = arguments.user or subject.user_ids[0]
        picture = draw_lists(subject, user, arguments.alphas, arguments.merge, arguments.num_candidates)
        subject.bundle.close()
    write_text(picture, arguments.output)
    screen.console.print(f"{arguments.output}: lists of user {user} at {len(arguments.alphas)} alphas", soft_wrap=True)
