"""Plots of the documents: drawn from cells, and out of date where the cells say something else."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml

from developer_benchmarks.render_plots import PLOTS, digest_in, shown_of, stale_plots
from developer_benchmarks.render_results import RESULTS, ROOT
from tests.developer_benchmarks.small_results import COMMIT, OTHER, result
from tfdnc.comparison.cells import write_cells
from tfdnc.contracts.errors import UserError


def curve(recall):
    """Figures by alpha, and of one list, of a method with clusters."""
    points = [{"alpha": alpha, "recall@10": recall + alpha, "entropy@10": 2.0 - alpha} for alpha in (0, 1)]
    merge = {"recall@10": recall, "ndcg@10": recall, "entropy@10": 1.0}
    return {"alpha_curve": points, "joint_curve": points, "merge": merge, "merge_method": "joint", "judged_by": "own"}


def measured(seed, recall, seconds, commit=COMMIT, day=2, epochs=(1, 2)):
    found = [{"epoch": i, "cpu_seconds": i * seconds, "val_recall@10": i * recall} for i in epochs]
    return replace(result(seed, commit, recall, day), report=curve(recall), epochs=found)


@pytest.fixture
def place(tmp_path):
    """Writes cells and a description of plots; returns the folder, and a function that does both."""
    results = tmp_path / "results"

    def write(found, **view):
        write_cells(found, "tfdnc compare x", results / "some")
        view = {"draw": "recall_by_cpu", "from": "some", "labels": {"x-dnc": "ours"}, "figure": "recall@10", **view}
        (results / PLOTS).write_text(yaml.safe_dump({"some.png": view}))
        return view

    return SimpleNamespace(results=results, plot=tmp_path / "some.png", write=write)


def test_every_plot_of_the_documents_shows_what_the_cells_say():
    """`python -m developer_benchmarks.render_results` draws them anew."""
    assert stale_plots(RESULTS, write=False) == []
    texts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    for name in yaml.safe_load((RESULTS / PLOTS).read_text()):
        assert f"{name})" in texts


def test_a_curve_has_the_means_over_the_seeds_of_the_latest_code(place):
    """Of epochs that all seeds have validated."""
    found = [measured(1, 0.2, 10), measured(2, 0.4, 20, epochs=(1, 2, 3)), measured(1, 0.9, 99, OTHER, day=1)]
    view = place.write(found)
    shown = shown_of(view, place.results)
    assert shown == {"figure": "recall@10", "curves": {"ours": [[15.0, 0.3], [30.0, 0.6]]}}
    of_alpha = shown_of(view | {"draw": "alpha_curve"}, place.results)
    assert of_alpha["joint_curve"] == of_alpha["alpha_curve"]
    assert of_alpha["alpha_curve"][1] == {"alpha": 1, "recall@10": 1.3, "entropy@10": 1.0}
    assert of_alpha["merge"] == {"recall@10": 0.3, "ndcg@10": 0.3, "entropy@10": 1.0}


@pytest.mark.parametrize("draw", ["recall_by_cpu", "alpha_curve"])
def test_a_plot_is_out_of_date_until_it_is_drawn_from_the_cells_that_are_there(place, draw):
    place.write([measured(1, 0.2, 10)], draw=draw)
    assert (stale_plots(place.results, write=False), place.plot.exists()) == ([place.plot], False)
    assert stale_plots(place.results, write=True) == [place.plot]
    drawn = place.plot.read_bytes()
    assert stale_plots(place.results, write=True) == []
    assert place.plot.read_bytes() == drawn
    place.write([measured(2, 0.4, 10)], draw=draw)
    assert stale_plots(place.results, write=False) == [place.plot]
    assert len(digest_in(place.plot)) == 64


def test_what_the_cells_lack_is_an_error(place):
    view = place.write([measured(1, 0.2, 10, epochs=())])
    with pytest.raises(UserError, match=r"Expected epochs in x-dnc-seed1-.*\.json, found none"):
        shown_of(view, place.results)
    with pytest.raises(UserError, match=r"Expected cells of absent in .*some: plots\.yaml names them"):
        shown_of(view | {"labels": {"absent": "x"}}, place.results)
    place.write([replace(measured(3, 0.2, 10), label="one", report=curve(0.2) | {"alpha_curve": []})])
    with pytest.raises(UserError, match="Expected a method with clusters for a curve of alpha, got one"):
        shown_of(view | {"draw": "alpha_curve", "labels": {"one": "x"}}, place.results)
