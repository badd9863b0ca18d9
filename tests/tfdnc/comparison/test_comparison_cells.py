"""Cells of a comparison: one file per experiment, never overwritten, refused when edited."""

import json
from dataclasses import replace

import pytest

from tfdnc.comparison.cells import commits_of, earlier_cells, read_cells, write_cells
from tfdnc.comparison.results import Result
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
    assert content["config"]["cluster"]["num_clusters"] == 10  # a default


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
