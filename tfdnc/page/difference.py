"""The page of `tfdnc diff`: figures of two versions on the same users, as charts and tables."""

import math
from collections.abc import Sequence
from pathlib import Path

from serving.bundles import difference_rows
from serving.bundles.difference import Difference, Estimate
from tfdnc.page.chart import Chart, Line, Mark, draw
from tfdnc.page.template import fill, write_text

_COLORS = (0, 1)


def write_difference(found: Difference, old: str, new: str, output: Path) -> None:
    """Writes the page about two versions, named `old` and `new`.

    Raises:
        UserError: The page cannot be written.
    """
    page = fill(
        "difference.html",
        title="Two versions of a bundle",
        names=list(zip((old, new), _COLORS, strict=True)),
        found=found,
        charts_of_lists=_charts(found, (old, new)),
        groups=[*difference_rows.rows_at_cutoffs(found), difference_rows.rows_of_versions(found)],
        shares=found.cluster_shares,
        largest=max((max(pair) for pair in found.cluster_shares.values()), default=0) or 1,
    )
    write_text(page, output)


def _charts(found: Difference, names: tuple[str, str]) -> list[Chart]:
    """Returns charts over the length of the list: both recalls, their change, and what the lists have in common."""
    lengths = [float(row.cutoff) for row in found.cutoffs]
    recalls = [[row.recall[which] for row in found.cutoffs] for which in (0, 1)]
    lines = [
        line
        for color, estimates in zip(_COLORS, recalls, strict=True)
        for line in (_mean_line(lengths, estimates, color), *_errors(lengths, estimates, color))
    ]
    marks = [
        Mark(length, one.mean, color, f"{name}: {one.mean:.4f} ± {one.error:.4f} at {length:g}", "small")
        for name, color, estimates in zip(names, _COLORS, recalls, strict=True)
        for length, one in zip(lengths, estimates, strict=True)
    ]
    changes = [row.recall_change for row in found.cutoffs]
    change_marks = [
        Mark(length, one.mean, _COLORS[1], f"{one.mean:+.4f} ± {one.error:.4f} at {length:g}", "small")
        for length, one in zip(lengths, changes, strict=True)
    ]
    change_lines = [_mean_line(lengths, changes, _COLORS[1]), *_errors(lengths, changes, _COLORS[1])]
    common = [(float(row.cutoff), row.overlap) for row in found.cutoffs]
    common_marks = [Mark(*point, 2, f"{point[1]:.4f} at {point[0]:g}", "small") for point in common]
    shared = draw("Share of items in both lists", "length of the list", [Line(common, 2)], common_marks)
    if not found.targets:
        return [shared]
    return [
        draw("Recall", "length of the list", lines, marks),
        draw("Change of recall, by user", "length of the list", change_lines, change_marks, [Line([(0, 0.0)])]),
        shared,
    ]


def _mean_line(lengths: Sequence[float], estimates: Sequence[Estimate], color: int) -> Line:
    return Line([(length, one.mean) for length, one in zip(lengths, estimates, strict=True)], color)


def _errors(lengths: Sequence[float], estimates: Sequence[Estimate], color: int) -> list[Line]:
    """Returns a vertical line of one standard error to both sides of each mean that has one."""
    return [
        Line([(length, one.mean - one.error), (length, one.mean + one.error)], color)
        for length, one in zip(lengths, estimates, strict=True)
        if not math.isnan(one.error)
    ]
