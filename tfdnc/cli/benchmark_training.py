"""`tfdnc benchmark training`: measures the training speed of methods, compared with a baseline."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from tfdnc.benchmark import pages
from tfdnc.benchmark.rates import find_baseline, rates, same_windows
from tfdnc.benchmark.training import measure
from tfdnc.cli import screen, shared_flags
from tfdnc.cli.flag_types import count
from tfdnc.cli.station_runs import run_stations
from tfdnc.contracts.config import load_config
from tfdnc.pipeline import stations
from tfdnc.pipeline.working import last_log_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the configs, the baseline, and the size of the measurement."""
    shared_flags.add_configs(parser)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override in every config")
    shared_flags.add_runs(parser)
    parser.add_argument(
        "--baseline", metavar="NAME", help="run that ratios are to (default: the one called ...-sasrec)"
    )
    parser.add_argument("--steps", type=count, default=60, help="training steps of a measurement (default: 60)")
    parser.add_argument("--rounds", type=count, default=3, help="measurements of every method (default: 3)")
    parser.add_argument("--output", type=Path, default=Path("benchmark"), help="folder (default: benchmark)")


def run(arguments: argparse.Namespace) -> None:
    """Trains every config for some steps, in turn, and writes rates and ratios."""
    configs = [load_config(path, arguments.set) for path in arguments.configs]
    baseline = find_baseline([config.name for config in configs], arguments.baseline)
    for config in configs:
        screen.console.print(config.name, style="bold reverse")
        run_stations(config, arguments.runs / config.name, last=stations.EXAMPLES.name)
    with last_log_line("benchmark"):
        measured = measure(configs, arguments.runs, arguments.steps, arguments.rounds)
    rows = rates(measured, baseline)
    notes = [*pages.NOTES, *pages.contents(same_windows(measured))]
    title = f"Training throughput, {arguments.rounds} rounds of {arguments.steps} steps, ratios to {baseline}"
    _show(arguments.output, title, rows, notes)
    pages.write_pages(arguments.output, pages.describe_machine(_command(arguments)), measured, rows, notes)
    screen.console.print(f"training.md, .csv and .json are in {arguments.output}", soft_wrap=True)


def _show(output: Path, title: str, rows: list[dict[str, Any]], notes: list[str]) -> None:
    made = screen.table_of_figures(title, *pages.HEADERS)
    for row in rows:
        made.add_row(*pages.cells(row))
    screen.print_figures(made, output / "training.md")
    for note in notes:
        screen.console.print(note, soft_wrap=True)


def _command(arguments: argparse.Namespace) -> str:
    """Returns the command line, without the flags that name files of this machine."""
    words = ["tfdnc", "benchmark", "training", *map(str, arguments.configs)]
    words += [word for override in arguments.set if ".path=" not in override for word in ("--set", override)]
    words += ["--baseline", arguments.baseline] if arguments.baseline else []
    return shlex.join([*words, "--steps", str(arguments.steps), "--rounds", str(arguments.rounds)])
