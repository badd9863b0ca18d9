"""Tables of summaries over seeds, as values; `render` prints them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Summary:
    """One figure over several seeds.

    Attributes:
        mean: mean over the seeds.
        std: sample standard deviation (n - 1 in the denominator); None for fewer than two seeds.
        n: number of seeds; 0 for a figure that is quoted or derived.
        standard_errors: size of a change in units of its standard error over users; None where it is unknown.
    """

    mean: float
    std: float | None = None
    n: int = 0
    standard_errors: float | None = None


def summarise(values: Iterable[float | None]) -> Summary | None:
    """Returns the summary of the values that are not None; None without any."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    n = len(present)
    mean = math.fsum(present) / n
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in present) / (n - 1)) if n > 1 else None
    return Summary(mean, std, n)


@dataclass(frozen=True)
class Column:
    """A column of figures.

    Attributes:
        key: key of its cells in `Row.cells`.
        title: title above it.
        better: direction of improvement; None for a figure that is neither good nor bad.
        shows: format: figures with their deviation, quoted figures, relative changes, or whole numbers.
    """

    key: str
    title: str
    better: Literal["higher", "lower"] | None = None
    shows: Literal["figure", "quote", "relative", "round"] = "figure"

    def text(self, cell: Summary | None) -> str:
        """Returns the text of a cell of this column; empty for None."""
        if cell is None:
            return ""
        if self.shows == "quote":
            return f"{cell.mean:.3f}"
        if self.shows == "relative":
            errors = cell.standard_errors
            return f"{cell.mean:+.1%}" + ("" if errors is None else f" ({errors:+.1f} s.e.)")
        if self.shows == "round":
            return f"{cell.mean:,.0f}"
        return f"{cell.mean:.4f}" + ("" if cell.std is None else f" ± {cell.std:.4f}")


@dataclass(frozen=True)
class Row:
    """A row: its label, and its cells by column key."""

    label: str
    cells: Mapping[str, Summary]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: name for programs.
        title: title for readers.
        columns: the columns, without that of the labels.
        rows: the rows.
        notes: remarks below the table.
        heads: title above the labels of the rows.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    heads: str = "method"


def best_rows(table: Table, column: Column) -> set[int]:
    """Returns the indexes of the rows that are best in a column; none where fewer than two rows have a figure."""
    means = {
        index: round(row.cells[column.key].mean, 4)  # figures that are printed alike count as equal
        for index, row in enumerate(table.rows)
        if column.key in row.cells
    }
    if column.better is None or len(means) < 2:
        return set()
    best = (max if column.better == "higher" else min)(means.values())
    return {index for index, mean in means.items() if mean == best}


def relative_to(rows: Sequence[Row], baseline: str, columns: Sequence[Column]) -> list[Row]:
    """Returns (mean - mean of the baseline) / mean of the baseline for every other row and the given columns.

    Cells are left out where either side has none, or the baseline is 0. Empty if there is no row called `baseline`.
    """
    base = next((row.cells for row in rows if row.label == baseline), None)
    if base is None:
        return []
    return [
        Row(
            row.label,
            {
                column.key: Summary(row.cells[column.key].mean / base[column.key].mean - 1)
                for column in columns
                if column.key in row.cells and column.key in base and base[column.key].mean
            },
        )
        for row in rows
        if row.label != baseline
    ]


def sizes_of(rows: Iterable[Row], figure: str) -> list[int]:
    """Returns the list sizes M for which any row has a cell `figure@M`, ascending."""
    return sorted({int(key.rpartition("@")[2]) for row in rows for key in row.cells if key.startswith(f"{figure}@")})


def used(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """Returns the columns in which any row has a cell."""
    return [column for column in columns if any(column.key in row.cells for row in rows)]
