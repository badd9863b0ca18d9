"""The page of `tfdnc report`, built from small synthetic runs."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfdnc.backend import tf
from tfdnc.cli.main import main
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import read_items
from tfdnc.contracts.model_config import ModelConfig, TrainConfig
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower
from tfdnc.page import item_map, result_tables, runs
from tfdnc.page.build import render, write_page
from tfdnc.page.chart import HEIGHT, WIDTH, Line, Mark, draw
from tfdnc.page.user_lists import UserLists, user_lists
from tfdnc.training.checkpoint import write_checkpoint

K, N, SIZES = 2, 24, (5, 50)
NASTY = """<script>alert("x")</script> & 'Romeo'"""
SECTIONS = ["runs", "overall", "within", "alpha", "spread", "clusters", "map", "intent", "training", "settings"]
VOID = {"meta", "br", "img", "link", "hr", "input"}


def figures(recall):
    found = {"recall@5": recall / 2, "recall@50": recall, "ndcg@5": recall / 4, "ndcg@50": recall / 3}
    return found | {f"{name}@{m}": value for m in SIZES for name, value in (("coverage", 0.5), ("entropy", 0.3))}


def make_report(recall=0.5, clusters=K):
    by_cluster = [
        {"cluster": k, "name": f"{NASTY} {k}", "targets": 10 + k, "recall@20": 0.1 + k} for k in range(clusters)
    ]
    return {
        "users": 400,
        "seen_targets": 0.0,
        "merge_method": "joint",
        "merge": figures(recall),
        "alpha_curve": [{"alpha": alpha, **figures(recall - alpha / 10)} for alpha in (0, 1, 4)]
        if clusters > 1
        else [],
        "within_cluster": {"recall@20": 0.7},
        "within_cluster_by_cluster": by_cluster,
        "intent": {"intent_accuracy": 0.5, "intent_nll": 1.25},
        "popularity": {"recall@5": 0.01, "recall@50": 0.02, "ndcg@5": 0.01, "ndcg@50": 0.01},
    }


def add_all_there_will_be(report):
    """The keys of reports that know tuned quotas, other curves, calibration, and spread between items."""
    report["floor_curve"] = [{"floor": floor, **figures(0.5 - floor / 20)} for floor in (1, 2)]
    report["joint_curve"] = [{"alpha": alpha, **figures(0.5 - abs(1 - alpha) / 20)} for alpha in (0.5, 1)]
    for place in (report["merge"], *report["alpha_curve"], *report["joint_curve"], *report["floor_curve"]):
        place |= {f"{name}@50": 0.4 + place["recall@50"] / 5 for name in ("gini", "item_coverage", "ild")}
    bins = [{"confidence": c, "accuracy": c / 2, "count": int(100 * c)} for c in (0.0, 0.3, 0.7)]
    report["calibration"] = {"bins": bins, "ece": 0.0321}
    report["tuned"] = {"alpha": 1, "objective": "recall@50", "validation": 0.6, "figures": report["alpha_curve"][1]}
    report["judged_by"] = "own clusters"
    report["intent"] |= {"intent_nll_prior": 2.5, "intent_nll_history": 2.25}


def write_station(folder, station, figures, settings, needs, files):
    place = folder / station
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name).write_text(json.dumps(content))
    sizes = {path.name: path.stat().st_size for path in place.iterdir()}
    inputs = {"tfdnc": "0.1.0", "seed": settings.pop("seed"), "settings": settings, "stations": needs, "files": {}}
    made = {"station": station, "fingerprint": station, "inputs": inputs, "figures": figures, "seconds": 150.0}
    (place / "manifest.json").write_text(json.dumps(made | {"files": sizes}))


def write_items(place, clusters):
    place.mkdir(parents=True)
    cluster = np.repeat(np.arange(clusters), N // clusters).astype(np.int32)
    columns = [np.arange(1, N + 1, dtype=np.int32)] * 2 + [[str(i) for i in range(N)], cluster, np.zeros(N, bool)]
    columns += [np.arange(N, dtype=np.int64), [f"{NASTY} #{i}" for i in range(N)], [["a"]] * N, [None] * N]
    pq.write_table(pa.table(columns, schema=schema.ITEM_SCHEMA), place / schema.ITEMS)


def make_run(folder, report=None, seed=1, clusters=K, epochs=4, history_extra=None, weights=True):
    """A finished run; its weights are those of a real, untrained model."""
    report = report or make_report(clusters=clusters)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: synthetic\n")
    write_items(folder / "cluster", clusters)
    (folder / "train").mkdir()
    names = [f"{NASTY} {k}" for k in range(clusters)]
    share = {"items": N // clusters, "item_share": 1 / clusters, "event_share": 1 / clusters, "top_items": [NASTY]}
    described = [{"cluster": k, "name": name, **share} for k, name in enumerate(names)]
    history = [
        {"epoch": e, "retrieval_loss": 1 / e, "intent_loss": 2 / e if clusters > 1 else 0.0, **(history_extra or {})}
        | ({"val_recall@50": e / 10, "val_ndcg@50": e / 20, "val_intent_nll": 1 / e} if e % 2 == 0 else {})
        for e in range(1, 5)
    ]
    data = {"users": 400, "items": N, "events": 4321, "split_sha256": "0123456789abcdef" * 4}
    data["days"] = ["2000-04-25", "2003-02-28"]
    cost = {"parameters": 123_456, "epochs": epochs, "steps": 8, "best_epoch": 2, "cpu_seconds": 240.0}
    settings = {"train": {"loss": "bce", "epochs": epochs}, "model": {"encoder": "transformer"}}
    write_station(folder, "prepare", data, {"seed": seed, "data": {"format": "csv"}}, {}, {})
    write_station(folder, "cluster", {}, {"seed": seed}, {}, {schema.CLUSTERS: described})
    if weights:
        items = read_items(folder / "cluster")
        tower = Tower.make(ModelConfig(dim=4, max_length=3), TrainConfig(), items.offsets, seed)
        model = Retriever(tower, TrainConfig(), seed)
        model.compile(optimizer="sgd")
        write_checkpoint(folder / "train", model, items)
    write_station(folder, "train", cost, {"seed": seed, **settings}, {}, {schema.HISTORY_FILE: history})
    merge = {"method": report["merge_method"], "alpha": 1.0}
    write_station(folder, "evaluate", {}, {"seed": seed, "merge": merge}, {"train": "train"}, {schema.REPORT: report})
    return folder


def page_of(folder, *made):
    write_page(made, folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


class Balanced(HTMLParser):
    """Refuses a page whose tags do not close in order; collects ids, links and text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.attributes, self.text = [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def full_page(tmp_path_factory):
    """Two seeds of one method, with all figures there will be, beside a run of one cluster from before them."""
    folder = tmp_path_factory.mktemp("page")
    made = []
    for seed, recall in ((2, 0.5), (1, 0.53)):
        report = make_report(recall)
        add_all_there_will_be(report)
        made.append(make_run(folder / f"dnc-seed{seed}", report, seed, history_extra={"cpu_seconds": 60.0}))
    made.append(make_run(folder / "plain", make_report(0.4, clusters=1), clusters=1, epochs=8))
    return page_of(folder, *made)


@pytest.fixture(scope="module")
def old_page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    return page_of(folder, make_run(folder / "old"))


def test_the_page_loads_nothing(full_page):
    assert "http:" not in full_page
    assert "https:" not in full_page
    assert "<script" not in full_page
    assert "@import" not in full_page
    assert not re.search(r"url\(", full_page)
    links = [value for name, value in Balanced(full_page).attributes if name in ("href", "src", "xlink:href")]
    assert links
    assert all(link.startswith("#") for link in links)


def test_the_page_is_balanced_and_its_links_lead_somewhere(full_page, old_page):
    for page in (full_page, old_page):
        parsed = Balanced(page)
        assert len(set(parsed.ids)) == len(parsed.ids)
        assert {value for name, value in parsed.attributes if name == "href"} == {f"#{name}" for name in parsed.ids}


def test_names_and_titles_are_data(full_page):
    parsed = Balanced(full_page)
    assert f"{NASTY} 0" in parsed.text  # a cluster's name
    assert f"{NASTY} #23" in parsed.text  # a title on the map
    assert "<script>" not in full_page


def test_every_section_is_there(full_page):
    assert Balanced(full_page).ids == SECTIONS
    for text in (
        "4,321",
        "2000-04-25 to 2003-02-28",
        "0123456789abcdef…",
        "123,456",
        "4.0 min",
        "2.5 min",
        "dnc-seed1/config.yaml",
        "ECE 0.0321",
    ):
        assert text in full_page
    for axis in ("CPU minutes", "Gini coefficient", "Mean distance", "confidence"):
        assert axis in full_page


def test_a_report_from_before_calibration_and_tuning_has_a_page(old_page):
    assert "evaluated without calibration" in old_page
    assert "tuned" not in old_page
    assert "Gini" not in old_page
    assert "CPU minutes" not in old_page
    assert Balanced(old_page).ids == SECTIONS


def test_a_run_of_one_cluster_has_neither_quotas_nor_a_map(tmp_path):
    page = page_of(tmp_path, make_run(tmp_path / "plain", clusters=1))
    assert Balanced(page).ids == ["runs", "overall", "training", "settings"]


def test_the_reason_for_the_number_of_clusters_is_told_where_the_config_left_it_open(tmp_path):
    made = make_run(tmp_path / "open", weights=False)
    manifest = made / "cluster" / "manifest.json"
    figures = {"num_clusters": 2, "num_clusters_reason": "auto is 2, so that 40 < 41"}
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"figures": figures}))
    assert '<p class="note">auto is 2, so that 40 &lt; 41.</p>' in page_of(tmp_path, made)


def test_the_intent_that_serves_is_named_where_validation_chose_it(tmp_path):
    report = make_report() | {"intent_check": {"text": "the shares <of> the history serve"}}
    page = page_of(tmp_path, make_run(tmp_path / "chosen", report))
    assert "the shares &lt;of&gt; the history serve." in page
    assert "serve." not in page_of(tmp_path, make_run(tmp_path / "learned"))


def test_alphas_are_written_on_the_first_run_that_has_quotas(tmp_path):
    plain, quotas = make_run(tmp_path / "plain", clusters=1, weights=False), make_run(tmp_path / "dnc", weights=False)
    labels = re.findall(r'<text class="label"[^>]*>([^<]*)<', page_of(tmp_path, plain, quotas))
    assert set(labels) == {"0", "1", "4"}


def test_recall_against_spread_shows_alphas_floors_and_merges(full_page, old_page):
    section = full_page[full_page.index('<section id="spread">') : full_page.index('<section id="clusters">')]
    for what in ("alpha 1", "joint, alpha 0.5", "floor 1", "floor 2", "joint merge", "quota, tuned"):
        assert what in section
    for what in ("floor 1", "joint, alpha 0.5"):
        assert what not in old_page


def test_a_method_that_learns_no_vectors_has_no_map(tmp_path):
    counting = [make_run(tmp_path / "a", weights=False), make_run(tmp_path / "b", epochs=0)]
    assert not item_map.item_maps(runs.group_runs(runs.read_runs(counting)))


def test_pages_stay_small(full_page):
    assert len(full_page) < 150_000


def test_seeds_of_one_name_become_mean_and_sample_deviation(full_page):
    # (0.53 + 0.50) / 2 = 0.515, and |0.53 - 0.50| / sqrt(2) = 0.0212.
    assert '<td class="number best">0.5150<span class="std"> ±.0212</span></td>' in full_page
    assert '<td class="number">0.4000</td>' in full_page
    assert "the first seed stands for the others" in full_page
    assert "2 seeds, quota, alpha 1 tuned on validation" in full_page


def test_summaries_keep_what_all_seeds_have():
    found = result_tables.summaries([{"a": 1.0, "b": 3.0}, {"a": 2.0}, {"a": 6.0}])
    assert found == {"a": result_tables.Summary(3.0, pytest.approx(np.sqrt(7)), 3)}  # (4 + 1 + 9) / 2
    assert result_tables.summaries([{"a": 1.0, "b": None, "c": float("nan")}]) == {
        "a": result_tables.Summary(1.0, None, 1)
    }
    assert result_tables.summaries([{"a": 1.0}, {"a": None}]) == {}


@pytest.mark.parametrize("other", [{"epochs": 5, "seed": 2}, {"seed": 1}])
def test_runs_that_are_not_seeds_of_one_experiment_stay_apart(tmp_path, other):
    made = [make_run(tmp_path / "a-seed1", weights=False), make_run(tmp_path / "a-seed2", **other, weights=False)]
    assert [group.name for group in runs.group_runs(runs.read_runs(made))] == ["a-seed1", "a-seed2"]


def test_equal_names_are_told_apart_by_their_paths_and_a_run_counts_once(tmp_path):
    made = [make_run(tmp_path / place / "a", weights=False) for place in ("x", "y")]
    assert [run.label for run in runs.read_runs([*made, made[0]])] == [str(path) for path in made]


def test_different_splits_are_called_so(tmp_path):
    made = [make_run(tmp_path / name) for name in "ab"]
    path = made[1] / "prepare" / "manifest.json"
    path.write_text(path.read_text().replace("0123", "4567"))
    assert "cannot be compared" in page_of(tmp_path, *made)
    assert "cannot be compared" not in page_of(tmp_path, made[0])


def test_runs_of_different_splits_have_no_winner(tmp_path):
    """The best of all rows was bold: a recall on easier test items won."""
    first = [make_run(tmp_path / name, make_report(recall), weights=False) for name, recall in (("a", 0.5), ("b", 0.6))]
    other = make_run(tmp_path / "other", make_report(0.9), weights=False)
    path = other / "prepare" / "manifest.json"
    path.write_text(path.read_text().replace("0123", "4567"))
    table = result_tables.overall_table(runs.group_runs(runs.read_runs([*first, other])))
    best = {
        (row.name, header)
        for row, cells in table.rows
        for header, cell in zip(table.headers, cells, strict=True)
        if cell.best
    }
    assert best == {("b", header) for header in table.headers}
    assert [row.name for row, _ in table.rows].count("most popular items") == 2
    alone = result_tables.overall_table(runs.group_runs(runs.read_runs([first[0], other])))
    assert not any(cell.best for _, cells in alone.rows for cell in cells)


def test_splits_that_are_not_known_are_not_compared(tmp_path):
    made = [make_run(tmp_path / name, make_report(recall), weights=False) for name, recall in (("a", 0.5), ("b", 0.6))]
    for run in made:
        (run / "prepare" / "manifest.json").unlink()
    table = result_tables.overall_table(runs.group_runs(runs.read_runs(made)))
    assert not any(cell.best for _, cells in table.rows for cell in cells)


def test_titles_in_the_lists_of_users_are_data(tmp_path):
    user = {"id": NASTY, "history": [0], "earlier": 0, "heldOut": 0, "intent": [1.0], "lists": {"quota": [[0]]}}
    shown = {"name": NASTY, "clusters": [NASTY], "items": [(NASTY, 0)], "users": [user]}
    groups = runs.group_runs(runs.read_runs([make_run(tmp_path / "a", weights=False)]))
    page = render(groups, UserLists((1.0,), [shown], []))
    Balanced(page)
    [content] = re.findall(r'<script type="application/json" id="listData">(.*)</script>', page)
    assert json.loads(content)["runs"] == [json.loads(json.dumps(shown))]


def test_a_run_without_a_bundle_has_no_lists_and_a_sentence(tmp_path):
    [group] = runs.group_runs(runs.read_runs([make_run(tmp_path / "a", weights=False)]))
    found = user_lists([group], 3)
    assert not found.runs
    [sentence] = found.missing
    assert sentence.startswith("a: Expected a finished bundle in ")
    assert user_lists([group], 0).missing == []


def test_what_is_no_run_or_not_evaluated_is_refused_with_what_to_do(tmp_path, capsys):
    with pytest.raises(UserError, match=r"Expected a run at .* found no config\.yaml"):
        runs.read_run(tmp_path, "nothing")
    made = make_run(tmp_path / "a", weights=False)
    stale = made / "train" / "manifest.json"
    stale.write_text(stale.read_text().replace('"fingerprint": "train"', '"fingerprint": "newer"'))
    with pytest.raises(UserError, match=r"found one of another model: run `tfdnc evaluate .*config\.yaml` first"):
        runs.read_run(made, "a")
    (made / "evaluate" / schema.REPORT).unlink()
    assert main(["report", str(made), "--output", str(tmp_path / "page.html")]) == 2
    assert "found no finished" in capsys.readouterr().err


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    made = make_run(tmp_path / "a", weights=False, clusters=1)
    assert main(["report", str(made), "--output", str(tmp_path / "page.html")]) == 0
    assert "page.html: 1 run, 0.0" in capsys.readouterr().out
    assert main(["report", str(made), "--output", str(tmp_path / "none" / "page.html")]) == 2
    assert "name another file" in capsys.readouterr().err


def test_the_map_shows_the_most_frequent_items(tmp_path, monkeypatch):
    monkeypatch.setattr(item_map, "MAX_POINTS", 12)
    [group] = runs.group_runs(runs.read_runs([make_run(tmp_path / "a")]))
    [drawn] = item_map.item_maps([group])
    assert (drawn.shown, drawn.items) == (12, N)
    assert [title for _, _, title in drawn.titles] == [f"{NASTY} #{i}" for i in range(23, 11, -1)]
    assert [number for _, _, number in drawn.numbers] == [1]  # the second half of the items is cluster 1
    assert all(0 <= x <= item_map.WIDTH and 0 <= y <= item_map.HEIGHT for x, y, _ in drawn.titles)


def test_a_chart_places_numbers_and_keeps_labels_apart():
    marks = [Mark(x, y, 3, "t", "small", label) for x, y, label in ((0, 0, "a"), (0.1, 0, "b"), (10, 5, "c"))]
    chart = draw("y", "x", [Line([(0, 0), (10, 5)], 21)], marks)
    assert chart.paths == [(f"M{chart.left} {chart.bottom}L{chart.right} 10", "line c1")]  # 21 colours start again
    assert [text for _, _, text in chart.labels] == ["a", "c"] or len(chart.labels) < 3
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y, _ in chart.labels)
    assert [text for _, text in chart.x_ticks] == ["0", "2", "4", "6", "8", "10"]


def test_a_chart_of_one_value_has_an_axis():
    chart = draw("y", "x", marks=[Mark(1, 0, 0, "only")])
    assert len(chart.x_ticks) > 1
    assert len(chart.y_ticks) > 1


def test_the_map_of_a_run_of_an_earlier_revision_reads_its_item_vectors(tmp_path):
    """Checkpoints had no table of items, and the vectors under another name."""
    run = runs.read_runs([make_run(tmp_path / "run", weights=False)])[0]
    vectors = np.arange(N * 4, dtype=np.float32).reshape(N, 4)
    old = tf.train.Checkpoint(model=tf.train.Checkpoint(item_embeddings=tf.Variable(vectors)))
    old.write(str(run.path / "train" / schema.WEIGHTS))
    np.testing.assert_array_equal(item_map.read_embeddings(run, read_items(run.path / "cluster")), vectors)
