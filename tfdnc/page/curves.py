"""Charts of the page: recall against alpha and against spread, training, and calibration of the intent model."""

from collections.abc import Sequence
from typing import Any

from tfdnc.contracts.station_names import StationName
from tfdnc.evaluation.metrics import sizes_of
from tfdnc.page.chart import Bar, Chart, Line, Mark, draw
from tfdnc.page.result_tables import summaries
from tfdnc.page.runs import Group, Run

SPREADS = {
    "coverage": "Share of the clusters in the list",
    "entropy": "Entropy of the list's clusters, nats",
    "ild": "Mean distance of two items of the list",
    "gini": "Gini coefficient of how often items are shown",
    "item_coverage": "Share of the items shown to any user",
}
_OF_CLUSTERS = ("coverage", "entropy")
_CURVES = {
    "alpha_curve": ("alpha", "alpha", ""),
    "joint_curve": ("alpha", "joint, alpha", "dotted"),
    "floor_curve": ("floor", "floor", "dashed"),
}
"""Name of a curve in the report -> key of its parameter, title of the parameter, style of its line."""

_UNITS = {"epoch": "epoch", "minutes": "CPU minutes"}


def alpha_charts(groups: Sequence[Group]) -> list[Chart]:
    """Returns charts of Recall@M against alpha, by quota and by joint, one per M; a run's own merge is a level."""
    names = ("alpha_curve", "joint_curve")
    curves = {group.name: {name: mean_curve(group, name) for name in names} for group in groups}
    if not any(of_group["alpha_curve"] for of_group in curves.values()):
        return []
    charts = []
    for m in sorted(sizes_of(groups[0].first.report["merge"])):
        name, lines, marks, levels = f"recall@{m}", [], [], []
        for group in groups:
            for curve, figures in curves[group.name].items():
                key, parameter, style = _CURVES[curve]
                points = [(point[key], point[name]) for point in figures if name in point]
                lines += [Line(points, group.color, style)] if points else []
                marks += [
                    Mark(alpha, recall, group.color, f"{group.name}: {recall:.4f} at {parameter} {alpha:g}", "small")
                    for alpha, recall in points
                ]
            merged = _merge(group).get(name)
            levels += [Line([(0, merged)], group.color, "dashed")] if merged is not None else []
        charts.append(draw(f"Recall@{m}", "alpha", lines, marks, levels))
    return charts


def spread_charts(groups: Sequence[Group]) -> list[Chart]:
    """Returns charts of Recall@M against every measure of spread in the reports: the cost of broader lists."""
    sizes = sorted(sizes_of(groups[0].first.report["merge"]))
    # Labels of several groups would overlap, so only one group has them.
    labelled = next((group for group in groups if group.first.report["alpha_curve"]), None)
    m = 50 if 50 in sizes else sizes[-1]
    charts = []
    for measure, label in SPREADS.items():
        lines, marks = [], []
        for group in groups:
            if not has_spread(group, measure):
                continue
            line, found = _spread_path(group, f"{measure}@{m}", f"recall@{m}", group is labelled)
            lines += line
            marks += found
        if marks:
            charts.append(draw(f"Recall@{m}", f"{label} ({m} items)", lines, marks))
    return charts


def has_spread(group: Group, measure: str) -> bool:
    """Returns False for a measure that a group lacks, or that is constant because its lists have one cluster."""
    report = group.first.report
    known = any(name.startswith(f"{measure}@") for name in report["merge"])
    return known and (measure not in _OF_CLUSTERS or bool(group.first.judges))


def training_charts(groups: Sequence[Group]) -> list[Chart]:
    """Returns charts of losses and validation figures, against epochs and, if the history has them, CPU minutes."""
    runs = [(group, run) for group in groups for run in group.runs if run.history]
    charts = []
    for unit in ("epoch", "minutes"):
        for loss in sorted({str(run.settings.get("train.loss")) for _, run in runs}):
            same = [(group, run) for group, run in runs if str(run.settings.get("train.loss")) == loss]
            charts.append(_training_chart(f"Training loss ({loss})", "retrieval_loss", unit, same))
        charts.append(_training_chart("Training loss of the intent model", "intent_loss", unit, runs))
        for name in _validation_names(runs):
            charts.append(_training_chart(_validation_title(name), name, unit, runs))
    return [chart for chart in charts if chart]


def calibration_charts(groups: Sequence[Group]) -> list[Chart]:
    """Returns reliability diagrams: accuracy of the likeliest cluster against its predicted probability."""
    charts = []
    for group in groups:
        calibration = group.first.report.get("calibration") or {}
        bins = [entry for entry in calibration.get("bins", []) if entry["count"]]
        if not bins or group.first.num_clusters == 1:
            continue
        width, most = 1 / max(1, len(calibration["bins"])), max(entry["count"] for entry in bins)
        marks, bars = [], []
        for entry in bins:
            confidence, accuracy, count = entry["confidence"], entry["accuracy"], entry["count"]
            title = f"{count:,} users: said {confidence:.3f}, was {accuracy:.3f}"
            marks.append(Mark(confidence, accuracy, group.color, title))
            left = min(int(confidence / width), len(calibration["bins"]) - 1) * width
            bars.append(Bar(left, left + width, 0.35 * count / most, title))
        lines = [Line([(0, 0), (1, 1)], style="dashed"), Line([(mark.x, mark.y) for mark in marks], group.color)]
        ece = f", ECE {calibration['ece']:.4f}" if "ece" in calibration else ""
        title = f"{group.first.label}: share that was right{ece}"
        charts.append(draw(title, "confidence", lines, marks, bars=bars, limits=((0, 1), (0, 1))))
    return charts


def mean_curve(group: Group, curve: str) -> list[dict[str, float]]:
    """Returns a curve of a group's reports: the points that all seeds have, averaged over the seeds."""
    key, _, _ = _CURVES[curve]
    # Reports of earlier versions have fewer curves.
    curves = [{point[key]: point for point in run.report.get(curve, [])} for run in group.runs]
    shared = [value for value in curves[0] if all(value in curve for curve in curves)]
    return [_means([curve[value] for curve in curves]) for value in sorted(shared)]


def _means(figures: Sequence[dict[str, float | None]]) -> dict[str, float]:
    return {name: summary.mean for name, summary in summaries(figures).items()}


def _merge(group: Group) -> dict[str, float]:
    return _means([run.report["merge"] for run in group.runs])


def _spread_path(group: Group, x_name: str, y_name: str, labelled: bool) -> tuple[list[Line], list[Mark]]:
    """Returns the curves as lines with small marks; the configured merge and the tuned quotas as large marks."""

    def complete(figures: dict[str, float]) -> bool:
        return x_name in figures and y_name in figures

    lines, marks = [], []
    for curve, (key, parameter, style) in _CURVES.items():
        points = [point for point in mean_curve(group, curve) if complete(point)]
        lines += [Line([(point[x_name], point[y_name]) for point in points], group.color, style)] if points else []
        for point in points:
            title = f"{group.name}, {parameter} {point[key]:g}: {point[y_name]:.4f} at {point[x_name]:.3f}"
            named = labelled and curve == "alpha_curve" and _is_round(point[key])
            text = f"{point[key]:g}" if named else ""
            marks.append(Mark(point[x_name], point[y_name], group.color, title, "small", text))
    tuned = [run.report["tuned"]["figures"] for run in group.runs if run.report.get("tuned")]
    others = {f"{group.first.report['merge_method']} merge": (_merge(group), "diamond" if lines else "dot")}
    if tuned:
        others["quota, tuned"] = (_means(tuned), "dot")
    for merge, (figures, shape) in others.items():
        if complete(figures):
            title = f"{group.name}, {merge}: {figures[y_name]:.4f} at {figures[x_name]:.3f}"
            marks.append(Mark(figures[x_name], figures[y_name], group.color, title, shape))
    return lines, marks


def _is_round(alpha: float) -> bool:
    return alpha == 0.5 or alpha == int(alpha)


def _validation_names(runs: Sequence[tuple[Group, Run]]) -> list[str]:
    """Returns the recall of the middle list size, the NDCG of the longest, and the intent model's likelihood."""
    names = {name for _, run in runs for entry in run.history for name in entry if name.startswith("val_")}
    found = []
    for prefix in ("val_recall@", "val_ndcg@"):
        sizes = sorted(int(name.removeprefix(prefix)) for name in names if name.startswith(prefix))
        wanted = sizes[-1] if prefix == "val_ndcg@" else 50 if 50 in sizes else sizes[len(sizes) // 2]
        found += [f"{prefix}{wanted}"] if sizes else []
    return [*found, "val_intent_nll"]


def _validation_title(name: str) -> str:
    if name == "val_intent_nll":
        return "Validation NLL of the intent model, nats"
    return "Validation " + name.removeprefix("val_").replace("recall", "Recall").replace("ndcg", "NDCG")


def _training_chart(title: str, name: str, unit: str, runs: Sequence[tuple[Group, Run]]) -> Chart | None:
    """Returns the chart of one figure during every training that has it; a mark shows the best epoch."""
    lines, marks = [], []
    for group, run in runs:
        positions = _axis(run.history, unit)
        points: dict[int, tuple[float, float]] = {
            entry["epoch"]: (positions[entry["epoch"]], entry[name])
            for entry in run.history
            if name in entry and positions.get(entry["epoch"])
        }
        if not any(value for _, value in points.values()):  # no entries, or the intent loss of one cluster
            continue
        lines.append(Line(list(points.values()), group.color))
        best = run.figures(StationName.TRAIN).get("best_epoch")
        if name.startswith("val_") and best in points:
            x, y = points[best]
            marks.append(Mark(x, y, group.color, f"{run.label}, best epoch {best}: {y:.4f}"))
    return draw(title, _UNITS[unit], lines, marks) if lines else None


def _axis(history: list[dict[str, Any]], unit: str) -> dict[int, float]:
    """Returns the position of every epoch on the horizontal axis; none where the history lacks CPU seconds."""
    if unit == "epoch":
        return {entry["epoch"]: entry["epoch"] for entry in history}
    if not all("cpu_seconds" in entry for entry in history):
        return {}
    minutes, total = {}, 0.0
    for entry in history:
        total += entry["cpu_seconds"]
        minutes[entry["epoch"]] = total / 60
    return minutes
