"""`tfdnc verify` and `tfdnc publish`: replays what a bundle answered at export, and puts it where servers look."""

import argparse
from functools import partial
from pathlib import Path

from serving import replay
from serving.publish import publish
from serving.verify import Report, find_version, verify
from tfdnc.cli import screen
from tfdnc.errors import UserError


def verify_bundle(arguments: argparse.Namespace) -> None:
    """Verifies the latest version of a bundle, in a fresh process or on a server."""
    ask = None
    if arguments.target:
        ask = partial(
            replay.ask_server,
            target=arguments.target,
            model_name=arguments.model_name,
            version=arguments.version,
        )
    elif arguments.version is not None:
        raise UserError("Expected --version only together with --target, which it asks. Name the version's folder.")
    path = find_version(arguments.bundle)
    _check(path, path, ask)


def publish_version(arguments: argparse.Namespace) -> None:
    """Copies the latest version of a bundle into a model base path, if the copy is verified."""
    source = find_version(arguments.bundle)
    check = partial(_check, source)
    final = publish(source, arguments.base_path, check, arguments.version, arguments.keep)
    screen.console.print(f"Published {source} as {final}", soft_wrap=True)


def _check(name: Path, path: Path, ask=None) -> None:
    """Verifies the version at `path` and shows it as `name`; raises a `UserError` about the first mismatch."""
    with screen.last_log_line("verify"):
        report = verify(path, ask)
    _show(name, report)
    if report.mismatch:
        raise UserError(f"{name} does not answer what it answered when it was exported: {report.mismatch}")


def _show(name: Path, report: Report) -> None:
    headers = ("signature", "requests", "equal", "largest difference", "worst overlap")
    made = screen.table_of_figures(f"Recorded requests of {name}", *headers)
    for row in report.signatures:
        figures = (f"{row.requests}", f"{row.equal}", f"{row.difference:.2g}", f"{row.overlap:.4f}")
        made.add_row(row.signature, *figures)
    screen.console.print(made)
