"""Two versions of a bundle on a log: the questions, the answers, and their figures on the screen."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from serving.bundles import answers
from serving.bundles.bundle import read_manifest
from serving.bundles.difference import Difference, Estimate, difference
from tfdnc.cli import screen
from tfdnc.contracts.data_config import DataConfig
from tfdnc.operations.next_events import read_questions
from tfdnc.pipeline.dependencies import resolve_log_format


def compare_versions(old: Path, new: Path, arguments: argparse.Namespace, cutoffs: Sequence[int]) -> Difference:
    """Returns the figures of two versions on the log of the flags of `shared_flags.add_next_events`.

    Raises:
        UserError: The log cannot be read, or a version does not answer.
    """
    manifests = {version: read_manifest(version) for version in (old, new)}
    formats = {version: resolve_log_format(manifest["config"]) for version, manifest in manifests.items()}
    allows_seen = any(data.allows_seen for data in formats.values())  # both are measured on the same next events
    data: DataConfig = formats[new].model_copy(update={"seen": "allow" if allows_seen else "exclude"})
    for version, manifest in manifests.items():
        if manifest.get("epochs_from"):
            line = (
                f"{version} was trained on every event of its log: recall on these events says nothing about new ones."
            )
            screen.console.print(line, soft_wrap=True)
    questions = read_questions(data, arguments.log, arguments.since, arguments.users)
    before, after = (answers.ask(version, questions, max(cutoffs)) for version in (old, new))
    return difference(questions, before, after, cutoffs)


def show(found: Difference, old: str, new: str) -> None:
    """Prints the figures of both versions, and the shares of the clusters."""
    title = f"{found.users:,} users, {found.targets:,} next events"
    made = screen.table_of_figures(title, "", old, new, "change")
    for row in found.cutoffs:
        before, after = row.recall
        change = f"{row.recall_change.mean:+.4f} ± {row.recall_change.error:.4f}"
        made.add_row(f"recall@{row.cutoff}", _estimate(before), _estimate(after), change)
        made.add_row(f"coverage@{row.cutoff}", *(f"{share:.4f}" for share in row.coverage), "")
        made.add_row(f"overlap@{row.cutoff}", "", "", f"{row.overlap:.4f}")
        made.add_row(f"order@{row.cutoff}", "", "", _share(row.order))
        made.add_row(f"new_items@{row.cutoff}", "", f"{row.new_items:.4f}", "")
        made.add_row(f"recall_of_new_items@{row.cutoff}", "", _share(row.recall_of_new_items), "", end_section=True)
    made.add_row("items", *(f"{count:,}" for count in found.items), f"{found.items[1] - found.items[0]:+,}")
    for name in ("latency_ms", "megabytes"):
        first, second = getattr(found, name)
        made.add_row(name, f"{first:.2f}", f"{second:.2f}", f"x {second / first:.2f}")
    screen.print_figures(made)
    shares = screen.table_of_figures("Share of the lists by cluster", "cluster", old, new, "change")
    for name, (first, second) in found.cluster_shares.items():
        shares.add_row(name, f"{first:.4f}", f"{second:.4f}", f"{second - first:+.4f}")
    screen.print_figures(shares)


def _estimate(value: Estimate) -> str:
    return f"{value.mean:.4f} ± {value.error:.4f}"


def _share(value: float) -> str:
    """Returns a dash for NaN, such as the recall of new items where there are none."""
    return "-" if math.isnan(value) else f"{value:.4f}"
