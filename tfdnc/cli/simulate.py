"""`tfdnc simulate`: days of a log, with a model that is brought up to date in several ways."""

import argparse
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from tfdnc.cli import screen, shared_flags
from tfdnc.cli.flag_types import at_least_zero, count, instant
from tfdnc.contracts.config import load_config
from tfdnc.pipeline.engine import Station
from tfdnc.pipeline.runner import Observer
from tfdnc.pipeline.working import show_work

if TYPE_CHECKING:
    from tfdnc.operations.simulate.play import DayFigures

_WAYS = ("frozen", "warm", "full")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the config, the days, and the ways."""
    shared_flags.add_config(parser)
    shared_flags.add_runs(parser)
    parser.add_argument(
        "--from",
        dest="first",
        type=instant,
        required=True,
        metavar="TIME",
        help="start of the first day: ISO 8601, or a number in the log's unit",
    )
    parser.add_argument("--days", type=count, required=True, help="number of days of 24 hours")
    parser.add_argument("--ways", default=",".join(_WAYS), metavar="WAY,WAY", help="default: %(default)s")
    parser.add_argument("--users", type=count, default=5000, help="most users to ask for on a day (default: 5000)")
    parser.add_argument("--warm-epochs", type=count, help="epochs of a warm start (default: 2)")
    parser.add_argument(
        "--warm-rate", type=at_least_zero, help="its learning rate, as a share of the config's (default: 0.5)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="default: simulation.json beside the runs")


def run(arguments: argparse.Namespace) -> None:
    """Plays the days, and shows a line per day and way, and a table of the means."""
    import dataclasses

    from tfdnc.operations.simulate.play import Play, means_of, play
    from tfdnc.operations.simulate.ways import Schedule

    config = load_config(arguments.config, arguments.set)
    given = {"epochs": arguments.warm_epochs, "rate": arguments.warm_rate}
    schedule = Schedule(**{name: value for name, value in given.items() if value is not None})
    folder = arguments.runs / f"{config.name}-simulation"
    what = Play(config, folder, arguments.first, arguments.days, arguments.ways.split(","), arguments.users, schedule)
    figures = play(what, _Bars(), _show_day)
    means = means_of(figures)
    _show(means, arguments.days)
    output = arguments.output or folder / "simulation.json"
    content = {
        "config": str(arguments.config),
        "from": arguments.first,
        "days": arguments.days,
        "warm": schedule._asdict(),
        "means": means,
        "by_day": [dataclasses.asdict(row) for row in figures],
    }
    output.write_text(json.dumps(content, indent=1))
    screen.console.print(f"The figures of every day are in {output}", soft_wrap=True)


class _Bars(Observer):
    """Shows the progress of a station, and no result."""

    def working(self, station: Station) -> AbstractContextManager[object]:
        return show_work(station.name)


def _show_day(row: "DayFigures") -> None:
    recalls = "  ".join(f"{name.replace('recall', 'R')} {value:.4f}" for name, value in row.recall.items())
    screen.console.print(
        f"{row.day}  {row.way:8} {recalls}  {row.users:,} users  {row.cpu_seconds:.1f} CPU s", soft_wrap=True
    )


def _show(means: dict[str, dict[str, float]], days: int) -> None:
    names = max((list(row) for row in means.values()), key=len)
    titles = [name.replace("recall_of_new", "new R").replace("recall", "R") for name in names]
    titles = ["CPU s" if title == "cpu_seconds" else title for title in titles]
    made = screen.table_of_figures(f"Means over {days} days; CPU seconds of an update's training", "way", *titles)
    for way, row in means.items():
        cells = [
            f"{row[name]:.1f}" if name == "cpu_seconds" else f"{row.get(name, float('nan')):.4f}" for name in names
        ]
        made.add_row(way, *cells)
    screen.print_figures(made)
