"""Files of a benchmark of serving: a page of Markdown, JSON with every latency, a plot of latency by load."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfdnc.load_test.figures import PERCENTILES

PLOT = "serving.png"

RATE_HEADERS = ("asked", "clients", "requests/s", "p50 ms", "p95 ms", "p99 ms", "errors")
FIGURE_HEADERS = ("figure", "value", "over rounds", "wanted", "reached")

NOTES = (
    "Each client asks again as soon as it is answered. In process: threads that call the loaded bundle, nothing else;",
    "all other rows: processes that ask a server on the same machine, and take their share of its cores.",
    "Medians over rounds in which every row is measured in turn; differences and ratios are taken inside a round.",
)


def rate_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Returns the cells of a row of `figures.rates` under `RATE_HEADERS`."""
    latencies = (f"{row[f'p{percent}']:.2f}" for percent in PERCENTILES)
    return (row["interface"], str(row["clients"]), f"{row['throughput']:,.0f}", *latencies, f"{row['errors']:,}")


def figure_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Returns the cells of a row of `figures.figures` under `FIGURE_HEADERS`."""
    over_rounds = "" if row["lowest"] == row["highest"] else f"{row['lowest']:.3g} to {row['highest']:.3g}"
    reached = {True: "yes", False: "NO", None: ""}[row["reached"]]
    return (row["figure"], f"{row['value']:.3g}", over_rounds, row["wanted"], reached)


def describe(load: dict[str, Any] | None, reloads: dict[str, Any] | None) -> Iterator[str]:
    """Yields sentences about the long load and the reloads."""
    if load:
        first, last, memory = load["p50"][0], load["p50"][-1], load["memory"]
        yield (
            f"Long load: median {first:.2f} ms in the first tenth, {last:.2f} ms in the last; "
            f"memory {memory[0]:.0f} MB before, {memory[-1]:.0f} MB after, {max(memory):.0f} MB at most."
        )
    if reloads:
        seconds, memory = sorted(reloads["seconds"]), reloads["memory"]
        yield (
            f"Reloads: {seconds[len(seconds) // 2]:.1f} s from the new version's folder to the old version's end "
            f"(slowest {seconds[-1]:.1f} s); under them p99 {reloads['p99']:.1f} ms, slowest request "
            f"{reloads['slowest']:.0f} ms; memory {memory[0]:.0f} MB before, {memory[-1]:.0f} MB after."
        )
    for error, count in ((load or {}).get("errors", {}) | (reloads or {}).get("errors", {})).items():
        yield f"{count:,} times: {error}"


def write_pages(folder: Path, machine: dict[str, str], results: dict[str, Any], notes: Sequence[str]) -> None:
    """Writes serving.md, .json and .png into `folder`.

    Args:
        folder: made if it does not exist.
        machine: result of `pages.describe_machine`.
        results: `bundle`, a description; `rates` and `figures` of `tfdnc.load_test.figures`; and the data behind them,
            for the JSON file.
        notes: sentences below the tables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "serving.md").write_text(_markdown(machine, results, notes), encoding="utf-8")
    (folder / "serving.json").write_text(json.dumps({"machine": machine, **results}), encoding="utf-8")
    plot_latency(results["rates"], folder / PLOT)


def _markdown(machine: dict[str, str], results: dict[str, Any], notes: Sequence[str]) -> str:
    lines = ["# Serving", "", f"    {machine['command']}", ""]
    lines += [f"{machine['date']}; {machine['machine']}; {machine['versions']}. {results['bundle']}", ""]
    lines += [*_table(FIGURE_HEADERS, map(figure_cells, results["figures"])), ""]
    lines += [*_table(RATE_HEADERS, map(rate_cells, results["rates"])), ""]
    return "\n".join([*lines, *notes, "", f"![Latency by load]({PLOT})", ""])


def _table(headers: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    for row in [headers, ("---", *["---:"] * (len(headers) - 1)), *rows]:
        yield f"| {' | '.join(row)} |"


def plot_latency(rates: Sequence[dict[str, Any]], file: Path) -> None:
    """Plots median (solid) and p99 (dashed) against requests per second, a line per interface."""
    import matplotlib

    matplotlib.use("Agg")  # no display on a server
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for color, interface in enumerate(dict.fromkeys(row["interface"] for row in rates)):
        rows = [row for row in rates if row["interface"] == interface]
        load = [row["throughput"] for row in rows]
        axis.plot(load, [row["p50"] for row in rows], f"C{color}o-", markersize=4, label=interface)
        axis.plot(load, [row["p99"] for row in rows], f"C{color}o--", markersize=3, linewidth=0.8)
        for row in rows:
            axis.annotate(
                str(row["clients"]), (row["throughput"], row["p50"]), xytext=(4, 4), textcoords="offset points"
            )
    axis.set(xlabel="requests per second", ylabel="latency [ms]", yscale="log", title="numbers: clients")
    axis.grid(alpha=0.3, which="both")
    axis.legend(title="solid: median\ndashed: p99", fontsize=8, title_fontsize=8)
    figure.savefig(file, dpi=120)
    plt.close(figure)
