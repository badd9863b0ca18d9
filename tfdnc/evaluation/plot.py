"""Picture of the alpha curve: recall and spread over clusters against the sharpness of the quotas."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfdnc.evaluation.metrics import sizes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOT = "alpha_curve.png"
DPI = 120


def plot_alpha_curve(report: dict[str, Any], output: Path) -> None:
    """Writes `alpha_curve.png`, and nothing without a curve, as for K = 1, where alpha has no effect."""
    if report["alpha_curve"]:
        alpha_curve_figure(report).savefig(output / PLOT, dpi=DPI)


def alpha_curve_figure(report: Mapping[str, Any]) -> "Figure":
    """Draws recall and cluster entropy of quota(alpha), and of joint(alpha) or the configured merge as a level.

    Args:
        report: `alpha_curve`, which is not empty, `joint_curve`, `merge` and `merge_method` of a report.
    """
    from matplotlib.figure import Figure  # not of pyplot, which would keep it, and would look for a display

    curve = report["alpha_curve"]
    alphas = [point["alpha"] for point in curve]
    sizes = sizes_of(report["merge"])
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, name, title in zip(
        axes, ("recall", "entropy"), ("Recall@M", "Cluster entropy of the M [nats]"), strict=True
    ):
        for color, m in enumerate(sizes):
            style = {"color": f"C{color}", "label": f"M = {m}"}
            axis.plot(alphas, [point[f"{name}@{m}"] for point in curve], marker="o", markersize=3, **style)
            if joint := [(point["alpha"], point[f"{name}@{m}"]) for point in report["joint_curve"]]:
                axis.plot(*zip(*joint, strict=True), color=style["color"], linestyle="--", marker="o", markersize=3)
            else:
                axis.axhline(report["merge"][f"{name}@{m}"], color=style["color"], linestyle="--", linewidth=1)
        axis.set(xlabel="alpha", title=title)
        axis.margins(x=0)
        axis.grid(alpha=0.3)
    dashed = f"{report['merge_method']}{'(alpha)' if report['joint_curve'] else ''}"
    axes[1].legend(title=f"solid: quota(alpha)\ndashed: {dashed}", fontsize=8, title_fontsize=8)
    return figure
