"""Output of tables: to a terminal, as Markdown, CSV and JSON."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tfdnc.comparison.summary_table import Table, best_rows
from tfdnc.contracts.narrow import drop_columns

_WIDE = 160
"""Width in characters of a table printed into a file or a pipe, unless COLUMNS is set."""


def print_tables(tables: Sequence[Table], console: Console) -> None:
    """Prints tables with the best figure of every column in bold."""
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = max(_WIDE, console.width)  # rich prints no table wider than its console
    for table in tables:
        console.print(f"\n{table.title}", style="bold", soft_wrap=True)
        made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        made.add_column(table.heads, overflow="fold")
        for column in table.columns:
            # In a narrow column, a deviation is wrapped below its mean; a round number must stay in one line.
            made.add_column(column.title, justify="right", no_wrap=column.shows == "round")
        for label, cells in _texts(table):
            texts = [Text(text.replace("± ", "±"), "bold" if best else "") for text, best in cells]
            made.add_row(Text(label), *texts)
        dropped = drop_columns(made, console)
        console.print(made)
        if dropped:
            text = f"{console.width} columns are too narrow for {', '.join(dropped)}; the files have all."
            console.print(text, soft_wrap=True)
        for note in table.notes:
            console.print(note, style="dim", soft_wrap=True)


def markdown(title: str, header: Mapping[str, str], tables: Sequence[Table]) -> str:
    """Returns a Markdown page: the header as a list, and the tables with the best figure of every column in bold."""
    lines = [f"# {title}", "", *(f"- {key}: {value}" for key, value in header.items()), ""]
    for table in tables:
        lines += [f"## {table.title}", "", *markdown_table(table)]
        lines += ["", *(line for note in table.notes for line in (note, ""))]
    return "\n".join(lines)


def markdown_table(table: Table) -> list[str]:
    """Returns the lines of a table in Markdown, with the best figure of every column in bold."""
    lines = ["| " + " | ".join([table.heads, *(column.title for column in table.columns)]) + " |"]
    lines.append("| --- |" + " ---: |" * len(table.columns))
    for label, cells in _texts(table):
        texts = [f"**{text}**" if best else text for text, best in cells]
        lines.append("| " + " | ".join([_escape(label), *texts]) + " |")
    return lines


def csv_text(tables: Sequence[Table]) -> str:
    """Returns one line per cell: table, row, column, mean, std, n."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["table", "row", "column", "mean", "std", "n", "standard_errors"])
    for table in tables:
        for row in table.rows:
            for column in table.columns:
                if cell := row.cells.get(column.key):
                    std, errors = ("" if value is None else value for value in (cell.std, cell.standard_errors))
                    writer.writerow([table.name, row.label, column.key, cell.mean, std, cell.n, errors])
    return text.getvalue()


def json_tables(tables: Sequence[Table]) -> list[dict[str, object]]:
    """Returns the tables as JSON-serialisable values; a row holds its cells by column."""
    return [
        {
            "name": table.name,
            "title": table.title,
            "columns": [{"key": column.key, "title": column.title} for column in table.columns],
            "rows": [
                {
                    "label": row.label,
                    "cells": {
                        column.key: asdict(row.cells[column.key]) for column in table.columns if column.key in row.cells
                    },
                }
                for row in table.rows
            ],
            "notes": list(table.notes),
        }
        for table in tables
    ]


def _texts(table: Table) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Returns every row's label and cells; a cell is its text, and True if it is the best of its column."""
    best = {column.key: best_rows(table, column) for column in table.columns}
    return [
        (row.label, [(column.text(row.cells.get(column.key)), i in best[column.key]) for column in table.columns])
        for i, row in enumerate(table.rows)
    ]


def _escape(label: str) -> str:
    return label.replace("_", r"\_").replace("|", r"\|")
