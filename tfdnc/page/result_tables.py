"""The tables of the page: overall figures (paper, Table 2), figures within clusters (Table 3), and the intent model."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tfdnc.comparison.summary_table import Summary, summarise
from tfdnc.page.runs import Group, Run

NOTHING = "–"  # noqa: RUF001 (a dash is printed for a missing figure)


@dataclass(frozen=True)
class Row:
    """A row of figures of one split; `color` is None for a reference that is not compared with the other rows."""

    name: str
    note: str
    color: int | None
    split: str
    figures: dict[str, Summary]


@dataclass(frozen=True)
class Cell:
    """A figure as it is printed; `std` is empty for a single seed."""

    mean: str
    std: str
    best: bool


@dataclass(frozen=True)
class Table:
    """A table as the template prints it: headers, and rows with one cell per header."""

    headers: list[str]
    rows: list[tuple[Row, list[Cell]]]


def summaries(figures: Sequence[Mapping[str, float | None]]) -> dict[str, Summary]:
    """Summarises, over seeds, every figure that all of them have; null and NaN count as missing."""
    known = [{name: value for name, value in one.items() if _is_finite(value)} for one in figures]
    shared = [name for name in known[0] if all(name in one for one in known)]
    found = {name: summarise(one[name] for one in known) for name in shared}
    return {name: summary for name, summary in found.items() if summary}


def overall_table(groups: Sequence[Group]) -> Table:
    """Returns recall and NDCG of popular items and of every group, also with tuned quotas and without times."""
    firsts = {group.split: group for group in reversed(groups)}
    rows = []
    for group in groups:
        if firsts[group.split] is group:
            rows.append(_popular_row(group, group.name if len(firsts) > 1 else ""))
        rows.append(_row(group, _note(group, _merge_note(group.first)), lambda run: run.report["merge"]))
        if all(run.report.get("tuned") for run in group.runs):
            note = _note(group, f"quota, alpha {_tuned_alphas(group)} tuned on validation")
            rows.append(_row(group, note, lambda run: run.report["tuned"]["figures"]))
        if all(run.report.get("without_times") for run in group.runs):
            note = _note(group, "of requests that bring no times")
            rows.append(_row(group, note, lambda run: run.report["without_times"]))
    return _table(rows, [*_names(rows, "recall@"), *_names(rows, "ndcg@")])


def within_table(groups: Sequence[Group]) -> Table | None:
    """Returns recall with the target's cluster given; None where no run is judged by clusters."""
    rows = [
        _row(group, _note(group, group.first.judges), lambda run: run.report["within_cluster"])
        for group in groups
        if group.first.judges
    ]
    return _table(rows, _names(rows, "recall@")) if rows else None


def intent_table(groups: Sequence[Group]) -> Table | None:
    """Returns accuracy and likelihood of the predicted cluster of the next item; None where no run has learned it."""

    def figures(run: Run) -> dict[str, float]:
        calibration = run.report.get("calibration") or {}
        return run.report["intent"] | {name: calibration[name] for name in ("ece",) if name in calibration}

    rows = [_row(group, _note(group), figures) for group in groups if group.first.report["alpha_curve"]]
    known = ("intent_accuracy", "intent_nll", "intent_nll_prior", "intent_nll_history", "ece")
    return _table(rows, [name for name in known if any(name in row.figures for row in rows)]) if rows else None


def standard_error(groups: Sequence[Group]) -> float:
    """Returns the standard error of a recall near one half on the test users of a run."""
    return math.sqrt(0.25 / max(1, groups[0].first.report["users"]))


def _is_finite(value: float | None) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _row(group: Group, note: str, figures: Callable[[Run], Mapping[str, float | None]]) -> Row:
    return Row(group.name, note, group.color, group.split, summaries([figures(run) for run in group.runs]))


def _popular_row(group: Group, split: str) -> Row:
    note = f"on the split of {split}" if split else ""
    return Row("most popular items", note, None, group.split, summaries([group.first.report["popularity"]]))


def _merge_note(run: Run) -> str:
    alpha = run.settings.get("merge.alpha")
    if run.num_clusters == 1:
        return "one cluster"
    return f"quota({alpha:g})" if run.report["merge_method"] == "quota" else f"{run.report['merge_method']} merge"


def _tuned_alphas(group: Group) -> str:
    alphas = sorted({run.report["tuned"]["alpha"] for run in group.runs})
    return " to ".join(f"{alpha:g}" for alpha in dict.fromkeys((alphas[0], alphas[-1])))


def _note(group: Group, *texts: str) -> str:
    seeds = [f"{len(group.runs)} seeds"] if len(group.runs) > 1 else []
    return ", ".join([*seeds, *texts])


def _names(rows: Sequence[Row], prefix: str) -> list[str]:
    """Returns the names of figures with a prefix that any row has, by list size."""
    found = {name for row in rows for name in row.figures if name.startswith(prefix)}
    return sorted(found, key=lambda name: int(name.removeprefix(prefix)))


def _table(rows: Sequence[Row], names: Sequence[str]) -> Table:
    best = {split: {name: _best(compared, name) for name in names} for split, compared in _by_split(rows).items()}
    return Table(
        [_header(name) for name in names],
        [(row, [_cell(row, name, best.get(row.split, {}).get(name)) for name in names]) for row in rows],
    )


def _by_split(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Returns the rows that are compared with each other: a better figure on another split says nothing."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.color is not None:
            found.setdefault(row.split, []).append(row)
    return found


def _cell(row: Row, name: str, best: str | None) -> Cell:
    figure = row.figures.get(name)
    if figure is None:
        return Cell(NOTHING, "", False)
    mean = f"{figure.mean:.4f}"
    std = "" if figure.std is None else f"±{figure.std:.4f}".replace("±0.", "±.")
    return Cell(mean, std, row.color is not None and mean == best)


def _best(rows: Sequence[Row], name: str) -> str | None:
    """Returns the best value as it is printed, so that all equal values are bold; None if no row can be better."""
    values = [row.figures[name].mean for row in rows if name in row.figures]
    if len(values) < 2 or name in ("intent_nll_prior", "intent_nll_history"):  # properties of the data, not of a model
        return None
    return f"{min(values) if name in ('ece', 'intent_nll') else max(values):.4f}"


def _header(name: str) -> str:
    known = {
        "intent_accuracy": "Accuracy",
        "intent_nll": "NLL, nats",
        "intent_nll_prior": "NLL of the prior",
        "intent_nll_history": "NLL of the history's shares",
        "ece": "ECE",
    }
    return known.get(name) or name.replace("recall@", "R@").replace("ndcg@", "NDCG@")
