"""A picture of one user's list at several alphas: a column for each, an item coloured by its cluster."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from tfdnc.contracts.errors import UserError
from tfdnc.explore.subject import Shown, Subject
from tfdnc.page.chart import COLORS
from tfdnc.page.template import fill
from tfdnc.page.user_lists import ARGUMENTS

WIDTH, MARGIN, GAP = 800, 16, 14
"""Width of the picture, of its border, and between columns, in units of the SVG."""

TOP, ROW, LEGEND_ROW = 104, 34, 24
"""Height of the headings, of an item, and of a line of the legend."""

MOST_ALPHAS = 8
"""Most columns, so that titles have room."""

_EM = {"text": 16, "small": 13}
"""Sizes of fonts, by class of the template."""

_WIDE, _MIDDLE, _NARROW = 0.95, 0.6, 0.34
"""Widths of letters in ems, those of a wide font (DejaVu Sans)."""


@dataclass(frozen=True)
class Entry:
    """An item as the template draws it: its title in the width of a column, its cluster's colour, and its row."""

    title: str
    color: int
    y: int
    held_out: bool


@dataclass(frozen=True)
class Column:
    """A list: its left edge, its alpha, the number of its clusters, and its items."""

    x: float
    alpha: float
    clusters: int
    entries: list[Entry]


def draw_lists(subject: Subject, user_id: str, alphas: Sequence[float], merge: str = "quota", length: int = 10) -> str:
    """Returns an SVG of a user's list at some alphas; it has both a light and a dark form, and loads nothing.

    Args:
        subject: The run, whose bundle is asked.
        user_id: A user of the log.
        alphas: One column each, at most `MOST_ALPHAS`.
        merge: `quota` or `joint`.
        length: Items of a list.

    Raises:
        UserError: The run has no such user, or there are too many alphas.
    """
    user = subject.user(user_id)
    if not 1 <= len(alphas) <= MOST_ALPHAS:
        raise UserError(f"Expected 1 to {MOST_ALPHAS} alphas, a column for each, got {len(alphas)}.")
    answers = [subject.retrieve(user.history, user.known, length, {ARGUMENTS[merge]: alpha}) for alpha in alphas]
    lists = [[subject.show(item_id) for item_id in answer.item_ids] for answer in answers]
    width = (WIDTH - 2 * MARGIN - GAP * (len(alphas) - 1)) / len(alphas)
    columns = [
        _column(MARGIN + place * (width + GAP), width, alpha, items, user.held_out)
        for place, (alpha, items) in enumerate(zip(alphas, lists, strict=True))
    ]
    bottom = TOP + ROW * max(map(len, lists))
    legend = _legend(subject, lists, bottom + 22)
    return fill(
        "list_picture.svg",
        title=f"Lists of {length} for user {user.name} of {subject.run.name}, by {merge}",
        next_title="" if user.held_out is None else subject.show(user.held_out)["title"],
        columns=columns,
        column_width=round(width, 1),
        row=ROW,
        legend=legend,
        fonts=_EM,
        width=WIDTH,
        height=max([bottom, *(y for _, y, _, _ in legend)]) + 18,
        margin=MARGIN,
    )


def _column(x: float, width: float, alpha: float, items: Sequence[Shown], held_out: str | None) -> Column:
    entries = [
        Entry(
            fit(item["title"], (width - 22) / _EM["text"]),
            item["cluster"] % COLORS,
            TOP + ROW * row,
            item["id"] == held_out,
        )
        for row, item in enumerate(items)
    ]
    return Column(round(x, 1), alpha, len({item["cluster"] for item in items}), entries)


def _legend(subject: Subject, lists: Sequence[Sequence[Shown]], top: int) -> list[tuple[int, int, int, str]]:
    """Returns x, y, colour and name of every cluster with an item in a list, in two columns."""
    clusters = sorted({item["cluster"] for items in lists for item in items})
    half, width = (len(clusters) + 1) // 2, (WIDTH - 2 * MARGIN) // 2
    return [
        (
            MARGIN + width * (place // half),
            top + LEGEND_ROW * (place % half),
            cluster % COLORS,
            fit(subject.items.cluster_names[cluster], (width - 30) / _EM["small"]),
        )
        for place, cluster in enumerate(clusters)
    ]


def fit(text: str, ems: float) -> str:
    """Returns a text, cut to about a width in ems; an ellipsis shows that it was cut."""
    widths = [_letter(letter) for letter in text]
    if sum(widths) <= ems:
        return text
    while widths and sum(widths) + _WIDE > ems:
        widths.pop()
    return text[: len(widths)].rstrip(" .") + "…"


def _letter(letter: str) -> float:
    if unicodedata.combining(letter):
        return 0.0
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.0
    return _WIDE if letter in "mwMW@%" else _NARROW if letter in "iljtfrI.,:;'!|()[] " else _MIDDLE
