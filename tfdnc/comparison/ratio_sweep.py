"""The sweep of Figure 1(a): recall against `examples.ratio`, the share of in-cluster negatives.

Within-cluster recall ranks the target among the items of its own cluster; negatives drawn there are hard.
Out-of-cluster recall ranks it among the items of all other clusters; negatives drawn there are easy. The paper shows
that no share of in-cluster negatives is best for both.
"""

from collections.abc import Sequence
from pathlib import Path

from tfdnc.comparison.grid import Variant
from tfdnc.comparison.results import Result
from tfdnc.comparison.summary_table import Column, Row, Summary, Table, summarise, used
from tfdnc.contracts.config import load_config
from tfdnc.contracts.errors import UserError

PLOT = "negatives.png"
SAMPLER = "mixed"

_CURVES = {
    "merge": "whole list",
    "within_cluster": "within the cluster",
    "out_of_cluster": "out of the cluster",
}
"""Key of the report -> title of its recall."""


def ratio_variants(config: Path, overrides: Sequence[str], ratios: Sequence[float]) -> list[Variant]:
    """Returns one variant per share of in-cluster negatives.

    Raises:
        UserError: the config is bad, its negatives are not mixed by `examples.ratio`, or its loss reads none.
    """
    loaded = load_config(config, tuple(overrides))
    if loaded.examples.sampler != SAMPLER:
        raise UserError(
            f"Expected examples.sampler {SAMPLER!r} in {config}, whose ratio is swept, got "
            f"{loaded.examples.sampler!r}: add --set examples.sampler={SAMPLER}."
        )
    if not loaded.train.reads_negatives:
        raise UserError(
            f"Expected a train.loss that reads negatives in {config}, such as bce, got {loaded.train.loss!r}, on which "
            "their shares have no effect."
        )
    return [
        Variant(f"{loaded.name}-ratio{ratio}", config, (*overrides, f"examples.ratio={ratio}"))
        for ratio in dict.fromkeys(f"{ratio:g}" for ratio in ratios)
    ]


def ratio_table(results: Sequence[Result]) -> Table:
    """Returns recall of the whole list, within and out of the cluster, a row per ratio; the best one is marked.

    M is the second list size of `evaluate.candidates`, or the only one. The best ratio has the largest validation
    recall: choosing it by test figures would make these too good.
    """
    rows = [_row(ratio, [r for r in results if _ratio(r) == ratio]) for ratio in sorted({_ratio(r) for r in results})]
    best = best_ratio(results)
    rows = [Row(row.label + (" (best)" if float(row.label) == best else ""), row.cells) for row in rows]
    m = _size(results[0]) if results else 0
    columns = [Column("val", f"validation R@{m}", "higher")]
    columns += [Column(key, f"{title}, R@{m}", "higher") for key, title in _CURVES.items()]
    columns += [Column("seeds", "n", shows="round")]
    notes = ["'best': by validation recall. Mean ± sample standard deviation over n seeds."]
    title = "Recall against the share of in-cluster negatives (paper, Figure 1a)"
    return Table("negatives", title, used(columns, rows), rows, notes, heads="share")


def best_ratio(results: Sequence[Result]) -> float | None:
    """Returns the ratio with the largest mean validation recall, the smaller one if two are equal; None without any."""
    means = {}
    for ratio in sorted({_ratio(r) for r in results}):
        if summary := summarise(_validation(r) for r in results if _ratio(r) == ratio):
            means[ratio] = summary.mean
    return max(means, key=means.__getitem__) if means else None


def plot_ratios(results: Sequence[Result], output: Path) -> None:
    """Draws the curves of `ratio_table` with their deviations, and the best ratio; draws nothing without results."""
    if not results:
        return
    import matplotlib

    matplotlib.use("Agg")  # no display on a server
    from matplotlib import pyplot as plt

    rows, best = ratio_table(results).rows, best_ratio(results)
    ratios = sorted({_ratio(r) for r in results})
    figure, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    for key, title in _CURVES.items():
        points = [(ratio, row.cells[key]) for ratio, row in zip(ratios, rows, strict=True) if key in row.cells]
        if points:
            means, deviations = [cell.mean for _, cell in points], [cell.std or 0.0 for _, cell in points]
            axis.errorbar([ratio for ratio, _ in points], means, deviations, marker="o", capsize=3, label=title)
    if best is not None:
        axis.axvline(best, color="grey", linestyle="--", linewidth=1, label=f"best on validation: {best:g}")
    axis.set(xlabel="share of in-cluster negatives", ylabel=f"Recall@{_size(results[0])}")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(output / PLOT, dpi=120)
    plt.close(figure)


def _row(ratio: float, results: Sequence[Result]) -> Row:
    cells = {key: summarise(r.report.get(key, {}).get(f"recall@{_size(r)}") for r in results) for key in _CURVES}
    cells |= {"val": summarise(_validation(r) for r in results), "seeds": Summary(len(results), None, len(results))}
    return Row(f"{ratio:g}", {key: cell for key, cell in cells.items() if cell})


def _ratio(result: Result) -> float:
    return result.config.examples.ratio


def _validation(result: Result) -> float | None:
    return result.training.get(f"val_recall@{_size(result)}")


def _size(result: Result) -> int:
    """Returns the second list size, or the only one."""
    return sorted(result.config.evaluate.candidates)[:2][-1]
