"""The check that a bundle answers as it did when it was exported, and its table on the screen."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tensorflow_serving.apis import model_pb2

from serving.bundles import replay
from serving.bundles.request_log import read_request_log
from serving.bundles.verify import Ask, Report, verify
from serving.client import Tls
from tfdnc.cli import screen
from tfdnc.contracts.errors import UserError
from tfdnc.pipeline.working import last_log_line


def server_of(arguments: argparse.Namespace) -> Ask:
    """Returns the server of the flags of `tfdnc verify` as a function from requests to answers."""
    model = model_pb2.ModelSpec(name=arguments.model_name)
    if arguments.version is not None:
        model.version.value = arguments.version
    if arguments.label is not None:  # an empty label is a label too
        model.version_label = arguments.label
    tls = Tls(arguments.tls_roots) if arguments.tls_roots else None
    return partial(replay.ask_server, target=arguments.target, model=model, tls=tls)


def check_version(name: Path, path: Path, ask: Ask | None = None, request_log: Sequence[Path] = ()) -> None:
    """Verifies the version at `path` and shows it as `name`; raises a `UserError` about the first mismatch.

    Args:
        name: Shown to the user.
        path: Folder of the version.
        ask: See `verify`.
        request_log: Files and folders of a request log to ask instead of the recorded requests.
    """
    logged = list(read_request_log(request_log)) if request_log else None
    if logged == []:
        raise UserError("Expected calls of Predict in the request log, found none. Name files that have some.")
    with last_log_line("verify"):
        report = verify(path, ask, logged)
    _show(f"{'Logged requests to' if logged else 'Recorded requests of'} {name}", report)
    if report.mismatch:
        what = "the request log holds" if logged else "it answered when it was exported"
        if ask is not None:
            what = what if logged else f"{name} answered when it was exported"
            advice = "Does it hold another version? Name one with --version."
            raise UserError(f"The server does not answer what {what}: {report.mismatch}. {advice}")
        raise UserError(f"{name} does not answer what {what}: {report.mismatch}")


def _show(title: str, report: Report) -> None:
    headers = ("signature", "requests", "equal", "largest difference", "worst overlap")
    made = screen.table_of_figures(title, *headers)
    for row in report.signatures:
        figures = (f"{row.requests}", f"{row.equal}", f"{row.difference:.2g}", f"{row.overlap:.4f}")
        made.add_row(row.signature, *figures)
    screen.print_figures(made)
