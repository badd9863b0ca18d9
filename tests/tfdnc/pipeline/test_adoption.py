"""Adoption of finished stations of another run."""

import json
import os
import shutil

import pytest

from tfdnc.contracts.config import parse_config
from tfdnc.pipeline import manifests, stations
from tfdnc.pipeline.engine import Station, run_station
from tfdnc.pipeline.manifests import read_manifest

CONFIG = parse_config({"name": "x"})


class Work:
    """Writes a file, one in a folder, and an empty folder; counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, place):
        self.calls += 1
        (place.output / "result").write_text("content")
        (place.output / "shards").mkdir()
        (place.output / "shards" / "part").write_text("shard")
        (place.output / "none").mkdir()
        return {"calls": self.calls}


def make_station(work, folder="first", **options):
    return Station(
        folder, folder, needs=(), settings=lambda c: {"dim": c.model.dim}, work=work, headline=str, **options
    )


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def visit(station, run, config=CONFIG, **options):
    return run_station(station, config, run, **options)


def test_a_sibling_with_the_same_fingerprint_is_adopted_by_links(runs):
    work = Work()
    made = visit(make_station(work), runs / "a")
    adopted = visit(make_station(work), runs / "b")
    assert (made.adopted, adopted.adopted) == (None, "a")
    assert adopted.skipped
    assert adopted.figures == made.figures == {"calls": 1}
    for name in ("result", "shards/part"):
        assert (runs / "b/first" / name).stat().st_ino == (runs / "a/first" / name).stat().st_ino
    assert (runs / "b/first/none").is_dir()
    assert [path.name for path in (runs / "b").iterdir()] == ["first"]
    assert visit(make_station(work), runs / "b").adopted is None  # from now on its own


def test_the_manifest_names_the_source_and_is_no_link(runs):
    visit(make_station(Work()), runs / "a")
    visit(make_station(Work()), runs / "b")
    assert read_manifest(runs / "b/first")["adopted"] == "a"
    assert "adopted" not in read_manifest(runs / "a/first")


def test_deleting_or_redoing_one_run_harms_no_other(runs):
    station = make_station(Work())
    for name in "abc":
        visit(station, runs / name)
    shutil.rmtree(runs / "a")
    visit(station, runs / "b", force=True)
    assert read_manifest(runs / "c/first")
    assert (runs / "c/first/result").read_text() == "content"


def test_another_station_of_the_same_run_can_be_adopted(runs):
    visit(make_station(Work(), "cluster"), runs / "a")
    adopted = visit(make_station(Work(), "judge"), runs / "a")
    assert adopted.adopted == "a/cluster"
    assert read_manifest(runs / "a/judge")["station"] == "judge"
    assert visit(make_station(Work(), "judge"), runs / "b").adopted == "a/cluster"


def test_files_are_copied_if_links_fail(runs, monkeypatch):
    def no_links(*_):
        raise OSError("Invalid cross-device link")

    visit(make_station(Work()), runs / "a")
    monkeypatch.setattr(os, "link", no_links)
    assert visit(make_station(Work()), runs / "b").adopted == "a"
    assert (runs / "b/first/result").stat().st_ino != (runs / "a/first/result").stat().st_ino
    assert (runs / "b/first/result").read_text() == "content"


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest"])
def test_a_damaged_sibling_is_ignored(runs, damage):
    visit(make_station(Work()), runs / "a")
    damaged = runs / "a/first" / ("manifest.json" if damage == "manifest" else "shards/part")
    damaged.unlink() if damage == "remove" else damaged.write_text("")
    assert visit(make_station(Work()), runs / "b").adopted is None
    shutil.rmtree(runs / "b")
    visit(make_station(Work()), runs / "z")
    assert visit(make_station(Work()), runs / "b").adopted == "z"


def test_another_fingerprint_force_and_stations_of_their_own_adopt_nothing(runs):
    visit(make_station(Work()), runs / "a")
    other = parse_config({"name": "x", "model": {"dim": 8}})
    assert not visit(make_station(Work()), runs / "b", other).skipped
    assert not visit(make_station(Work()), runs / "c", force=True).skipped
    assert not visit(make_station(Work(), adopts=False), runs / "d").skipped


def test_unfinished_and_outdated_folders_are_not_adopted(runs):
    visit(make_station(Work()), runs / "a")
    for name in (".first.unfinished", ".first.old"):
        (runs / "a/first").rename(runs / "a" / name)
        assert not visit(make_station(Work()), runs / name[1:]).skipped
        shutil.rmtree(runs / name[1:])
        (runs / "a" / name).rename(runs / "a/first")


def test_a_folder_that_vanishes_while_it_is_looked_at_is_not_finished(runs, monkeypatch):
    def vanishing(folder):
        raise FileNotFoundError(folder)

    visit(make_station(Work()), runs / "a")
    monkeypatch.setattr(manifests, "file_sizes", vanishing)
    assert read_manifest(runs / "a/first") is None


@pytest.mark.parametrize("event", ["deleted", "replaced"])
def test_a_sibling_that_vanishes_while_it_is_adopted_is_no_error(runs, monkeypatch, event):
    visit(make_station(Work()), runs / "a")
    link = os.link

    def meanwhile(path, place):
        if event == "deleted":
            shutil.rmtree(runs / "a", ignore_errors=True)
        else:
            manifest = json.loads((runs / "a/first/manifest.json").read_text())
            (runs / "a/first/manifest.json").write_text(json.dumps(manifest | {"fingerprint": "another"}))
        link(path, place)

    monkeypatch.setattr(os, "link", meanwhile)
    outcome = visit(make_station(Work()), runs / "b")
    assert (outcome.skipped, outcome.adopted) == (False, None)
    assert sorted(path.name for path in (runs / "b").iterdir()) == ["first"]


def test_progress_of_a_killed_run_is_removed_when_a_finished_result_is_adopted(runs):
    def killed(place):
        (place.output / "progress").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        visit(make_station(killed, resumes=True), runs / "b")
    visit(make_station(Work()), runs / "a")
    assert visit(make_station(Work(), resumes=True), runs / "b").adopted == "a"
    assert [path.name for path in (runs / "b").iterdir()] == ["first"]


def test_seeds_share_the_preparation_and_no_bundle_is_shared():
    assert [station.name for station in stations.stations_of(CONFIG) if not station.seeded] == ["prepare"]
    assert [station.name for station in stations.stations_of(CONFIG) if not station.adopts] == ["export"]


def test_a_bundle_is_made_of_the_training_and_not_of_the_figures_about_it():
    """Other `evaluate.floors` made a new version of a bundle that had not changed."""
    assert stations.EXPORT.needs == (stations.TRAIN,)
    other = parse_config({"name": "x", "evaluate": {"floors": [1]}})
    assert stations.EXPORT.settings(other) == stations.EXPORT.settings(CONFIG)
    assert stations.EVALUATE.settings(other) != stations.EVALUATE.settings(CONFIG)
