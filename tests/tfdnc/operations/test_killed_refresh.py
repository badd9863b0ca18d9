"""A refresh may be killed at any change of the disk: every version is whole, and the next refresh tidies up."""

import json
import multiprocessing
import shutil
import signal
import subprocess
import sys

import pytest

from developer_benchmarks.refresh import write_newer
from serving.bundles.bundle import models_in
from serving.bundles.verify import verify
from tests.beam_jobs import dying
from tests.tfdnc.operations.plain_run import SIZE, make_plain_run, plain_refresh
from tfdnc.contracts import bundle, schema
from tfdnc.contracts.config import load_config
from tfdnc.pipeline import stations
from tfdnc.pipeline.engine import run_station
from tfdnc.pipeline.manifests import read_manifest

FILES = {"saved_model.pb", bundle.MANIFEST_ASSET, schema.VERSION_ITEMS}


@pytest.fixture
def newer(tmp_path):
    return str(tmp_path / "newer.csv")


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_kill_at_any_change_of_the_disk_leaves_whole_versions(tmp_path, newer):
    run = make_plain_run(tmp_path)
    write_newer(tmp_path / "items.csv", tmp_path / "newer.csv", 3, 2, 1, SIZE.clusters)
    assert plain_refresh(run, newer)["version"] == 2
    command = [sys.executable, "-m", "tests.tfdnc.operations.killed_refresh", run, newer]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    ends = [line.split() for line in done.stdout.splitlines()]
    assert {status for status, _ in ends[:-1]} == {str(-signal.SIGKILL)}, done.stderr
    assert ends[-1][0] == "0", done.stderr
    assert len(ends) > 10
    seen = set()
    for _, folder in ends:
        killed = run.with_name(folder.rpartition("/")[2])
        versions = models_in(killed / stations.EXPORT.folder)
        seen.add(frozenset(versions))
        assert all(names(path) >= FILES for number, path in versions.items() if number > 1)
        # The station is still finished, so that `tfdnc run` does not export again.
        assert read_manifest(killed / stations.EXPORT.folder)
        figures = plain_refresh(killed, newer)
        assert figures["version"] == max(versions) + 1
        assert {path.name for path in (killed / stations.EXPORT.folder).iterdir()} == {
            "manifest.json",
            *map(str, models_in(killed / stations.EXPORT.folder)),
        }
    # With keep=1 the refreshed version before is removed after the new one is there.
    assert seen == {frozenset({1, 2}), frozenset({1, 2, 3}), frozenset({1, 3})}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_real_refresh_killed_at_any_change_leaves_versions_that_answer(tmp_path, newer):
    run = make_plain_run(tmp_path, encoder="transformer")
    shutil.rmtree(run / stations.EXPORT.folder)
    run_station(stations.EXPORT, load_config(run / schema.RUN_CONFIG), run)
    write_newer(tmp_path / "items.csv", tmp_path / "newer.csv", 3, 2, 1, SIZE.clusters)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.beam_jobs.dying", "tfdnc.cli.main", "tfdnc.operations.refresh"])
    note, states, die_at, code = tmp_path / "note", set(), 1, -signal.SIGKILL
    while code == -signal.SIGKILL:
        killed = tmp_path / "killed"
        shutil.copytree(run, killed)
        arguments = ["refresh", str(killed), "--items", newer]
        process = processes.Process(target=dying.run, args=("tfdnc.cli.main", arguments, killed, die_at, note))
        process.start()
        process.join(300)
        code, versions = process.exitcode, models_in(killed / stations.EXPORT.folder)
        if frozenset(versions) not in states:  # one fresh process per state is enough
            states.add(frozenset(versions))
            assert all(verify(path).mismatch == "" for path in versions.values())
            assert json.loads((versions[max(versions)] / bundle.MANIFEST_ASSET).read_text())["items"] in (12, 13)
        shutil.rmtree(killed)
        die_at += 1
    assert (code, states) == (0, {frozenset({1}), frozenset({1, 2})})
