"""`tfdnc diff`: two versions of a bundle on the same users and the same next events."""

import argparse
import json
from pathlib import Path

from tfdnc.cli import screen, shared_flags
from tfdnc.cli.flag_types import count
from tfdnc.pipeline.working import last_log_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the two bundles, the log, and the lengths of the lists."""
    for name in ("old", "new"):
        parser.add_argument(name, type=Path, help="a version, or folder with numbered versions (the latest)")
    shared_flags.add_questions(parser, required=True)
    parser.add_argument(
        "--cutoffs", type=count, nargs="+", default=[10, 50, 100], metavar="M", help="default: 10 50 100"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the figures as JSON")
    parser.add_argument("--page", type=Path, metavar="FILE.html", help="write the figures as one HTML page")


def run(arguments: argparse.Namespace) -> None:
    """Asks both versions, and shows how their lists differ."""
    import dataclasses

    from serving.bundles.verify import find_version
    from tfdnc.cli.version_figures import compare_versions, show

    old, new = find_version(arguments.old), find_version(arguments.new)
    with last_log_line("diff"):
        found = compare_versions(old, new, arguments, arguments.cutoffs)
    screen.console.print(f"old: {old}\nnew: {new}", soft_wrap=True)  # paths would make the tables too wide
    show(found, "old", "new")
    if arguments.output:
        content = {"old": str(old), "new": str(new), **dataclasses.asdict(found)}
        arguments.output.write_text(json.dumps(content, indent=1))
        screen.console.print(f"The figures are in {arguments.output}", soft_wrap=True)
    if arguments.page:
        from tfdnc.page.difference import write_difference

        write_difference(found, str(old), str(new), arguments.page)
        screen.console.print(f"The page is {arguments.page}", soft_wrap=True)
