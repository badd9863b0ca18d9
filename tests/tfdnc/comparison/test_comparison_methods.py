"""Results -> tables of methods, with made-up reports."""

import math

import pytest

from tfdnc.comparison import paper
from tfdnc.comparison.certainty import in_standard_errors
from tfdnc.comparison.method_tables import default_baseline, method_tables
from tfdnc.comparison.ratio_sweep import best_ratio, plot_ratios, ratio_table, ratio_variants
from tfdnc.comparison.results import Result
from tfdnc.comparison.study import split_line
from tfdnc.comparison.summary_table import Summary
from tfdnc.contracts.config import parse_config
from tfdnc.contracts.errors import UserError


def result(label, seed=1, recall=0.2, clusters=True, split="s", training=None, config=None, **report):
    """A finished experiment with lists of 20 and 50."""
    figures = {"recall@20": recall, "recall@50": 2 * recall, "ndcg@20": recall / 2, "ndcg@50": recall / 2}
    figures |= {"coverage@50": 1.0, "entropy@50": 0.5} if clusters else {}
    report = {
        "merge": figures,
        "popularity": {"recall@20": 0.05, "recall@50": 0.1, "ndcg@20": 0.02, "ndcg@50": 0.02},
        "judged_by": "own clusters" if clusters else None,
        "within_cluster": {"recall@5": recall, "recall@20": 2 * recall},
        **report,
    }
    values = {"name": f"{label}-seed{seed}", "seed": seed, "evaluate": {"candidates": [20, 50]}, **(config or {})}
    return Result(label, seed, report, training or {"cpu_seconds": 100.0}, split, parse_config(values))


def tables(results, labels, baseline=None):
    return {table.name: table for table in method_tables(results, labels, baseline)}


def row(table, label):
    [found] = [row for row in table.rows if row.label == label]
    return found.cells


def test_seeds_become_mean_deviation_and_number_beside_the_papers_figure():
    results = [result("ml1m-sasrec", 1, 0.1), result("ml1m-sasrec", 2, 0.3)]
    table = tables(results, ["ml1m-sasrec"])["lists"]
    cells = row(table, "ml1m-sasrec")
    assert cells["recall@20"].mean == pytest.approx(0.2)
    assert cells["recall@20"].std == pytest.approx(0.02**0.5)  # 2 * 0.1 ** 2 / (2 - 1)
    assert cells["seeds"].mean == cells["recall@20"].n == 2
    assert cells["paper recall@20"] == Summary(0.183)
    assert cells["cpu_seconds"].mean == 100
    assert row(table, "most popular items")["recall@20"].mean == pytest.approx(0.05)
    titles = [column.title for column in table.columns]
    assert titles == ["R@20", "R@50", "NDCG@20", "NDCG@50", "paper R@20", "paper R@50", "CPU s", "n"]


def test_rows_keep_the_order_asked_for_and_a_method_without_results_has_none():
    results = [result("x-b"), result("x-a")]
    table = tables(results, ["x-a", "x-b", "x-c"])["lists"]
    assert [row.label for row in table.rows] == ["most popular items", "x-a", "x-b"]


def test_the_tuned_quota_has_a_row_of_its_own_where_a_report_has_it():
    tuned = {"alpha": 1.25, "objective": "recall@20", "validation": {}, "figures": {"recall@20": 0.4, "alpha": 1.25}}
    results = [result("x-dnc", 1, tuned=tuned), result("x-dnc", 2), result("x-mf", clusters=False)]
    table = tables(results, ["x-dnc", "x-mf"])["lists"]
    assert [row.label for row in table.rows][1:] == ["x-dnc", "x-dnc, tuned quota", "x-mf"]
    assert row(table, "x-dnc, tuned quota")["recall@20"] == Summary(0.4, None, 1)
    assert any("tuned quota" in note for note in table.notes)


def test_a_change_is_shown_in_its_standard_errors_over_the_users():
    """-12.2 % looked like a finding, on 1,090 users."""
    results = [result("x-sasrec", recall=0.2, users=1090), result("x-dnc", recall=0.1756, users=1090)]
    made = tables(results, ["x-sasrec", "x-dnc"], "x-sasrec")
    cells = row(made["relative"], "x-dnc")
    expected = -0.0244 / math.sqrt((0.2 * 0.8 + 0.1756 * 0.8244) / 1090)
    assert cells["recall@20"].standard_errors == pytest.approx(expected)
    assert cells["ndcg@20"].standard_errors is None  # no share of hits
    assert "over 1,090 users (binomial, as if every method had users of its own" in made["relative"].notes[1]
    # .4, the recall nearest to one half.
    assert f"over the 1,090 users is at most {math.sqrt(0.24 / 1090):.4f} here" in made["lists"].notes[1]
    others = tables([results[0], result("x-dnc", users=7)], ["x-sasrec", "x-dnc"], "x-sasrec")["relative"]
    assert row(others, "x-dnc")["recall@20"].standard_errors is None  # who they are measured on differs


def test_recalls_without_an_error_have_no_distance_in_errors():
    assert in_standard_errors(0.0, 1.0, 100) is None
    assert in_standard_errors(0.5, 0.5, 100) == 0.0


def test_relative_improvement_leaves_out_the_baseline():
    results = [result("x-sasrec", recall=0.2), result("x-dnc", recall=0.25)]
    table = tables(results, ["x-sasrec", "x-dnc"], "x-sasrec")["relative"]
    assert [row.label for row in table.rows] == ["most popular items", "x-dnc"]
    assert row(table, "x-dnc")["recall@20"].mean == pytest.approx(0.25)
    assert "relative" not in tables(results, ["x-sasrec", "x-dnc"])


def test_figures_of_clusters_are_blank_where_there_is_one_cluster_only():
    results = [
        result("x-dnc"),
        result("x-sasrec", clusters=False),
        result("x-judged", judged_by="word2vec_kmeans, 10 clusters"),
    ]
    made = tables(results, ["x-dnc", "x-sasrec", "x-judged"])
    assert [row.label for row in made["within_cluster"].rows] == ["x-dnc", "x-judged"]
    assert [row.label for row in made["spread@50"].rows] == ["x-dnc", "x-judged"]


def test_the_spread_shows_the_figures_that_exist():
    one = result("x-dnc")
    one.report["merge"]["item_coverage@50"] = 0.9
    table = tables([one], ["x-dnc"])["spread@50"]
    assert [column.key for column in table.columns] == ["coverage@50", "entropy@50", "item_coverage@50"]


def test_no_results_make_no_tables():
    assert method_tables([], ["x-dnc"], "x-dnc") == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ml1m-dnc", 0.234),
        ("ml1m-dnc_plain", 0.234),
        ("ml1m-dnc_literal_bce", 0.234),
        ("ml1m_large-dnc_naive", 0.221),
        ("ml1m-mf", 0.120),
        ("ml1m-gru4rec", None),
        ("kuairand_pure-dnc", None),
        ("kuairand-dnc", None),
        ("mine", None),
    ],
)
def test_the_papers_figures_stand_only_beside_the_same_method_on_the_same_data(name, expected):
    assert paper.quoted(paper.LISTS, name).get("recall@20") == expected


def test_the_default_baseline_is_the_only_sasrec():
    assert default_baseline(["x-dnc", "x-sasrec"]) == "x-sasrec"
    assert default_baseline(["x-dnc", "x-sasrec_plus"]) is None
    assert default_baseline(["x-sasrec", "y-sasrec"]) is None


def test_the_split_is_named_once_or_by_seed_and_a_mixture_is_denounced():
    assert split_line([result("a", split="one"), result("b", 2, split="one")]) == "one"
    assert split_line([result("a", split="one"), result("a", 2, split="two")]) == "one (seed 1), two (seed 2)"
    assert "DIFFERENT" in split_line([result("a", split="one"), result("b", split="two")])


def swept(ratio, seed, validation, **report):
    return result(
        f"x-ratio{ratio:g}",
        seed,
        training={"val_recall@50": validation},
        config={"examples": {"sampler": "mixed", "ratio": ratio}},
        **report,
    )


def test_the_best_ratio_is_picked_by_validation_not_by_test():
    results = [swept(0.0, 1, 0.3, recall=0.4), swept(0.5, 1, 0.4, recall=0.2), swept(0.5, 2, 0.2, recall=0.2)]
    results += [swept(1.0, 1, 0.35, recall=0.1)]
    assert best_ratio(results) == 1.0  # means .3, .3, .35
    table = ratio_table(results)
    assert [row.label for row in table.rows] == ["0", "0.5", "1 (best)"]
    assert table.rows[1].cells["val"].mean == pytest.approx(0.3)
    assert table.rows[1].cells["merge"].mean == pytest.approx(0.4)  # recall@50, the second size


def test_the_sweep_shows_out_of_cluster_recall_once_the_report_has_it(tmp_path):
    without = [swept(0.0, 1, 0.3), swept(1.0, 1, 0.4)]
    assert "out_of_cluster" not in [column.key for column in ratio_table(without).columns]
    curve = {"within_cluster": {"recall@50": 0.6}, "out_of_cluster": {"recall@50": 0.5}}
    table = ratio_table([swept(0.0, 1, 0.3, **curve), swept(1.0, 1, 0.4, **curve)])
    assert [column.key for column in table.columns] == ["val", "merge", "within_cluster", "out_of_cluster", "seeds"]
    plot_ratios(without, tmp_path)
    assert (tmp_path / "negatives.png").stat().st_size > 1000
    plot_ratios([], tmp_path / "absent")


def test_the_sweep_overrides_the_ratio_and_wants_a_mixed_sampler(tmp_path):
    config = tmp_path / "x.yaml"
    config.write_text("name: x\nexamples: {sampler: mixed}\ntrain: {loss: bce}")
    made = ratio_variants(config, ["seed=3"], [0.25, 1.0, 0.25])
    assert [variant.label for variant in made] == ["x-ratio0.25", "x-ratio1"]
    assert made[0].overrides == ("seed=3", "examples.ratio=0.25")
    with pytest.raises(UserError, match=r"add --set examples\.sampler=mixed"):
        ratio_variants(config, ["examples.sampler=uniform"], [0.5])
    with pytest.raises(UserError, match=r"a train\.loss that reads negatives .*such as bce, got 'softmax'"):
        ratio_variants(config, ["train.loss=softmax"], [0.5])


@pytest.mark.parametrize(("clusters", "warned"), [((6, 10), True), ((6, 6), False), ((6, 1), False)])
def test_figures_in_other_numbers_of_clusters_are_said_not_to_compare(clusters, warned):
    """Six clusters of one method stood beside ten of another, and the better figure was printed in bold."""
    results = [
        result(label, within_cluster_by_cluster=[{}] * count) for label, count in zip("ab", clusters, strict=True)
    ]
    made = tables(results, ["a", "b"])
    for name in ("within_cluster", "spread@50"):
        assert any("a: 6, b: 10" in note for note in made[name].notes) == warned
