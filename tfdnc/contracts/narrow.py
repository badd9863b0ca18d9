"""Makes a table of names and figures as narrow as the screen: columns go, names and figures stay whole."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_LEAST_COLUMNS = 2
_ENDLESS = 1 << 16


def drop_columns(table: Table, console: Console, width: int | None = None) -> list[str]:
    """Takes the last columns away until the others fit; returns the headers of what went, from left to right.

    Names stand in the first column. They keep half the screen for themselves, and go on in a next line only if they
    are longer. The other columns say by `no_wrap` whether they may.

    Args:
        table: is changed.
        console: that will show it.
        width: of the screen; None for that of the console.
    """
    width = width or console.width
    names = table.columns[0]
    endless = console.options.update_width(_ENDLESS)

    def room() -> int:
        return width - Measurement.get(console, endless, table).minimum

    widest = max((Measurement.get(console, endless, name).maximum for name in (*names.cells, names.header)), default=0)
    names.overflow, names.no_wrap = "fold", False
    names.width = min(widest, width // 2)  # a least width alone would not hold when rich makes columns narrow
    gone: list[str] = []
    while len(table.columns) > _LEAST_COLUMNS and room() < 0:
        gone.insert(0, str(table.columns.pop().header))
    names.width = min(widest, names.width + max(room(), 0))
    return gone
