"""Plots of the documents, drawn from cells of `tfdnc compare`; `render_results` calls it.

`docs/results/plots.yaml` says for each file what it shows. The file holds a digest of all that it shows, in a text of
PNG. So a plot that does not show what the cells say is found without drawing it again.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tfdnc.comparison.cells import Cell, present_cells, read_cells
from tfdnc.contracts.errors import UserError
from tfdnc.evaluation.plot import DPI, alpha_curve_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTS = "plots.yaml"
_TEXT = "tfdnc-shows"  # name of the digest among the texts of the PNG
_DIGITS = 6  # digits of a figure after the point, so that sums in another order are the same plot
_CURVES = ("alpha_curve", "joint_curve")

Shown = dict[str, Any]
"""All that a plot shows, as JSON."""


def stale_plots(results: Path, write: bool) -> list[Path]:
    """Returns the plots that do not show what the cells say, or are missing; draws them anew if asked to.

    Args:
        results: folder with the plots' description and the cells; the plots are in the folder above it.
        write: whether to draw them.

    Raises:
        UserError: a described plot has no cells, or these lack what it shows.
    """
    stale = []
    for name, view in (yaml.safe_load((results / PLOTS).read_text(encoding="utf-8")) or {}).items():
        path, shown = results.parent / name, shown_of(view, results)
        digest = hashlib.sha256(json.dumps([view["draw"], shown], sort_keys=True).encode()).hexdigest()
        if not path.exists() or digest_in(path) != digest:
            stale.append(path)
            if write:
                _DRAW[view["draw"]](shown).savefig(path, dpi=DPI, metadata={_TEXT: digest})
    return stale


def digest_in(path: Path) -> str | None:
    """Returns the digest of what a plot shows; None for a PNG of another source."""
    from PIL import Image

    with Image.open(path) as image:
        return image.info.get(_TEXT)


def shown_of(view: Mapping[str, Any], results: Path) -> Shown:
    """Returns all that a plot shows; raises as `stale_plots`."""
    cells = defaultdict(list)
    for cell in present_cells(read_cells(results / view["from"])):
        cells[cell.label].append(cell)
    if absent := [label for label in view["labels"] if label not in cells]:
        raise UserError(f"Expected cells of {', '.join(absent)} in {results / view['from']}: {PLOTS} names them.")
    return _SHOWN[view["draw"]](view, {title: cells[label] for label, title in view["labels"].items()})


def alpha_curve(view: Mapping[str, Any], cells: Mapping[str, Sequence[Cell]]) -> Shown:
    """Returns the means over seeds of the curves of the one method that the view names."""
    del view
    [own] = cells.values()
    reports = [cell.report for cell in own]
    if not all(report["alpha_curve"] for report in reports):
        raise UserError(f"Expected a method with clusters for a curve of alpha, got {own[0].label}.")
    curves = {name: [_means(points) for points in zip(*(r[name] for r in reports), strict=True)] for name in _CURVES}
    return {**curves, "merge": _means([r["merge"] for r in reports]), "merge_method": reports[0]["merge_method"]}


def recall_by_cpu(view: Mapping[str, Any], cells: Mapping[str, Sequence[Cell]]) -> Shown:
    """Returns for each method the means over seeds of CPU seconds and of a validation figure after its epochs.

    An epoch counts if every seed has validated after it.
    """
    name = f"val_{view['figure']}"
    curves = {}
    for title, own in cells.items():
        if without := [cell.path.name for cell in own if not cell.epochs]:
            raise UserError(
                f"Expected epochs in {', '.join(without)}, found none: an earlier version wrote the cell. Run its "
                "command again while its run is still there."
            )
        by_epoch = defaultdict(list)
        for cell in own:
            for epoch in cell.epochs:
                by_epoch[epoch["epoch"]].append({key: epoch[key] for key in ("cpu_seconds", name)})
        whole = [_means(points) for _, points in sorted(by_epoch.items()) if len(points) == len(own)]
        curves[title] = [[point["cpu_seconds"], point[name]] for point in whole]
    return {"figure": view["figure"], "curves": curves}


def _means(points: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the mean of every figure that all points have."""
    common = [key for key in points[0] if all(key in point for point in points)]
    return {key: round(math.fsum(point[key] for point in points) / len(points), _DIGITS) for key in common}


def _recall_by_cpu_figure(shown: Shown) -> "Figure":
    """Draws one line per method, a point per validated epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axis = figure.subplots()
    for title, points in shown["curves"].items():
        axis.plot(*zip(*points, strict=True), marker="o", markersize=4, label=title)
    axis.set(xlabel="CPU seconds of training", ylabel=f"validation {shown['figure'].replace('recall', 'Recall')}")
    axis.set_xlim(left=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


_SHOWN: dict[str, Callable[[Mapping[str, Any], Mapping[str, Sequence[Cell]]], Shown]] = {
    "alpha_curve": alpha_curve,
    "recall_by_cpu": recall_by_cpu,
}
_DRAW: dict[str, Callable[[Shown], "Figure"]] = {
    "alpha_curve": alpha_curve_figure,
    "recall_by_cpu": _recall_by_cpu_figure,
}
