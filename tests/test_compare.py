"""`tfdnc compare` on a tiny log: killed, continued, and repeated."""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfdnc.cli.main import main
from tfdnc.comparison.cells import read_cell, read_cells

GENERATE = "generate: {users: 150, items: 60, groups: 4, mean_events: 10, interests_per_user: 2}\n"
COMMON = GENERATE + "data: {num_shards: 1, min_item_events: 1}\nevaluate: {candidates: [5, 10], within_cluster: [5]}\n"
COMMON += "model: {encoder: user_embedding, dim: 8, max_length: 10}\n"  # the smallest graph; nothing here asks for more
METHODS = {
    "tiny-dnc": "cluster: {method: random, num_clusters: 3}\n",
    "tiny-sasrec": "cluster: {method: single, num_clusters: 1}\nexamples: {sampler: uniform}\n",
}
LOSS = {"tiny-dnc": "in_cluster_softmax", "tiny-sasrec": "bce"}


def write_configs(folder):
    paths = []
    for name, text in METHODS.items():
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(f"name: {name}\n{COMMON}{text}train: {{loss: {LOSS[name]}, epochs: 2}}\n")
    return paths


def processes_of(folder):
    """Processes that have the folder among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder) in (path / "cmdline").read_text() and int(path.name) != os.getpid():
                found.append(path.name)
        except OSError:  # gone meanwhile
            continue
    return found


def cells_of(folder):
    return sorted((folder / "runs" / "compare-tiny" / "cells").glob("*.json"))


def logs_of_cells(folder):
    return [
        folder / "runs" / f"{cell.label}-seed{cell.seed}" / "compare.log" for cell in map(read_cell, cells_of(folder))
    ]


def wait_for(condition):
    deadline = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def command(place):
    configs = map(str, write_configs(place))
    return [sys.executable, "-m", "tfdnc.cli.main", "compare", *configs, "--seeds", "1", "2", "--runs", f"{place}/runs"]


@pytest.fixture(scope="module")
def screens(place, command):
    """Output of two runs of the command, after a first one was killed as soon as it had written a cell.

    The second has nothing to do, and does so in this process. No run touches a cell, or works again on its experiment.
    """
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for(lambda: cells_of(place))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    wait_for(lambda: not processes_of(place))
    left = {path: path.stat().st_mtime_ns for path in (*cells_of(place), *logs_of_cells(place))}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    logs = {path: path.read_text() for path in (place / "runs").glob("*/compare.log")}
    with contextlib.redirect_stdout(io.StringIO()) as again:
        assert main(command[3:]) == 0
    assert {path: path.read_text() for path in logs} == logs
    assert {path: path.stat().st_mtime_ns for path in left} == left
    return done.stdout, again.getvalue()


def test_a_killed_comparison_goes_on_with_the_trainings(screens):
    assert "prepare to examples" not in screens[0]
    assert "4 of 4 finished" in screens[0]


def test_the_second_time_there_is_nothing_to_do(screens):
    assert screens[1].startswith("All 4 experiments are finished and up to date.")


def test_the_tables_stand_in_three_formats_with_both_seeds(screens, place):
    output = place / "runs" / "compare-tiny"
    page = (output / "comparison.md").read_text()
    assert "- command: `tfdnc compare" in page
    assert "Relative to tiny-sasrec" in page
    assert "not finished" not in page
    content = json.loads((output / "comparison.json").read_text())
    assert [(one["label"], one["seed"]) for one in content["results"]] == [
        (name, seed) for name in METHODS for seed in (1, 2)
    ]
    means = {}
    for line in csv.DictReader((output / "comparison.csv").open()):
        means[line["table"], line["row"], line["column"]] = (float(line["mean"]), int(line["n"]))
    seeds = [
        json.loads((place / "runs" / f"tiny-dnc-seed{seed}" / "evaluate" / "report.json").read_text())["merge"]
        for seed in (1, 2)
    ]
    mean = sum(figures["recall@10"] for figures in seeds) / 2
    assert means["lists", "tiny-dnc", "recall@10"] == (pytest.approx(mean), 2)


def test_every_experiment_has_one_cell_after_three_runs_of_the_command(screens, place):
    """The cells say by which commit and when they were made, not when they were collected."""
    folder = place / "runs" / "compare-tiny" / "cells"
    cells = read_cells(folder)
    assert [(cell.label, cell.seed) for cell in cells] == [(name, seed) for name in METHODS for seed in (1, 2)]
    assert f"One cell per experiment, to keep: {folder}" in screens[0].replace("\n", "")
    for cell in cells:
        assert cell.command.startswith("tfdnc compare")
        assert cell.report["users"] == 150
        for name in ("train", "evaluate"):
            manifest = json.loads(
                (place / "runs" / f"{cell.label}-seed{cell.seed}" / name / "manifest.json").read_text()
            )
            assert cell.made[name] == manifest["made"]
            assert cell.made[name]["versions"]["tensorflow"]


def test_what_the_methods_share_was_made_once(screens, place):
    manifest = json.loads((place / "runs" / "tiny-sasrec-seed1" / "prepare" / "manifest.json").read_text())
    assert manifest["adopted"] == "tiny-dnc-seed1"


def test_results_of_another_config_are_not_in_the_tables(screens, place, command, capsys):
    """Another budget leaves the finished runs out, and a bad name is refused before anything runs."""
    from tfdnc.comparison.grid import variants_of
    from tfdnc.comparison.results import read_results
    from tfdnc.pipeline import stations

    configs = [place / f"{name}.yaml" for name in METHODS]
    for overrides, expected in ((["train.epochs=3"], 0), ([], 4)):
        found = read_results(variants_of(configs, overrides), [1], place / "runs", stations.stations_of)
        assert len(found) == expected  # seed 2 was not asked for, but is there
    capsys.readouterr()
    assert main([*command[3:], "--set", "train.loss=absent"]) == 2
    screen = capsys.readouterr()
    assert screen.out == ""
    assert "Unknown loss 'absent'" in screen.err
