"""Renders the tables and plots of README.md and docs/results.md from the files of docs/results.

    python -m developer_benchmarks.render_results            # writes the documents anew; `--check` only compares

A table stands in a document between `<!-- table: NAME -->` and `<!-- end of table -->`. `docs/results/tables.yaml` says
for each name from where its rows come. They come from a folder of cells that `tfdnc compare` wrote, or from a file that
was transcribed from a document, because no cells of these runs exist. `render_plots` draws the plots.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from developer_benchmarks.render_plots import stale_plots
from tfdnc.comparison.cells import Cell, marked, read_cells
from tfdnc.comparison.method_tables import default_baseline, method_tables
from tfdnc.comparison.render import markdown_table
from tfdnc.comparison.study import split_line
from tfdnc.comparison.summary_table import Summary, Table
from tfdnc.contracts.errors import UserError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "results.md")

_TABLE = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)


def render(text: str, results: Path = RESULTS) -> str:
    """Returns the text of a document with all its tables rendered from the files in `results`.

    Raises:
        UserError: a table is not in tables.yaml, or its file is missing or has no such row or column.
    """
    views = yaml.safe_load((results / "tables.yaml").read_text(encoding="utf-8"))

    def rendered(match: re.Match[str]) -> str:
        name = match[2]
        if name not in views:
            raise UserError(f"Expected {name!r} in {results / 'tables.yaml'}, found only {', '.join(views)}: add it.")
        return f"{match[1]}\n{table_of(views[name], results)}\n\n{match[4]}"

    return _TABLE.sub(rendered, text)


def table_of(view: Mapping[str, Any], results: Path) -> str:
    """Returns one table as Markdown, with a line below it that tells where its figures come from."""
    source = results / view["from"]
    commands, lines = measured(source, view["table"]) if source.is_dir() else transcribed(source, view)
    shown = [*(f"    {command}" for command in commands), ""] if view.get("commands") else []
    return "\n".join([*shown, *lines])


def measured(folder: Path, name: str) -> tuple[list[str], list[str]]:
    """Returns the commands of the cells of a folder, and the lines of a table of `method_tables` from them.

    Cells of one label that differ in config or commit are no repetitions of each other: all but the latest make rows of
    their own, marked with their commit. So do earlier cells of the same seed.
    """
    cells = marked(read_cells(folder))
    tables = cell_tables(cells)
    if name not in tables:
        raise UserError(f"Expected the table {name!r} of the cells in {folder}, found {', '.join(tables) or 'none'}.")
    return commands_of(cells), [*markdown_table(tables[name]), "", provenance(cells, folder.name)]


def cell_tables(cells: Sequence[Cell]) -> dict[str, Table]:
    """Returns the tables of cells by name."""
    labels = list(dict.fromkeys(cell.label for cell in cells))
    return {table.name: table for table in method_tables(cells, labels, default_baseline(labels))}


def commands_of(cells: Sequence[Cell]) -> list[str]:
    """Returns the commands that wrote the cells."""
    return list(dict.fromkeys(cell.command for cell in cells))


def provenance(cells: Sequence[Cell], folder: str) -> str:
    """Returns a line that tells commit, date, machine and split of the cells in a folder."""
    commits = ", ".join(f"`{commit}`" for commit in dict.fromkeys(cell.commit for cell in cells))
    dates = " and ".join(dict.fromkeys([min(cell.date for cell in cells)[:10], max(cell.date for cell in cells)[:10]]))
    machines = "; ".join(dict.fromkeys(one["machine"] for cell in cells for one in cell.made.values()))
    found = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
    where = f"{found} in `docs/results/{folder}`"
    return f"{where}, commit {commits}, {dates}, {machines}, split {split_line(cells)}."


def transcribed(file: Path, view: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Returns the commands of a transcribed table, and its lines.

    A view may name rows (key: label to show) and columns to show. `above` names rows of the lists of a folder of cells,
    which stand above them. A row that stands `apart` does not compare with the others, and is never the best.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    shown = view.get("rows") or {row["label"]: row["label"] for row in content["rows"]}
    rows = {row["label"]: row["cells"] for row in content["rows"]}
    columns = {column["key"]: column for column in content["columns"]}
    keys = view.get("columns") or list(columns)
    if absent := [key for key in [*shown, *keys] if key not in rows and key not in columns]:
        raise UserError(f"Expected rows and columns of {file}, got {', '.join(absent)}: tables.yaml names them.")
    chosen = [columns[key] for key in keys]
    compared = [row["cells"] for row in content["rows"] if not row.get("apart")]
    bests = {column["key"]: _best(column, compared) for column in chosen if not view.get("rows")}
    lines = [
        f"| {content['heads']} | {' | '.join(column['title'] for column in chosen)} |",
        f"| --- |{' ---: |' * len(chosen)}",
    ]
    dates = ", ".join(content["dates"])
    notes = [f"Measured on {dates}; {content['source']}, no cells of these runs exist."]
    commands = content["commands"]
    if above := view.get("above"):
        own_commands, own_lines, note = _rows_above(file.parents[1] / above["from"], above["rows"], chosen)
        commands, lines = own_commands + commands, lines + own_lines
        notes = [f"First {len(own_lines)} rows: {note}", f"Others: {notes[0][0].lower()}{notes[0][1:]}"]
    for label, title in shown.items():
        texts = [_text(rows[label].get(column["key"]), column, bests.get(column["key"])) for column in chosen]
        lines.append(_line(title, texts))
    return commands, [*lines, "", *notes]


def _rows_above(
    folder: Path, titles: Mapping[str, str], columns: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[str], str]:
    """Returns commands, lines and provenance of some rows of the lists of a folder of cells."""
    cells = marked(read_cells(folder))
    figures = {row.label: row.cells for row in cell_tables(cells)["lists"].rows}
    if absent := [label for label in titles if label not in figures]:
        raise UserError(f"Expected rows of the cells in {folder}, got {', '.join(absent)}: tables.yaml names them.")
    lines = [
        _line(title, [_text(_summary(figures[label].get(column["key"])), column, None) for column in columns])
        for label, title in titles.items()
    ]
    return commands_of(cells), lines, provenance(cells, folder.name)


def _line(title: str, texts: Sequence[str]) -> str:
    return f"| {title} | {' | '.join(texts)} |"


def _summary(cell: Summary | None) -> Any:
    """Returns a cell of a comparison in the form of a transcribed one."""
    if cell is None or cell.std is None:
        return cell and cell.mean
    return {"mean": cell.mean, "std": cell.std}


def _best(column: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the best mean of a column, None where it has no direction or no second figure."""
    means = [_mean(cells[column["key"]]) for cells in rows if column["key"] in cells]
    figures = [mean for mean in means if mean is not None]
    if "better" not in column or len(figures) < 2:
        return None
    return (max if column["better"] == "higher" else min)(figures)


def _mean(cell: Any) -> float | None:
    """Returns the figure of a cell: a number, or the mean of a mean with its deviation; None of a text."""
    if isinstance(cell, str):
        return None
    return cell["mean"] if isinstance(cell, dict) else cell


def _text(cell: Any, column: Mapping[str, Any], best: float | None) -> str:
    mean, digits = _mean(cell), column["digits"]
    if mean is None:
        return cell or ""
    deviation = f" ± {cell['std']:.{digits}f}" if isinstance(cell, dict) else ""
    text = f"{mean:,.{digits}f}{deviation}"
    return f"**{text}**" if mean == best else text


def main() -> int:
    """Renders both documents, or with `--check` says which of them are out of date; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a table or a plot is out of date")
    check = parser.parse_args().check
    stale = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        if (fresh := render(text)) != text:
            stale.append(document)
            if not check:
                document.write_text(fresh, encoding="utf-8")
    stale += stale_plots(RESULTS, write=not check)
    for document in stale:
        print(f"{document.relative_to(ROOT)}: {'out of date' if check else 'rendered'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
