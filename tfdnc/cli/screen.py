"""Output of stations on the screen: a line each, and the tables of the report."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import rich
from rich import box
from rich.table import Table

from tfdnc.contracts.narrow import drop_columns
from tfdnc.evaluation.metrics import sizes_of
from tfdnc.pipeline.engine import Outcome, Station

# The console of the process, which libraries and the progress bar of a training use too. Ids and titles are data: the
# brackets in them are no markup.
rich.reconfigure(highlight=False, markup=False)
console = rich.get_console()
if not console.is_terminal and "COLUMNS" not in os.environ:
    console.width = 100  # the width of reports; a file or a pipe would have 80


def station_started(station: Station) -> None:
    """Announces a station before its work begins."""
    console.print(station.name, style="bold")


def station_ended(station: Station, outcome: Outcome) -> None:
    """Shows the headline of a station, and its duration or the reason why it did not run."""
    console.print(f"    {outcome.effort:>9}  {station.headline(outcome.figures)}", soft_wrap=True)


def table(title: str, *headers: str) -> Table:
    """Prints a title and returns an empty table; the caller adds the rows and prints it."""
    console.print(f"\n{title}", style="bold", soft_wrap=True)
    return Table(*headers, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


def table_of_figures(title: str, *headers: str) -> Table:
    """Prints a title and returns an empty table with figures in all but the first column, for `print_figures`."""
    made = table(title, *headers)
    for column in made.columns[1:]:
        column.justify, column.no_wrap = "right", True
    return made


def print_figures(made: Table, whole: Path | None = None) -> None:
    """Prints a table of figures, without the last columns if the screen is too narrow; the file `whole` has all."""
    dropped = drop_columns(made, console)
    console.print(made)
    if dropped:
        source = f"; {whole} has all" if whole else ""
        console.print(f"{console.width} columns are too narrow for {', '.join(dropped)}{source}.", soft_wrap=True)


def show_report(report: dict[str, Any], path: Path, curves: str | None = None) -> None:
    """Prints an evaluation report: merges against popularity, within clusters, intent, the curves over alpha.

    Args:
        report: content of `report.json`.
        path: path of that file.
        curves: command that shows the curves over alpha; None shows them here.
    """
    sizes = sizes_of(report["merge"])
    last = sizes[-1]
    columns = {f"recall@{m}": f"R@{m}" for m in sizes} | {f"ndcg@{sizes[0]}": f"NDCG@{sizes[0]}"}
    spread = {"coverage": "cover", "entropy": "entropy", "gini": "gini", "ild": "ild"}
    columns |= {f"{name}@{last}": text for name, text in spread.items() if f"{name}@{last}" in report["merge"]}
    ranked = "all items ranked, seen ones too" if _allows_seen(report) else "all unseen items ranked"
    title = f"Test set: {report['users']:,} users, {ranked}"
    curve = {} if curves else _curve_rows(report)
    rows = _summary_rows(report) | curve | _ceiling_row(report)
    _show_figures(table_of_figures(title, "merge", *columns.values()), rows, columns, path)
    for line in _notes(report, last):
        console.print(line)
    if curves and (points := len(_curve_rows(report))):
        console.print(f"{points} more lists, with other values of alpha: {curves}", soft_wrap=True)
    if report["judged_by"]:
        _show_within_clusters(report, path)
    if report["calibration"]:
        figures, calibration = report["intent"], report["calibration"]
        console.print(
            f"Intent on the test set: accuracy {figures['intent_accuracy']:.3f}, calibration error "
            f"{calibration['ece']:.3f}, {figures['intent_nll']:.3f} nats\n"
            f"(own history {figures['intent_nll_history']:.3f}, prior {figures['intent_nll_prior']:.3f})\n"
        )
    check = report.get("intent_check") or {}  # a report of an earlier version has no such key
    if advice := check.get("advice"):
        console.print(f"{advice}\n")
    if text := check.get("text"):
        console.print(f"{text[0].upper()}{text[1:]}.\n")


def _summary_rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the figures of the main lists by name."""
    rows = {"popularity": report["popularity"], report["merge_method"]: report["merge"]}
    if report["without_times"]:
        rows[f"{report['merge_method']}, no times sent"] = report["without_times"]
    for owner, figures in report.get("without_inputs", {}).items():  # reports of earlier versions have none
        rows[f"{report['merge_method']}, no inputs of the {owner} sent"] = figures
    for kind in report.get("by_target") or []:
        rows[f"{report['merge_method']}, {kind['targets']} targets {kind['value']}"] = kind
    if report["tuned"]:
        rows["quota*"] = report["tuned"]["figures"]
    return rows


def _curve_rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the figures of the curves over alpha by name."""
    rows = {f"alpha {point['alpha']:g}": point for point in report["alpha_curve"]}
    return rows | {f"joint, alpha {point['alpha']:g}": point for point in report["joint_curve"]}


def _ceiling_row(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the figures with the next cluster given; none for one cluster, where they are those of the list."""
    return {"oracle intent": report["within_cluster"]} if report["judged_by"] else {}


def _notes(report: dict[str, Any], last: int) -> Iterator[str]:
    """Yields explanations of the table."""
    if report["judged_by"]:
        yield f"cover, entropy (nats): clusters in lists of {last}, by {report['judged_by']}."
    yield f"gini: how unevenly all lists of {last} use the items, 1 is most; ild: distance of their categories."
    if report["tuned"]:
        tuned = report["tuned"]
        picked = f"{tuned['objective']} on validation, {tuned['validation']:.4f}"
        yield f"quota*: alpha {tuned['alpha']:g}, picked by {picked}."
    yield from _notes_on_seen(report, last)
    if filtered := report.get("filtered"):  # a report of an earlier version has no such key
        recall = f"R@{last} {filtered[f'recall@{last}']:.4f} of the {filtered['targets']:,} targets that pass"
        short = f"{filtered[f'short_lists@{last}']:.1%} of the lists are short"
        yield f"where {' '.join(filtered['where'])}: {filtered['item_share']:.1%} of the items; {recall}; {short}."
    if report["cold_targets"]:
        cold = report["cold_targets"]
        recall = f"R@{last} {cold[f'recall@{last}']:.4f}"
        yield f"{cold['targets']:,} targets are cold items (no training event, or new to the clusters): {recall}."


def _allows_seen(report: dict[str, Any]) -> bool:
    return report.get("seen") == "allow"  # a report of an earlier version has no such key


def _notes_on_seen(report: dict[str, Any], last: int) -> Iterator[str]:
    """Yields the share of the repeated targets, and their recall where lists may hold them."""
    if not report["seen_targets"]:
        return
    share = f"{report['seen_targets']:.1%} of the targets had been seen by their users before"
    if not _allows_seen(report):
        yield f"{share}; no list contains those (data.seen: allow would)."
        return
    parts = {"new": report["new_targets"], "repeated": report["repeated_targets"]}
    figures = (
        f"{part[f'recall@{last}']:.4f} of {part['targets']:,} {name} ones" for name, part in parts.items() if part
    )
    yield f"{share}, and lists may contain those: R@{last} {', '.join(figures)}."


def _show_within_clusters(report: dict[str, Any], path: Path) -> None:
    by_cluster = report["within_cluster_by_cluster"]
    columns = [name for name in max(by_cluster, key=len) if name.startswith("recall")]
    rows = {row["name"]: row for row in by_cluster} | {"all": {"targets": report["users"], **report["within_cluster"]}}
    headers = [name.replace("recall", "R") for name in columns]
    made = table_of_figures("Recall with the target's cluster given", "cluster", "targets", *headers)
    _show_figures(made, rows, ["targets", *columns], path)


def _show_figures(made: Table, rows: dict[str, dict[str, Any]], columns: Iterable[str], path: Path) -> None:
    for name, figures in rows.items():
        made.add_row(name, *(_figure(figures.get(key)) for key in columns))
    print_figures(made, path)


def _figure(value: float | int | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
