"""Results of `tfdnc benchmark serving` on the screen and in files."""

import argparse
import contextlib
import shlex
from pathlib import Path
from typing import Any

from tfdnc.benchmark import pages
from tfdnc.cli import screen
from tfdnc.contracts.errors import UserError
from tfdnc.load_test import report
from tfdnc.load_test.benchmark import Plan, benchmark, benchmark_of_server
from tfdnc.load_test.bundle import Size
from tfdnc.load_test.subjects import recorded, synthetic
from tfdnc.pipeline.working import last_log_line


def benchmark_serving(arguments: argparse.Namespace) -> None:
    """Measures a bundle, or a running server of it, and writes the results."""
    if arguments.target and not arguments.bundle:
        raise UserError("Expected the bundle that --target serves, its recorded requests are what is sent: name it.")
    with last_log_line("benchmark"):
        results = _measure(arguments)
    notes = [*report.NOTES, *report.describe(results["load"], results["reloads"])]
    _show(arguments.output, results, notes)
    report.write_pages(arguments.output, pages.describe_machine(_command(arguments)), results, notes)
    screen.console.print(f"serving.md, .json and .png are in {arguments.output}", soft_wrap=True)


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    plan = Plan(
        clients=arguments.clients,
        rounds=arguments.rounds,
        round_seconds=arguments.round_seconds,
        seconds=arguments.seconds,
        reloads=arguments.reloads,
        without=arguments.without,
    )
    size = Size(arguments.items, arguments.clusters, arguments.dim, index=arguments.index, encoder=arguments.encoder)
    chosen = contextlib.nullcontext(recorded(arguments.bundle)) if arguments.bundle else synthetic(size)
    with chosen as subject:
        if arguments.target:
            results = benchmark_of_server(subject, plan, arguments.target, arguments.model_name)
        else:
            results = benchmark(subject, plan)
        return {"bundle": subject.description, **results}


def _show(output: Path, results: dict[str, Any], notes: list[str]) -> None:
    screen.console.print(results["bundle"], soft_wrap=True)
    for title, headers, cells, rows in (
        ("Latency by load", report.RATE_HEADERS, report.rate_cells, results["rates"]),
        ("Figures", report.FIGURE_HEADERS, report.figure_cells, results["figures"]),
    ):
        made = screen.table_of_figures(title, *headers)
        for row in rows:
            made.add_row(*cells(row))
        screen.print_figures(made, output / "serving.md")
    for note in notes:
        screen.console.print(note, soft_wrap=True)


def _command(arguments: argparse.Namespace) -> str:
    """Returns the command line, without paths and addresses of this machine."""
    words = ["tfdnc", "benchmark", "serving", *(["BUNDLE"] if arguments.bundle else [])]
    words += ["--target", "HOST:PORT"] if arguments.target else []
    sizes = [] if arguments.bundle else ["items", "clusters", "dim", "index", "encoder"]
    for name in (*sizes, "rounds", "round_seconds", "seconds", "reloads"):
        words += [f"--{name.replace('_', '-')}", f"{getattr(arguments, name)}"]
    return shlex.join([*words, "--clients", *map(str, arguments.clients)])
