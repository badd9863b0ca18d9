"""Cells of a comparison: one file per experiment, never overwritten, refused when edited."""

import json
from dataclasses import replace

import pytest

from tfdnc.comparison.cells import _digest, commits_of, earlier_cells, marked, present_cells, read_cells, write_cells
from tfdnc.comparison.results import Result, validated_epochs
from tfdnc.contracts.config import parse_config
from tfdnc.contracts.errors import UserError

COMMAND = "tfdnc compare x.yaml"


def made(commit="a" * 40, changed=False, day=1):
    return {name: {"commit": commit, "changed": changed, "date": f"2026-11-0{day}"} for name in ("train", "evaluate")}


def result(seed=1, split="s", folder="/home/me", provenance=None, **settings):
    values = {"name": f"x-seed{seed}", "seed": seed, "data": {"path": f"{folder}/log.csv"}, **settings}
    report = {"merge": {"recall@10": 0.25}, "judged_by": None}
    return Result("x", seed, report, {"cpu_seconds": 7.5}, split, parse_config(values), provenance or made())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_cell_holds_all_that_its_figures_depend_on(tmp_path):
    [path] = write_cells([result()], COMMAND, tmp_path)
    [cell] = read_cells(tmp_path)
    assert (cell.path, cell.label, cell.seed, cell.split, cell.command) == (path, "x", 1, "s", COMMAND)
    assert (cell.report["merge"], cell.training) == ({"recall@10": 0.25}, {"cpu_seconds": 7.5})
    assert (cell.commit, cell.date) == ("aaaaaaa", "2026-11-01")
    content = json.loads(path.read_text())
    assert content["config"]["data"]["path"] == "log.csv"  # no folder of this machine
    assert content["config"]["cluster"]["num_clusters"] == "auto"  # a default


def test_the_same_result_is_one_cell_wherever_the_log_lies(tmp_path):
    first = write_cells([result()], COMMAND, tmp_path)
    assert write_cells([result(folder="/elsewhere")], "another command", tmp_path) == first
    [cell] = read_cells(tmp_path)
    assert cell.command == COMMAND


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (result(train={"epochs": 3}), "of another config"),
        (result(split="t"), "of another split"),
        (result(provenance=made("b" * 40)), "of another commit"),
        (result(provenance=made(changed=True)), "of another commit"),
        (result(provenance=made(day=2)), "an earlier run"),
    ],
)
def test_a_changed_experiment_leaves_the_earlier_cell_and_names_the_difference(tmp_path, other, reason):
    [old] = write_cells([result()], COMMAND, tmp_path)
    text = old.read_text()
    current = write_cells([other], COMMAND, tmp_path)
    assert (old.read_text(), len(names(tmp_path))) == (text, 2)
    assert earlier_cells(tmp_path, current) == [f"{old.name}: {reason}, commit aaaaaaa, 2026-11-01"]


def test_a_cell_of_an_experiment_that_is_not_asked_for_is_no_earlier_one(tmp_path):
    write_cells([result(seed=2)], COMMAND, tmp_path)
    assert earlier_cells(tmp_path, write_cells([result()], COMMAND, tmp_path)) == []


def test_a_run_from_before_provenance_was_recorded_has_an_unknown_commit(tmp_path):
    write_cells([replace(result(), made={})], COMMAND, tmp_path)
    [cell] = read_cells(tmp_path)
    assert (cell.commit, cell.date) == ("unknown", "")


def test_several_commits_are_said_to_be_several(tmp_path):
    write_cells([result(), result(2, provenance=made("b" * 40))], COMMAND, tmp_path)
    assert commits_of(read_cells(tmp_path)).startswith("aaaaaaa, bbbbbbb (SEVERAL")
    assert commits_of(read_cells(tmp_path)[:1]) == "aaaaaaa"


def test_a_cell_has_the_validated_epochs_with_the_seconds_up_to_their_end(tmp_path):
    history = [{"epoch": epoch, "loss": 1.0, "cpu_seconds": 2.25} for epoch in (1, 2, 3, 4)]
    history[1] |= {"val_recall@10": 0.2}
    history[3] |= {"val_recall@10": 0.3}
    (tmp_path / "history.json").write_text(json.dumps(history))
    epochs = validated_epochs(tmp_path / "history.json")
    assert epochs == [
        {"epoch": 2, "cpu_seconds": 4.5, "val_recall@10": 0.2},
        {"epoch": 4, "cpu_seconds": 9.0, "val_recall@10": 0.3},
    ]
    write_cells([replace(result(), epochs=epochs)], COMMAND, tmp_path / "cells")
    assert [cell.epochs for cell in read_cells(tmp_path / "cells")] == [epochs]


def without_epochs(path):
    """Rewrites a cell as an earlier version did, and returns its file."""
    content = json.loads(path.read_text())
    del content["epochs"]
    digest = _digest({key: value for key, value in content.items() if key != "command"})
    old = path.with_name(f"x-seed1-{digest[:8]}.json")
    old.write_text(json.dumps(content))
    return old


def test_a_cell_that_an_earlier_version_wrote_of_the_same_run_is_no_further_seed(tmp_path):
    [path] = write_cells([result()], COMMAND, tmp_path / "written")
    old = without_epochs(path)
    assert [cell.epochs for cell in read_cells(tmp_path / "written")] == [[], []]
    with pytest.raises(UserError, match=r"Expected one cell of a run, found .*: remove the older file"):
        marked(read_cells(tmp_path / "written"))
    path.unlink()
    assert write_cells([result()], COMMAND, tmp_path / "written") == [path]
    assert not old.exists()


def test_present_cells_are_those_of_the_latest_code_and_of_the_latest_run_of_a_seed(tmp_path):
    results = [result(provenance=made("b" * 40)), result(provenance=made(day=2)), result(provenance=made(day=3))]
    write_cells([*results, result(seed=2, provenance=made(day=2))], COMMAND, tmp_path)
    found = present_cells(read_cells(tmp_path))
    assert [(cell.seed, cell.date) for cell in found] == [(1, "2026-11-03"), (2, "2026-11-02")]


def test_an_edited_figure_is_refused(tmp_path):
    [path] = write_cells([result()], COMMAND, tmp_path)
    path.write_text(path.read_text().replace("0.25", "0.35"))
    with pytest.raises(UserError, match="measured figures are not edited"):
        read_cells(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"cell": 1}', "null"])
def test_another_file_is_no_cell(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match="Expected a cell"):
        read_cells(tmp_path)


def test_an_unfinished_cell_is_not_read(tmp_path):
    (tmp_path / ".x-seed1.json.unfinished").write_text("{")
    assert read_cells(tmp_path) == []
