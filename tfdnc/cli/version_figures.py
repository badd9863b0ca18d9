"""Two versions of a bundle on a log: the questions, the answers, and their figures on the screen."""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

from serving.bundles import answers, difference_rows
from serving.bundles.bundle import read_manifest
from serving.bundles.difference import Difference, difference
from serving.bundles.logged_questions import read_logged_questions
from tfdnc.cli import screen
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.request_inputs import manifest_features
from tfdnc.operations.learned_events import learned_note
from tfdnc.operations.next_events import read_questions
from tfdnc.pipeline.dependencies import resolve_log_format


def compare_versions(old: Path, new: Path, arguments: argparse.Namespace, cutoffs: Sequence[int]) -> Difference:
    """Returns the figures of two versions on the log of the flags of `shared_flags.add_questions`.

    Raises:
        UserError: The log cannot be read, or a version does not answer.
    """
    manifests = {version: read_manifest(version) for version in (old, new)}
    if arguments.requests:
        read = [manifest_features(manifest["config"]) for manifest in manifests.values()]
        features = list(dict.fromkeys(itertools.chain(*read)))
        questions = read_logged_questions(arguments.requests, features, arguments.users)
    else:
        formats = {version: resolve_log_format(manifest["config"]) for version, manifest in manifests.items()}
        for version, data in formats.items():
            if note := learned_note(manifests[version], data, arguments.since):
                screen.console.print(f"{version} {note}.", soft_wrap=True)
        allows_seen = any(data.allows_seen for data in formats.values())  # both are measured on the same next events
        asked: DataConfig = formats[new].model_copy(update={"seen": "allow" if allows_seen else "exclude"})
        questions = read_questions(asked, arguments.log, arguments.since, arguments.users)
    before, after = (answers.ask(version, questions, max(cutoffs)) for version in (old, new))
    return difference(questions, before, after, cutoffs)


def show(found: Difference, old: str, new: str) -> None:
    """Prints the figures of both versions, and the shares of the clusters."""
    title = f"{found.users:,} users, {found.targets:,} next events"
    figures = screen.table_of_figures(title, "", old, new, "change")
    for rows in difference_rows.rows_at_cutoffs(found):
        for row in rows:
            figures.add_row(*row, end_section=row is rows[-1])
    for row in difference_rows.rows_of_versions(found):
        figures.add_row(*row)
    screen.print_figures(figures)
    shares = screen.table_of_figures("Share of the lists by cluster", "cluster", old, new, "change")
    for row in difference_rows.rows_of_clusters(found):
        shares.add_row(*row)
    screen.print_figures(shares)
