"""Tables of a comparison of methods: whole lists, relative to the baseline, within clusters, spread."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from tfdnc.comparison import paper
from tfdnc.comparison.certainty import in_standard_errors, standard_error, users_of
from tfdnc.comparison.results import Measurement
from tfdnc.comparison.summary_table import Column, Row, Summary, Table, relative_to, sizes_of, summarise, used

_PAPER = "paper "
_TUNED = ", tuned quota"
_SILENT = ", no times sent"
_VARIANTS = {
    _TUNED: "quota(alpha) with the alpha that was best on validation, seed by seed.",
    _SILENT: "a model that reads times, of requests that bring none.",
}
"""Suffixes of a method's name in further rows of the method, and their meaning."""

_SEEDS_NOTE = "Mean ± sample standard deviation over n seeds; CPU seconds of training, validation apart."

_SPREAD = {
    "coverage": Column("coverage", "clusters", "higher"),
    "entropy": Column("entropy", "entropy [nats]", "higher"),
    "gini": Column("gini", "Gini", "lower"),
    "ild": Column("ild", "ILD", "higher"),
    "item_coverage": Column("item_coverage", "items shown", "higher"),
}


def method_tables(results: Sequence[Measurement], labels: Sequence[str], baseline: str | None) -> list[Table]:
    """Returns the tables of a comparison, with a row per label that has results, in the order of `labels`.

    Args:
        results: finished experiments.
        labels: labels of the variants compared.
        baseline: label of the variant that the others are compared with, if any.
    """
    by_label = {label: found for label in labels if (found := [r for r in results if r.label == label])}
    lists, users = _list_rows(by_label, baseline), users_of(itertools.chain(*by_label.values()))
    sizes = sizes_of(lists, "recall")
    tables = [
        _lists_table(lists, sizes, users),
        _relative_table(lists, sizes, baseline, users),
        _within_table(by_label),
        _spread_table(lists, max(sizes, default=0), _clusters_note(by_label)),
    ]
    return [table for table in tables if table.rows and table.columns]


def default_baseline(labels: Iterable[str]) -> str | None:
    """Returns the one label that ends with -sasrec; None if there is none, or more than one."""
    found = [label for label in labels if label.endswith("-sasrec")]
    return found[0] if len(found) == 1 else None


def _list_rows(by_label: Mapping[str, Sequence[Measurement]], baseline: str | None) -> list[Row]:
    """Returns the figures of the lists: by popularity, by each configured merge, and by its tuned quota merge."""
    rows = []
    if by_label:  # popularity needs no training, so every method reports the same figures
        results = by_label.get(baseline or "") or next(iter(by_label.values()))
        rows.append(Row("most popular items", _summaries(r.report["popularity"] for r in results)))
    for label, results in by_label.items():
        cells = _summaries(r.report["merge"] for r in results)
        costs = {"cpu_seconds": summarise(r.training.get("cpu_seconds") for r in results)}
        costs["seeds"] = Summary(len(results), None, len(results))
        quotes = _quotes(paper.LISTS, label)
        rows.append(Row(label, cells | quotes | {key: cell for key, cell in costs.items() if cell}))
        variants = {_TUNED: [r.report["tuned"]["figures"] for r in results if r.report.get("tuned")]}
        variants[_SILENT] = [r.report["without_times"] for r in results if r.report.get("without_times")]
        for suffix, figures in variants.items():
            if figures:
                seeds = Summary(len(figures), None, len(figures))
                rows.append(Row(label + suffix, _summaries(figures) | {"seeds": seeds}))
    return rows


def _lists_table(rows: Sequence[Row], sizes: Sequence[int], users: int | None) -> Table:
    columns = [*_list_columns(sizes), *_paper_columns(rows)]
    columns += [Column("cpu_seconds", "CPU s", shows="round"), Column("seeds", "n", shows="round")]
    return Table(
        "lists",
        "Recall and NDCG of the whole list, all items ranked that it may hold (paper, Table 2)",
        used(columns, rows),
        rows,
        [_SEEDS_NOTE, *_error_note(rows, users), *_variant_notes(rows), *_paper_note(rows)],
    )


def _relative_table(rows: Sequence[Row], sizes: Sequence[int], baseline: str | None, users: int | None) -> Table:
    columns = [Column(column.key, column.title, column.better, "relative") for column in _list_columns(sizes)]
    relative = relative_to(rows, baseline, columns) if baseline else []
    notes = ["Changes of the means over seeds."]
    if users and baseline:
        relative = [_with_errors(row, rows, baseline, users) for row in relative]
        notes.append(
            f"(s.e.): the difference in its standard errors over {users:,} users (binomial, as if every method had "
            "users of its own; all have the same, so it is rather more certain). Less than 2 may be chance."
        )
    return Table("relative", f"Relative to {baseline}", used(columns, relative), relative, notes)


def _with_errors(row: Row, rows: Sequence[Row], baseline: str, users: int) -> Row:
    """Returns the relative row with every change of a recall in its standard errors."""
    [own], [base] = ([other.cells for other in rows if other.label == label] for label in (row.label, baseline))
    errors = {
        key: in_standard_errors(own[key].mean, base[key].mean, users) for key in row.cells if key.startswith("recall@")
    }
    cells = {key: replace(cell, standard_errors=errors.get(key)) for key, cell in row.cells.items()}
    return Row(row.label, cells)


def _error_note(rows: Sequence[Row], users: int | None) -> list[str]:
    recalls = [cell.mean for row in rows for key, cell in row.cells.items() if key.startswith("recall@")]
    if not users or not recalls:
        return []
    largest = max(standard_error(recall, users) for recall in recalls)
    return [f"The standard error of a recall over the {users:,} users is at most {largest:.4f} here (binomial)."]


def _within_table(by_label: Mapping[str, Sequence[Measurement]]) -> Table:
    rows = []
    for label, results in by_label.items():
        clustered = [r for r in results if r.clustered]  # with K = 1 it would be the recall of the whole list
        if clustered:
            cells = _summaries(r.report.get("within_cluster", {}) for r in clustered)
            seeds = {"seeds": Summary(len(clustered), None, len(clustered))}
            rows.append(Row(label, cells | _quotes(paper.WITHIN_CLUSTER, label) | seeds))
    columns = [Column(f"recall@{m}", f"R@{m}", "higher") for m in sizes_of(rows, "recall")]
    columns += [*_paper_columns(rows), Column("seeds", "n", shows="round")]
    return Table(
        "within_cluster",
        "Recall with the target's cluster given (paper, Table 3)",
        used(columns, rows),
        rows,
        [*_clusters_note(by_label), *_paper_note(rows)],
    )


def _clusters_note(by_label: Mapping[str, Sequence[Measurement]]) -> list[str]:
    """Returns a warning if methods are measured in different numbers of clusters: few are easier to hit and cover."""
    counts = {
        label: max(len(result.report.get("within_cluster_by_cluster", ())) for result in results)
        for label, results in by_label.items()
    }
    counts = {label: count for label, count in counts.items() if count > 1}
    if len(set(counts.values())) < 2:
        return []
    listed = ", ".join(f"{label}: {count}" for label, count in counts.items())
    return [f"Numbers of clusters differ ({listed}), so these figures do not compare: set evaluate.judge.num_clusters."]


def _spread_table(rows: Sequence[Row], size: int, notes: Sequence[str]) -> Table:
    columns = [Column(f"{key}@{size}", column.title, column.better) for key, column in _SPREAD.items()]
    columns = used(columns, rows)
    spread = [row for row in rows if any(column.key in row.cells for column in columns)]
    return Table(f"spread@{size}", f"Spread of the first {size} results", columns, spread, notes)


def _summaries(figures: Iterable[Mapping[str, float]]) -> dict[str, Summary]:
    """Summarises the figures of all seeds; only names with an @ are figures, others, such as `alpha`, are settings."""
    seeds = list(figures)
    keys = dict.fromkeys(key for one in seeds for key in one if "@" in key)
    return {key: cell for key in keys if (cell := summarise(one.get(key) for one in seeds))}


def _list_columns(sizes: Sequence[int]) -> list[Column]:
    """Returns columns of the recall at every size, and of NDCG at the smallest and the largest."""
    ends = list(dict.fromkeys([*sizes[:1], *sizes[-1:]]))
    columns = [Column(f"recall@{m}", f"R@{m}", "higher") for m in sizes]
    return columns + [Column(f"ndcg@{m}", f"NDCG@{m}", "higher") for m in ends]


def _quotes(table: paper.Figures, label: str) -> dict[str, Summary]:
    return {_PAPER + key: Summary(value) for key, value in paper.quoted(table, label).items()}


def _paper_columns(rows: Sequence[Row]) -> list[Column]:
    return [Column(f"{_PAPER}recall@{m}", f"paper R@{m}", shows="quote") for m in sizes_of(rows, f"{_PAPER}recall")]


def _paper_note(rows: Sequence[Row]) -> list[str]:
    quoted = _paper_columns(rows)
    note = f"'paper': figures of {paper.SOURCE}, whose data file and baselines differ from ours: read within a column."
    return [note] if quoted else []


def _variant_notes(rows: Sequence[Row]) -> list[str]:
    shown = {suffix: text for suffix, text in _VARIANTS.items() if any(row.label.endswith(suffix) for row in rows)}
    return [f"'{suffix.removeprefix(', ')}': {text}" for suffix, text in shown.items()]
