"""A study: runs a grid, makes tables of its results, prints them and writes them and their cells into a folder."""

import datetime
import json
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tfdnc.comparison.cells import FOLDER, Cell, commits_of, earlier_cells, read_cell, write_cells
from tfdnc.comparison.grid import Experiment, Variant, expand
from tfdnc.comparison.progress import clock
from tfdnc.comparison.render import csv_text, json_tables, markdown, print_tables
from tfdnc.comparison.results import Measurement, Result, StationsOf, read_results
from tfdnc.comparison.summary_table import Table
from tfdnc.comparison.work import check, run_grid, show_failures
from tfdnc.contracts.version import __version__


@dataclass(frozen=True)
class Study:
    """The settings of a study.

    Attributes:
        title: title of the page.
        command: command line that repeats the study.
        variants: the rows of the tables.
        seeds: seeds of every variant.
        runs: folder of all runs.
        output: folder for the tables.
        stem: first part of the names of the files there.
        lanes: number of trainings side by side; None for one per core.
        tables_of: results -> tables.
        extra: results, output -> writes further files into `output`.
    """

    title: str
    command: str
    variants: Sequence[Variant]
    seeds: Sequence[int]
    runs: Path
    output: Path
    stem: str
    lanes: int | None
    tables_of: Callable[[Sequence[Result]], list[Table]]
    extra: Callable[[Sequence[Result], Path], None] = lambda results, output: None


def carry_out(study: Study, stations_of: StationsOf, console: Console) -> int:
    """Runs a study to its end; its files are written anew whenever an experiment finishes.

    Returns:
        Exit status: 0, or 1 if an experiment failed.

    Raises:
        UserError: a config is bad; nothing has run then.
    """
    experiments = expand(study.variants, study.seeds)
    check(experiments, study.runs, stations_of)

    def results() -> list[Result]:
        return read_results(study.variants, study.seeds, study.runs, stations_of)

    def write() -> None:
        _write(study, experiments, results())

    failures = run_grid(experiments, study.runs, study.lanes, stations_of, console, on_finished=write)
    tables, cells = _write(study, experiments, results())
    print_tables(tables, console)
    console.print(f"\nThe same as Markdown, CSV and JSON: {study.output / study.stem}.*", soft_wrap=True)
    _show_cells(cells, study.output / FOLDER, console)
    show_failures(failures, console)
    return 1 if failures else 0


def split_line(results: Sequence[Measurement]) -> str:
    """Returns the split that results were evaluated on, or a warning if it differs between rows of one seed."""
    by_seed: defaultdict[int, set[str]] = defaultdict(set)
    for result in results:
        by_seed[result.seed].add(result.split)
    if any(len(splits) > 1 for splits in by_seed.values()):
        return "DIFFERENT data under the same seed: these figures cannot be compared"
    every = sorted({split for splits in by_seed.values() for split in splits})
    if len(every) == 1:
        return every[0]
    return ", ".join(f"{split[:12]} (seed {seed})" for seed, [split] in sorted(by_seed.items()))


def header_of(
    study: Study, experiments: Sequence[Experiment], results: Sequence[Result], cells: Sequence[Cell], date: str
) -> dict[str, str]:
    """Returns the command, the data and the machine behind the tables, for the head of the page."""
    found = {(result.label, result.seed) for result in results}
    missing = [one.name for one in experiments if (one.label, one.config.seed) not in found]
    cpu = sum(result.training.get("cpu_seconds", 0.0) for result in results)
    header = {
        "command": f"`{study.command}`",
        "date": date,
        "seeds": ", ".join(str(seed) for seed in sorted({result.seed for result in results})) or "none",
        "split": split_line(results),
        "tfdnc": __version__,
        "commits": commits_of(cells),
        "machine": f"{os.cpu_count()} CPU cores",
        "CPU time of all trainings": f"{clock(cpu)} (h:mm:ss)",
    }
    return header | ({"not finished": ", ".join(missing)} if missing else {})


def _show_cells(current: Sequence[Cell], folder: Path, console: Console) -> None:
    console.print(f"One cell per experiment, to keep: {folder}", soft_wrap=True)
    for line in earlier_cells(folder, [cell.path for cell in current]):
        console.print(f"Kept, not in the tables: {line}", soft_wrap=True)


def _write(
    study: Study, experiments: Sequence[Experiment], results: Sequence[Result]
) -> tuple[list[Table], list[Cell]]:
    tables = study.tables_of(results)
    cells = [read_cell(path) for path in write_cells(results, study.command, study.output / FOLDER)]
    header = header_of(study, experiments, results, cells, datetime.date.today().isoformat())
    content = {
        "header": header,
        "tables": json_tables(tables),
        "results": [
            {
                "label": result.label,
                "seed": result.seed,
                "run": result.config.name,
                "cell": cell.path.name,
                "training": result.training,
                "report": result.report,
            }
            for result, cell in zip(results, cells, strict=True)
        ],
    }
    study.output.mkdir(parents=True, exist_ok=True)
    for suffix, text in {
        "md": markdown(study.title, header, tables),
        "csv": csv_text(tables),
        "json": json.dumps(content, indent=1),
    }.items():
        (study.output / f"{study.stem}.{suffix}").write_text(text, encoding="utf-8")
    study.extra(results, study.output)
    return tables, cells
