"""Table arithmetic, by hand, and how tables are written."""

import pytest
from rich.console import Console

from tfdnc.comparison.render import csv_text, json_tables, markdown, print_tables
from tfdnc.comparison.summary_table import (
    Column,
    Row,
    Summary,
    Table,
    best_rows,
    relative_to,
    sizes_of,
    summarise,
    used,
)

RECALL = Column("recall@10", "R@10", "higher")
GINI = Column("gini@10", "Gini", "lower")


def test_a_summary_has_the_mean_and_the_sample_standard_deviation():
    # Deviations -1, 0, 1 from 3: squares sum to 2, divided by n - 1 = 2.
    assert summarise([2.0, 3.0, 4.0]) == Summary(3.0, 1.0, 3)
    # 1 and 2: mean 1.5, squares sum to 0.5, divided by 1.
    assert summarise([1.0, 2.0]).std == pytest.approx(0.5**0.5)


def test_one_seed_has_no_deviation_and_absent_values_do_not_count():
    assert summarise([0.25]) == Summary(0.25, None, 1)
    assert summarise([None, 0.25]) == Summary(0.25, None, 1)
    assert summarise([None]) is None
    assert summarise([]) is None


def rows(**means):
    return [Row(label, {"recall@10": Summary(mean)} if mean is not None else {}) for label, mean in means.items()]


def test_relative_improvement_is_of_the_means():
    # (0.3 - 0.2) / 0.2 = 50%, (0.1 - 0.2) / 0.2 = -50%
    base, better, worse, absent = rows(base=0.2, better=0.3, worse=0.1, absent=None)
    found = relative_to([base, better, worse, absent], "base", [RECALL])
    assert [row.label for row in found] == ["better", "worse", "absent"]
    assert [row.cells["recall@10"].mean for row in found[:2]] == pytest.approx([0.5, -0.5])
    assert found[2].cells == {}
    assert relative_to([better], "base", [RECALL]) == []
    assert relative_to(rows(base=0.0, a=0.1), "base", [RECALL])[0].cells == {}


def test_the_best_is_the_highest_or_the_lowest_and_what_looks_equal_is_equal():
    table = Table("t", "T", [RECALL], rows(a=0.30001, b=0.30002, c=0.2, d=None))
    assert best_rows(table, RECALL) == {0, 1}
    assert best_rows(table, Column("recall@10", "R", "lower")) == {2}
    assert best_rows(table, Column("recall@10", "R")) == set()
    assert best_rows(Table("t", "T", [RECALL], rows(a=0.3, b=None)), RECALL) == set()


def test_columns_are_the_ones_that_have_cells():
    made = [Row("a", {"recall@100": Summary(0.1), "recall@5": Summary(0.1)}), Row("b", {"gini@10": Summary(0.1)})]
    assert sizes_of(made, "recall") == [5, 100]
    assert used([RECALL, GINI], made) == [GINI]


def test_cells_are_written_as_their_column_says():
    assert RECALL.text(Summary(0.25, 0.0125, 3)) == "0.2500 ± 0.0125"
    assert RECALL.text(Summary(0.25, None, 1)) == "0.2500"
    assert Column("x", "x", shows="relative").text(Summary(-0.125)) == "-12.5%"
    assert Column("x", "x", shows="relative").text(Summary(-0.125, standard_errors=-0.84)) == "-12.5% (-0.8 s.e.)"
    assert Column("x", "x", shows="round").text(Summary(1234.4)) == "1,234"
    assert Column("x", "x", shows="quote").text(Summary(0.12)) == "0.120"
    assert RECALL.text(None) == ""


TABLE = Table(
    "lists",
    "Recall",
    [RECALL, GINI],
    [
        Row("ml1m-dnc_naive", {"recall@10": Summary(0.3, 0.01, 2), "gini@10": Summary(0.5, None, 1)}),
        Row("ml1m-mf", {"recall@10": Summary(0.1, None, 1), "gini@10": Summary(0.25, None, 1)}),
        Row("empty", {}),
    ],
    ["A note."],
)


def test_markdown_has_the_header_and_bold_bests():
    assert markdown("Title", {"date": "today"}, [TABLE]) == "\n".join(
        [
            "# Title",
            "",
            "- date: today",
            "",
            "## Recall",
            "",
            "| method | R@10 | Gini |",
            "| --- | ---: | ---: |",
            r"| ml1m-dnc\_naive | **0.3000 ± 0.0100** | 0.5000 |",
            "| ml1m-mf | 0.1000 | **0.2500** |",
            "| empty |  |  |",
            "",
            "A note.",
            "",
        ]
    )


def test_csv_has_one_line_per_cell():
    assert csv_text([TABLE]).splitlines() == [
        "table,row,column,mean,std,n,standard_errors",
        "lists,ml1m-dnc_naive,recall@10,0.3,0.01,2,",
        "lists,ml1m-dnc_naive,gini@10,0.5,,1,",
        "lists,ml1m-mf,recall@10,0.1,,1,",
        "lists,ml1m-mf,gini@10,0.25,,1,",
    ]


def test_json_keeps_cells_by_column():
    [table] = json_tables([TABLE])
    assert table["rows"][0]["cells"]["recall@10"] == {"mean": 0.3, "std": 0.01, "n": 2, "standard_errors": None}
    assert table["rows"][2] == {"label": "empty", "cells": {}}


def test_on_a_narrow_terminal_no_figure_and_no_name_is_cut():
    columns = [Column(f"recall@{m}", f"R@{m}", "higher") for m in (10, 20, 50, 100, 200, 500)]
    columns += [Column("cpu", "CPU s", shows="round"), Column("seeds", "n", shows="round")]
    cells = {column.key: Summary(0.3, 0.01, 3) for column in columns[:6]} | {"cpu": Summary(1234), "seeds": Summary(3)}
    table = Table("lists", "Recall", columns, [Row("ml1m-dnc_naive, tuned quota", cells)])
    console = Console(width=80, force_terminal=True, color_system=None, highlight=False)
    with console.capture() as shown:
        print_tables([table], console)
    lines = shown.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith(" ml1m-dnc_naive, tuned quota    0.3000") for line in lines)
    assert lines[-1] == "80 columns are too narrow for R@500, CPU s, n; the files have all."
    assert any(line.split()[-5:] == ["0.3000"] * 5 for line in lines), shown.get()
    assert any(line.split() == ["±0.0100"] * 5 for line in lines)
