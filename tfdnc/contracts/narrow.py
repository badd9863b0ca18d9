"""Drops columns of a table that is wider than the screen; names and figures of the others stay whole."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_LEAST_COLUMNS = 2
_ENDLESS = 1 << 16


def drop_columns(table: Table, console: Console, width: int | None = None) -> list[str]:
    """Drops the last columns until the others fit; returns their headers, from left to right.

    The first column has the names. It may use half the screen; longer names continue on the next line. The other
    columns wrap unless they have `no_wrap`.

    Args:
        table: the table to change.
        console: that will show it.
        width: of the screen; None for that of the console.
    """
    width = width or console.width
    names = table.columns[0]
    endless = console.options.update_width(_ENDLESS)

    def spare() -> int:
        """Width that is left; negative if the table is too wide."""
        return width - Measurement.get(console, endless, table).minimum

    widest = max((Measurement.get(console, endless, name).maximum for name in (*names.cells, names.header)), default=0)
    names.overflow, names.no_wrap = "fold", False
    names.width = min(widest, width // 2)  # fixed, because rich ignores a least width when it makes columns narrow
    dropped: list[str] = []
    while len(table.columns) > _LEAST_COLUMNS and spare() < 0:
        dropped.insert(0, str(table.columns.pop().header))
    names.width = min(widest, names.width + max(spare(), 0))
    return dropped
