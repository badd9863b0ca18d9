"""`tfdnc benchmark`: goes up the road as far as a benchmark needs, measures, and shows the table."""

import argparse
import shlex
from pathlib import Path

from tfdnc.benchmark import pages
from tfdnc.benchmark.rates import find_baseline, rates, same_windows
from tfdnc.benchmark.training import measure
from tfdnc.cli import screen
from tfdnc.cli.station_runs import run_stations
from tfdnc.contracts.config import load_config
from tfdnc.pipeline import stations
from tfdnc.pipeline.working import last_log_line


def benchmark_training(arguments: argparse.Namespace) -> None:
    """Trains every config for some steps, by turns, and writes rates and ratios."""
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


def _show(output: Path, title: str, rows: list[dict], notes: list[str]) -> None:
    made = screen.table_of_figures(title, *pages.HEADERS)
    for row in rows:
        made.add_row(*pages.cells(row))
    screen.print_figures(made, output / "training.md")
    for note in notes:
        screen.console.print(note, soft_wrap=True)


def _command(arguments: argparse.Namespace) -> str:
    """The command again, but for where files lie."""
    words = ["tfdnc", "benchmark", "training", *map(str, arguments.configs)]
    words += [word for override in arguments.set if ".path=" not in override for word in ("--set", override)]
    words += ["--baseline", arguments.baseline] if arguments.baseline else []
    return shlex.join([*words, "--steps", str(arguments.steps), "--rounds", str(arguments.rounds)])
