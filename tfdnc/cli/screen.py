"""What the command line shows: one line per station, and tables."""

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Iterator

from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from beam_jobs.progress import PROGRESS, STEPS
from tfdnc.evaluation.metrics import sizes_of
from tfdnc.stations import Outcome, Station

console = Console(highlight=False, markup=False)  # ids and titles are data, whatever brackets they hold
if not console.is_terminal and "COLUMNS" not in os.environ:
    console.width = 100  # what reports are made for; a file or a pipe would have 80


def station_started(station: Station) -> None:
    """Announces a station before its work begins."""
    console.print(station.name, style="bold")


@contextlib.contextmanager
def last_log_line(name: str) -> Iterator[None]:
    """Shows, on a terminal, what work called `name` last logged; nothing of it stays on the screen.

    That is a line of text, or how far a step of the work is if the record says so (`beam_jobs.progress`).
    """
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), _Bar(), _TimeLeft()
    with Progress(*columns, console=console, transient=True) as shown:
        watcher = _Watcher(shown, name)
        loggers = [logging.getLogger(package) for package in ("tfdnc", "beam_jobs")]
        for logger in loggers:
            logger.addHandler(watcher)
            logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeHandler(watcher)


class _Watcher(logging.Handler):
    """Adds up what records say is done of a step; one about another step, or about none, begins a new line."""

    def __init__(self, shown: Progress, name: str):
        super().__init__(logging.INFO)
        self._shown, self._step, self._done = shown, None, 0
        self._parts: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._task = shown.add_task(f"{name} ...", total=None)

    def emit(self, record: logging.LogRecord) -> None:
        self._parts.update(getattr(record, STEPS, {}))
        step, done, counts = getattr(record, PROGRESS, (None, 0, {}))
        if step is None or step != self._step:
            self._step, self._done = step, 0
            self._counts.clear()
            self._shown.remove_task(self._task)
            self._task = self._shown.add_task("", total=None, visible=False)
        self._done += done
        self._counts.update(counts)
        text = record.getMessage() if step is None else self._so_far()
        self._shown.update(
            self._task, completed=self._done, total=self._parts[step] or None, description=text, visible=True
        )

    def _so_far(self) -> str:
        parts = f"{self._step} {self._done:,} of {self._parts[self._step]:,}"
        return ", ".join([parts, *(f"{count:,} {name}" for name, count in self._counts.items() if count)])


class _Bar(BarColumn):
    """A bar where there is a total."""

    def render(self, task: Task) -> RenderableType:
        return Text() if task.total is None else super().render(task)


class _TimeLeft(TimeRemainingColumn):
    """The time that is left where there is a total."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


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


def table_of_figures(title: str, *headers: str) -> Table:
    """As `table`, with names in the first column and figures in the others."""
    made = table(title, *headers)
    for column in made.columns[1:]:
        column.justify, column.no_wrap = "right", True  # only the names give way on a narrow terminal
    return made


def show_report(report: dict) -> None:
    """Prints the evaluation report: merges against popularity, within clusters, intent, the alpha curve."""
    sizes = sizes_of(report["merge"])
    last = sizes[-1]
    columns = {f"recall@{m}": f"R@{m}" for m in sizes} | {f"ndcg@{sizes[0]}": f"NDCG@{sizes[0]}"}
    spread = {"coverage": "cover", "entropy": "entropy", "gini": "gini", "ild": "ild"}
    columns |= {f"{name}@{last}": text for name, text in spread.items() if f"{name}@{last}" in report["merge"]}
    title = f"Test set: {report['users']:,} users, all unseen items ranked"
    _show_figures(table_of_figures(title, "merge", *columns.values()), _rows_of(report), columns)
    for line in _notes(report, last):
        console.print(line)
    if report["judged_by"]:
        _show_within_clusters(report)
    if report["calibration"]:
        figures, calibration = report["intent"], report["calibration"]
        console.print(
            f"Intent model: accuracy {figures['intent_accuracy']:.3f}, calibration error {calibration['ece']:.3f}; "
            f"negative log-likelihood {figures['intent_nll']:.3f} nats\n"
            f"(own history {figures['intent_nll_history']:.3f}, prior {figures['intent_nll_prior']:.3f})\n"
        )


def _rows_of(report: dict) -> dict[str, dict]:
    """Name -> figures of every list of the report, and the ceiling of all of them."""
    rows = {"popularity": report["popularity"], report["merge_method"]: report["merge"]}
    if report["without_times"]:
        rows[f"{report['merge_method']}, no times sent"] = report["without_times"]
    if report["tuned"]:
        rows["quota*"] = report["tuned"]["figures"]
    rows |= {f"alpha {point['alpha']:g}": point for point in report["alpha_curve"]}
    rows |= {f"joint, alpha {point['alpha']:g}": point for point in report["joint_curve"]}
    if report["judged_by"]:  # with one cluster that is always given, this would be the list itself
        rows["oracle intent"] = report["within_cluster"]
    return rows


def _notes(report: dict, last: int) -> Iterator[str]:
    """What a reader of the table has to know."""
    if report["judged_by"]:
        yield f"cover, entropy (nats): clusters in lists of {last}, by {report['judged_by']}."
    yield f"gini: how unevenly all lists of {last} use the items, 1 is most; ild: distance of their categories."
    if report["tuned"]:
        tuned = report["tuned"]
        picked = f"{tuned['objective']} on validation, {tuned['validation']:.4f}"
        yield f"quota*: alpha {tuned['alpha']:g}, picked by {picked}."
    if report["seen_targets"]:
        share = f"{report['seen_targets']:.1%}"
        yield f"{share} of the targets had been seen by their users before; no list contains those."
    if report["cold_targets"]:
        cold = report["cold_targets"]
        recall = f"R@{last} {cold[f'recall@{last}']:.4f}"
        yield f"{cold['targets']:,} targets are cold items (no training event, or new to the clusters): {recall}."


def _show_within_clusters(report: dict) -> None:
    by_cluster = report["within_cluster_by_cluster"]
    columns = [name for name in max(by_cluster, key=len) if name.startswith("recall")]
    rows = {row["name"]: row for row in by_cluster} | {"all": {"targets": report["users"], **report["within_cluster"]}}
    headers = [name.replace("recall", "R") for name in columns]
    made = table_of_figures("Recall with the target's cluster given", "cluster", "targets", *headers)
    _show_figures(made, rows, ["targets", *columns])


def _show_figures(made: Table, rows: dict[str, dict], columns) -> None:
    for name, figures in rows.items():
        made.add_row(name, *(_figure(figures.get(key)) for key in columns))
    console.print(made)


def _figure(value: float | int | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
