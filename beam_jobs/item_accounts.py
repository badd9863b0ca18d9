"""Accounts of an item file: its rows, the items of the log that it describes, warnings and refusals."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from beam_jobs.row_accounts import refuse_too_many_malformed
from tfdnc.contracts.data_config import DataConfig

_log = logging.getLogger(__name__)

MALFORMED = "malformed item rows: "
VALUES = "items of the log with "
ITEMS, ROWS, DESCRIBED = "items of the log", "item rows", "items of the log described"
REPEATED, OTHERS, ADDED = "item rows repeated", "item rows of other items", "items of the item file alone"
"""Names, and prefixes of names, of the counts of an item file."""

DEAD_LETTERS = "item file"
"""Name, without the suffix, of the file of dead letters."""


@dataclass
class ItemAccounts:
    """Counts of the rows of an item file, and its malformed rows.

    Attributes:
        counts: counts by the names above.
        malformed: (offset, text, reason) of the malformed rows, in file order.
    """

    counts: Counter[str] = field(default_factory=Counter)
    malformed: list[tuple[int, bytes, str]] = field(default_factory=list)

    def set_aside(self, offset: int, text: bytes, reason: str) -> None:
        """Counts a malformed row and keeps it."""
        self.counts[MALFORMED + reason] += 1
        self.malformed.append((offset, text, reason))


def item_figures(result: dict[str, Any], file: str) -> dict[str, Any]:
    """Returns the figures of an item file from the counts of a job.

    Returns:
        - `file`: name of the file.
        - `rows`: rows of the file, = malformed + repeated + of_other_items + described + added.
        - `malformed`: malformed rows by reason.
        - `repeated`: rows of an item that an earlier row describes.
        - `of_other_items`: rows of items that the log does not have.
        - `items`: items of the log.
        - `described`: items of the log that the file describes.
        - `added`: items that only the file has, with `data.catalogue: items`.
        - `with`: by column, the items of the log that have a value in it.
    """

    def by_name(prefix: str) -> dict[str, int]:
        return {name.removeprefix(prefix): n for name, n in result.items() if name.startswith(prefix)}

    names = {"rows": ROWS, "repeated": REPEATED, "of_other_items": OTHERS, "items": ITEMS, "described": DESCRIBED}
    counts = {key: result.get(name, 0) for key, name in (names | {"added": ADDED}).items()}
    return {"file": file, **counts, "malformed": by_name(MALFORMED), "with": by_name(VALUES)}


def headline(figures: dict[str, Any]) -> str:
    """Returns a short line on the items that the item file describes."""
    rows, taken = figures["rows"], figures["described"] + figures["added"]
    line = f"{figures['items']:,} items, {figures['described']:,} described"
    line += f" and {figures['added']:,} more" if figures["added"] else ""
    return f"{line}; {rows - taken:,} rows of the item file left out" if rows > taken else line


def refuse_malformed_items(figures: dict[str, Any], config: DataConfig, dead_letters: list[str]) -> None:
    """Raises a `UserError` if too many rows of the item file are malformed.

    Args:
        figures: result of `item_figures`.
        config: holds the allowed share.
        dead_letters: the first malformed rows, as JSON lines.
    """
    counted = figures["file"], figures["malformed"], figures["rows"]
    advice = "Mend the item file, check data.items"
    refuse_too_many_malformed(*counted, config, advice, "data.items.quotes", dead_letters)


def warn_of_gaps(figures: dict[str, Any]) -> None:
    """Logs a warning for every kind of gap in the item file: items, values or rows that do not count."""
    file, items, described = figures["file"], figures["items"], figures["described"]
    if described < items:
        _log.warning(
            "Only %d of the %d items of the log are described in %s: the others have no title, category or feature. "
            "If that is not meant, compare the ids of both, and see whether data.items.path is the file of this log.",
            *(described, items, file),
        )
    if figures["repeated"]:
        _log.warning(
            "%d rows of %s repeat an item: the first row of each item counts. Several values of an item stand in one "
            "field, with data.items.separator between them.",
            *(figures["repeated"], file),
        )
    blank = [name for name, count in figures["with"].items() if not count]
    if blank and described:
        _log.warning("No item of the log has a value in %s of %s.", ", ".join(blank), file)
    if malformed := sum(figures["malformed"].values()):
        _log.warning("%d rows of %s are malformed; they stand among the dead letters.", malformed, file)
