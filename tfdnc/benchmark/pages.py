"""Files of a benchmark: Markdown to read, CSV to plot, JSON with every raw measurement."""

import csv
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tfdnc.contracts.provenance import machine, versions

HEADERS = ("method", "seq/s", "ratio", "spread", "pos/s", "ratio", "to plain", "paper")
"""Titles of the columns, on the screen and in the Markdown file."""

NOTES = (
    "seq/s and pos/s: training sequences, and positions with a retrieval loss, per CPU second on one thread;",
    "ratio: to the baseline, median over rounds (spread: lowest and highest);",
    "to plain: seq/s against the plain Transformer with the same loss and clusters; paper: ratios of its Table 4.",
)


def describe_machine(command: str) -> dict[str, str]:
    """Returns command, date, machine and versions, for the header of the report."""
    named = (f"{name} {version}" for name, version in versions().items())
    return {
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": ", ".join(named),
    }


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Returns the cells of one row of `rates.rates`, in the order of `HEADERS`."""
    return (
        row["method"],
        f"{row['sequences']:,.0f}",
        f"{row['sequences_ratio']:.2f}",
        f"{row['sequences_lowest']:.2f}-{row['sequences_highest']:.2f}",
        f"{row['positions']:,.0f}",
        f"{row['positions_ratio']:.2f}",
        _ratio(row["plain_ratio"]),
        _ratio(row["paper"]),
    )


def contents(windows: dict[int, list[list[str]]]) -> Iterator[str]:
    """Yields the result of `rates.same_windows` as sentences."""
    for length, groups in windows.items():
        if len(groups) == 1:
            yield f"Windows of up to {length}: all {len(groups[0])} methods trained on the same batches."
        else:
            listed = "; ".join(", ".join(group) for group in groups)
            yield f"Windows of up to {length}: the batches differ, so ratios compare different work: {listed}."


def write_pages(
    folder: Path,
    machine: dict[str, str],
    measured: Sequence[dict[str, Any]],
    rows: Sequence[dict[str, Any]],
    notes: Sequence[str],
) -> None:
    """Writes training.md, training.csv and training.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training.md").write_text(_markdown(machine, rows, notes), encoding="utf-8")
    values = {"machine": machine, "rates": rows, "measured": measured}
    (folder / "training.json").write_text(json.dumps(values, indent=1), encoding="utf-8")
    with (folder / "training.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def _markdown(machine: dict[str, str], rows: Sequence[dict[str, Any]], notes: Sequence[str]) -> str:
    lines = ["# Training throughput", "", f"    {machine['command']}", ""]
    lines += [f"{machine['date']}; {machine['machine']}; {machine['versions']}.", ""]
    table = [HEADERS, ("---", *["---:"] * (len(HEADERS) - 1)), *map(cells, rows)]
    lines += [f"| {' | '.join(row)} |" for row in table]
    return "\n".join([*lines, "", *notes, ""])


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
