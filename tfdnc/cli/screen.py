"""What the command line shows: one line per station, and tables."""

from rich import box
from rich.console import Console
from rich.table import Table

from tfdnc.stations import Outcome, Station

console = Console(highlight=False)

STYLE = {"title_justify": "left", "title_style": "bold", "box": box.SIMPLE_HEAD, "pad_edge": False}
"""Keyword arguments of every table."""


def station_started(station: Station) -> None:
    """Announces a station before its work begins."""
    console.print(f"[bold]{station.name}[/bold]")


def station_ended(station: Station, outcome: Outcome) -> None:
    """Shows time and headline of a station that ran or was skipped."""
    when = "unchanged" if outcome.skipped else f"{outcome.seconds:.1f} s"
    console.print(f"    {when:>9}  {station.headline(outcome.figures)}")


def show_report(report: dict) -> None:
    """Prints the evaluation report: merges against popularity, within clusters, intent, the alpha curve."""
    sizes = [name.removeprefix("recall@") for name in report["merge"] if name.startswith("recall@")]
    console.print(_merge_table(report, sizes))
    if report["alpha_curve"]:
        console.print(_within_table(report))
        intent = report["intent"]
        console.print(
            f"Intent model: accuracy {intent['intent_accuracy']:.3f}, "
            f"negative log-likelihood {intent['intent_nll']:.3f} nats"
        )


def _merge_table(report: dict, sizes: list[str]) -> Table:
    table = Table(title=f"Test set, {report['users']:,} users, all unseen items ranked", **STYLE)
    table.add_column("merge")
    for kind in ("recall", "ndcg"):
        for m in sizes:
            table.add_column(f"{kind}@{m}", justify="right")
    for kind in ("coverage", "entropy"):
        table.add_column(f"{kind}@{sizes[-1]}", justify="right")
    rows = {
        "popularity": report["popularity"],
        f"[bold]{report['merge_method']}[/bold]": report["merge"],
        **{f"quota, alpha {point['alpha']:g}": point for point in report["alpha_curve"]},
        "target's cluster given": report["within_cluster"],
    }
    for name, figures in rows.items():
        if name.startswith("target") and not report["alpha_curve"]:
            continue  # K = 1: the cluster is always given
        cells = [figures.get(f"{kind}@{m}") for kind in ("recall", "ndcg") for m in sizes]
        cells += [figures.get(f"{kind}@{sizes[-1]}") for kind in ("coverage", "entropy")]
        table.add_row(name, *("" if cell is None else f"{cell:.4f}" for cell in cells))
    return table


def _within_table(report: dict) -> Table:
    table = Table(title="Recall within the target's cluster", **STYLE)
    table.add_column("cluster")
    table.add_column("targets", justify="right")
    rows = report["within_cluster_by_cluster"]
    names = [name for name in max(rows, key=len) if name.startswith("recall")]
    for name in names:
        table.add_column(name, justify="right")
    everything = {"name": "[bold]all[/bold]", "targets": report["users"], **report["within_cluster"]}
    for row in [*rows, everything]:
        cells = (f"{row[name]:.4f}" if name in row else "" for name in names)
        table.add_row(row["name"], f"{row['targets']:,}", *cells)
    return table
