"""A job may be killed at any change of the disk: the next run removes its files and writes the same bytes."""

import json
import multiprocessing
import shutil
import signal
from pathlib import Path

import dying
import numpy as np
import pytest
import yaml

from tfdnc.clustering.log import read_training_log
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError

POINTS = [0.0, 0.35, 0.7, 1.0]
"""Points at which the default suite kills a command, as shares of its changes; the slow one takes every change."""


@pytest.fixture(scope="module")
def processes():
    """Forks one process that has imported the jobs, so that a killed run does not cost the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["dying", "beam_jobs.sequences", "beam_jobs.examples", "tfdnc.cli.main", "tfdnc.clustering"]
    )
    return context


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Writes a log with malformed rows and the config of an experiment on it."""
    folder = tmp_path_factory.mktemp("input")
    rng = np.random.default_rng(5)
    rows = [f"{user},{item},{time}" for user, item, time in zip(*rng.integers(0, 40, (3, 1500)), strict=True)]
    rows[7] = "broken"
    (folder / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    data = {"path": str(folder / "log.csv"), "num_shards": 4, "max_malformed_share": 0.5}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "data": data, "cluster": {"method": "random", "num_clusters": 3}}))
    return path


@pytest.fixture(scope="module")
def perform(processes, tmp_path_factory):
    """Runs a command in a process of its own, which may be killed before its end."""
    note = tmp_path_factory.mktemp("notes") / "changes"

    def run(command, arguments, folder, die_at=0):
        """Returns the exit code, the changes if it was not killed, and its output."""
        process = processes.Process(target=dying.run, args=(command, list(map(str, arguments)), folder, die_at, note))
        process.start()
        process.join(120)
        assert process.exitcode is not None, "still running after two minutes"
        changes = note.read_text().splitlines() if process.exitcode == 0 else None
        return process.exitcode, changes, note.with_suffix(".screen").read_text()

    return run


@pytest.fixture(scope="module")
def prepared(perform, config, tmp_path_factory):
    """Makes a folder with the input of the examples job: the output of prepare and cluster."""
    runs = tmp_path_factory.mktemp("runs")
    assert perform("tfdnc.cli.main", ["cluster", config, "--runs", runs], runs)[0] == 0
    return runs / "mine"


@pytest.fixture(
    params=["sequences", "examples", "tfdnc prepare", "tfdnc prepare --set data.keep_read_days=3", "tfdnc examples"]
)
def command(request, config, prepared):
    """Returns a function from the folder to work in to the (module, arguments) of one command."""

    def arguments(folder: Path):
        if request.param.startswith("tfdnc"):
            _, station, *flags = request.param.split()
            return "tfdnc.cli.main", [station, config, "--runs", folder, *flags]
        inputs = [
            "--sequences",
            prepared / "prepare" / schema.SEQUENCES,
            "--items",
            prepared / "cluster" / schema.ITEMS,
        ]
        return f"beam_jobs.{request.param}", [
            *("--config", config, "--output", folder / "output"),
            *(inputs if request.param == "examples" else []),
        ]

    return arguments


def content(folder):
    """Returns {relative path: bytes} of all files in a folder, without what manifests say of the work itself."""
    found = {}
    for path in folder.rglob("*"):
        data = path.read_bytes() if path.is_file() else None
        if path.name == "manifest.json":
            manifest = json.loads(data)
            manifest.pop("seconds")
            manifest.pop("made", None)  # when, and by which commit
            manifest["figures"].pop("seconds", None)
            manifest["figures"].get("kept_reads", {}).pop("reused", None)
            data = json.dumps(manifest)
        found[str(path.relative_to(folder))] = data
    return found


def kill_and_run_again(perform, command, tmp_path, points):
    """Kills a command at shares of its changes (None: at every change), runs it again, and compares the output."""
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    quiet.mkdir()
    code, changes, screen = perform(*command(quiet), quiet)
    assert code == 0, screen
    assert len(changes) > 10
    expected = content(quiet)
    last = len(changes) - 1
    for die_at in range(1, last + 2) if points is None else [1 + round(share * last) for share in points]:
        killed.mkdir()
        assert perform(*command(killed), killed, die_at)[0] == -signal.SIGKILL
        left = content(killed)
        # A file with its final name is complete; names of others, or of their folders, begin with a dot.
        assert {path: data for path, data in left.items() if not f"/{path}".count("/.")}.items() <= expected.items()
        code, _, screen = perform(*command(killed), killed)
        assert code == (2 if "output" in left else 0), screen  # a finished output is not made again
        assert content(killed) == expected, f"killed before {changes[die_at - 1]}"
        shutil.rmtree(killed)


def test_a_killed_command_leaves_nothing_and_ends_the_same(perform, command, tmp_path):
    kill_and_run_again(perform, command, tmp_path, POINTS)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_command_killed_at_any_change_leaves_nothing_and_ends_the_same(perform, command, tmp_path):
    kill_and_run_again(perform, command, tmp_path, None)


def test_a_half_written_folder_is_refused_by_the_next_job(perform, config, prepared, tmp_path):
    output = ["--output", tmp_path / "prepared"]
    _, changes, _ = perform("beam_jobs.sequences", ["--config", config, *output], tmp_path)
    [third] = [n for n, change in enumerate(changes, 1) if "os.rename" in change and "part-00002" in change]
    shutil.rmtree(tmp_path / "prepared")
    assert perform("beam_jobs.sequences", ["--config", config, *output], tmp_path, third)[0] == -signal.SIGKILL
    [half] = tmp_path.rglob(schema.SEQUENCES)
    arguments = ["--config", config, "--output", tmp_path / "examples", "--items", prepared / "cluster" / schema.ITEMS]
    code, _, screen = perform("beam_jobs.examples", [*arguments, "--sequences", half], tmp_path)
    assert code == 2
    assert (
        f"Expected the 4 files part-00000-of-00004.parquet .. part-00003-of-00004.parquet in {half}, found 2" in screen
    )
    assert not (tmp_path / "examples").exists()
    with pytest.raises(UserError, match=r"Expected the 4 files .* found 2 .*; run `tfdnc prepare` first"):
        read_training_log(half.parent, tmp_path)
