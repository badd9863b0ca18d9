"""What the command line shows: one line per station, and tables."""

import contextlib
import logging
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfdnc.stations import Outcome, Station

console = Console(highlight=False, markup=False)  # ids and titles are data, whatever brackets they hold


def station_started(station: Station) -> None:
    """Announces a station before its work begins."""
    console.print(station.name, style="bold")


@contextlib.contextmanager
def last_log_line(station: Station) -> Iterator[None]:
    """Shows, on a terminal, the latest thing a running station logged; nothing of it stays on the screen."""
    with console.status(Text(f"{station.name} ...")) as status:
        handler = logging.Handler(logging.INFO)
        handler.emit = lambda record: status.update(Text(record.getMessage()))
        loggers = [logging.getLogger(package) for package in ("tfdnc", "beam_jobs")]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeHandler(handler)


def station_ended(station: Station, outcome: Outcome) -> None:
    """Shows the headline of a station, and how long it ran or why it did not have to."""
    when = f"{outcome.seconds:.1f} s"
    if outcome.skipped:
        when = f"adopted from {outcome.adopted}" if outcome.adopted else "unchanged"
    console.print(f"    {when:>9}  {station.headline(outcome.figures)}", soft_wrap=True)


def table(title: str, *headers: str) -> Table:
    """Prints a title and returns a table below it, ready for rows; print it when they are in."""
    console.print(f"\n{title}", style="bold", soft_wrap=True)
    return Table(*headers, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


def show_report(report: dict) -> None:
    """Prints the evaluation report: merges against popularity, within clusters, intent, the alpha curve."""
    sizes = [name.removeprefix("recall@") for name in report["merge"] if name.startswith("recall@")]
    columns = {f"recall@{m}": f"R@{m}" for m in sizes}
    columns |= {f"ndcg@{sizes[0]}": f"NDCG@{sizes[0]}"}
    rows = {"popularity": report["popularity"], report["merge_method"]: report["merge"]}
    if report["alpha_curve"]:  # K = 1 has no quotas and no spread, and its cluster is always given
        columns |= {f"coverage@{sizes[-1]}": "cover", f"entropy@{sizes[-1]}": "entropy"}
        rows |= {f"alpha {point['alpha']:g}": point for point in report["alpha_curve"]}
        rows["oracle intent"] = report["within_cluster"]
    title = f"Test set: {report['users']:,} users, all unseen items ranked"
    if report["alpha_curve"]:
        title += f"; clusters covered and their entropy (nats) in lists of {sizes[-1]}"
    _show_figures(table(title, "merge", *columns.values()), rows, columns)
    if report["seen_targets"]:
        share = f"{report['seen_targets']:.1%}"
        console.print(f"{share} of the targets had been seen by their users before; no list contains those.\n")
    if report["alpha_curve"]:
        _show_within_clusters(report)
        figures = report["intent"]
        accuracy, nll = figures["intent_accuracy"], figures["intent_nll"]
        console.print(f"Intent model: accuracy {accuracy:.3f}, negative log-likelihood {nll:.3f} nats\n")


def _show_within_clusters(report: dict) -> None:
    by_cluster = report["within_cluster_by_cluster"]
    columns = [name for name in max(by_cluster, key=len) if name.startswith("recall")]
    rows = {row["name"]: row for row in by_cluster} | {"all": {"targets": report["users"], **report["within_cluster"]}}
    headers = [name.replace("recall", "R") for name in columns]
    made = table("Recall with the target's cluster given", "cluster", "targets", *headers)
    _show_figures(made, rows, ["targets", *columns])


def _show_figures(made: Table, rows: dict[str, dict], columns) -> None:
    for column in made.columns[1:]:
        column.justify, column.no_wrap = "right", True  # only the names give way on a narrow terminal
    for name, figures in rows.items():
        made.add_row(name, *(_figure(figures.get(key)) for key in columns))
    console.print(made)


def _figure(value: float | int | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
