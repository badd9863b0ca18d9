"""Skipping, redoing and resuming stations."""

import dataclasses
import json

import pytest

from tfdnc.contracts.config import parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.pipeline import engine
from tfdnc.pipeline.engine import Station, lock_run, run_station, standing
from tfdnc.pipeline.fingerprint import RemoteFile


def make_station(name, work, needs=(), resumes=False, files=(), seeded=True):
    return Station(
        name,
        name,
        needs=needs,
        settings=lambda config: {"dim": config.model.dim} if name == "second" else {},
        work=work,
        headline=str,
        files=lambda config, run: list(files),
        resumes=resumes,
        seeded=seeded,
    )


def config(dim=8, seed=1):
    return parse_config({"name": "x", "seed": seed, "model": {"dim": dim}})


class CountingWork:
    """Writes one file, and counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, place):
        self.calls += 1
        (place.output / "result").write_text(str(self.calls))
        return {"calls": self.calls}


@pytest.fixture
def run(tmp_path):
    """One run in a folder of runs of its own: stations look among the run's siblings."""
    return tmp_path / "runs" / "mine"


def test_an_unchanged_station_is_skipped_with_the_figures_it_had(run):
    work = CountingWork()
    station = make_station("first", work)
    assert not run_station(station, config(), run).skipped
    again = run_station(station, config(), run)
    assert again.skipped
    assert again.figures == {"calls": 1}


def test_another_format_of_its_output_makes_a_station_run_again(run):
    """The output of an earlier version passed for up to date until a user forced the station."""
    work = CountingWork()
    station = make_station("first", work)
    run_station(station, config(), run)
    newer = dataclasses.replace(station, format=station.format + 1)
    assert not run_station(newer, config(), run).skipped
    assert run_station(newer, config(), run).skipped


def test_force_runs_it_all_the_same(run):
    work = CountingWork()
    run_station(make_station("first", work), config(), run)
    run_station(make_station("first", work), config(), run, force=True)
    assert work.calls == 2


def test_a_changed_setting_reaches_the_stations_it_concerns_and_no_other(run):
    first_work, second_work = CountingWork(), CountingWork()
    first = make_station("first", first_work)
    second = make_station("second", second_work, needs=(first,))
    for dim in (8, 16):
        run_station(first, config(dim), run)
        run_station(second, config(dim), run)
    assert (first_work.calls, second_work.calls) == (1, 2)


def test_a_changed_input_file_reaches_the_stations_downstream(run):
    log = run.parent.parent / "log.csv"
    first_work, second_work = CountingWork(), CountingWork()
    first = make_station("first", first_work, files=[log])
    second = make_station("second", second_work, needs=(first,))
    for content in ("a", "b"):
        log.write_text(content)
        run_station(first, config(), run)
        run_station(second, config(), run)
    assert (first_work.calls, second_work.calls) == (2, 2)


@pytest.mark.parametrize("changed", ["a/log.csv", "b/log.csv"])
def test_input_files_of_the_same_name_all_count(tmp_path, changed):
    files = [tmp_path / name for name in ("a/log.csv", "b/log.csv")]
    for file in files:
        file.parent.mkdir()
        file.write_text("before")
    work = CountingWork()
    station = make_station("first", work, files=files)
    run_station(station, config(), tmp_path / "run")
    (tmp_path / changed).write_text("after")
    run_station(station, config(), tmp_path / "run")
    assert work.calls == 2


def test_a_remote_input_file_is_known_by_its_size_and_time(run):
    work = CountingWork()
    for file in (
        RemoteFile("gs://bucket/log.csv", 10, 1.5),
        RemoteFile("gs://bucket/log.csv", 10, 1.5),
        RemoteFile("gs://bucket/log.csv", 11, 1.5),
        RemoteFile("gs://bucket/log.csv", 11, 2.5),
        RemoteFile("gs://other/log.csv", 11, 2.5),
    ):
        run_station(make_station("first", work, files=[file]), config(), run)
    assert work.calls == 4


def test_a_station_that_fails_leaves_the_finished_folder_as_it_was(run):
    run_station(make_station("first", CountingWork()), config(), run)

    def fail(place):
        (place.output / "result").write_text("half")
        raise UserError("no")

    with pytest.raises(UserError):
        run_station(make_station("first", fail), config(), run, force=True)
    assert (run / "first" / "result").read_text() == "1"


def test_leftovers_of_a_killed_run_are_removed_unless_the_station_resumes(tmp_path):
    def killed(place):
        (place.output / "progress").write_text("half")
        raise KeyboardInterrupt

    def look(place):
        return {"found": (place.output / "progress").is_file()}

    for resumes, run in ((False, tmp_path / "1" / "mine"), (True, tmp_path / "2" / "mine")):
        with pytest.raises(KeyboardInterrupt):
            run_station(make_station("first", killed, resumes=resumes), config(), run)
        outcome = run_station(make_station("first", look, resumes=resumes), config(), run)
        assert outcome.figures == {"found": resumes}


@pytest.mark.parametrize("finished", [False, True])
def test_folders_of_a_kill_between_two_names_are_removed(run, finished):
    station = make_station("first", CountingWork())
    if finished:
        run_station(station, config(), run)
    for name in (".first.old", ".first.adopted", ".first.unfinished"):
        (run / name).mkdir(parents=True)
        (run / name / "result").write_text("half")
    run_station(station, config(), run)
    assert [path.name for path in run.iterdir()] == ["first"]


def test_progress_made_on_other_inputs_is_not_resumed(run):
    log = run.parent.parent / "log.csv"

    def killed(place):
        (place.output / "progress").write_text("half")
        raise KeyboardInterrupt

    log.write_text("a")
    with pytest.raises(KeyboardInterrupt):
        run_station(make_station("first", killed, resumes=True, files=[log]), config(), run)
    log.write_text("b")
    station = make_station("first", lambda p: {"found": (p.output / "progress").exists()}, resumes=True, files=[log])
    assert run_station(station, config(), run).figures == {"found": False}


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest", "null manifest"])
def test_a_station_whose_files_are_no_longer_whole_runs_again(run, damage):
    work = CountingWork()
    run_station(make_station("first", work), config(), run)
    damaged = run / "first" / ("manifest.json" if "manifest" in damage else "result")
    if damage == "remove":
        damaged.unlink()
    else:
        damaged.write_text("null" if "null" in damage else "")
    assert not run_station(make_station("first", work), config(), run).skipped
    assert run_station(make_station("first", work), config(), run).skipped
    assert work.calls == 2


def test_a_missing_station_or_file_is_named(run):
    first = make_station("first", CountingWork())
    with pytest.raises(UserError, match="run `tfdnc first` first"):
        run_station(make_station("second", CountingWork(), needs=(first,)), config(), run)
    with pytest.raises(UserError, match=r"Expected an input file at .*absent, found none"):
        run_station(make_station("first", CountingWork(), files=[run / "absent"]), config(), run)


def test_the_manifest_says_what_the_result_was_made_of(run):
    log = run.parent.parent / "log.csv"
    log.write_text("a")
    run_station(make_station("second", CountingWork(), files=[log]), config(), run)
    manifest = json.loads((run / "second" / "manifest.json").read_text())
    assert manifest["inputs"]["settings"] == {"dim": 8}
    assert manifest["inputs"]["seed"] == 1
    assert list(manifest["inputs"]["files"]) == ["log.csv"]
    assert manifest["figures"] == {"calls": 1}


def test_a_station_without_a_seed_is_the_same_for_every_seed(run):
    for seeded in (False, True):
        work = CountingWork()
        station = make_station(f"seeded {seeded}", work, seeded=seeded)
        for seed in (1, 2):
            run_station(station, config(seed=seed), run)
        assert work.calls == (2 if seeded else 1)


def test_standing_names_the_leading_stations_that_are_up_to_date(run):
    first = make_station("first", CountingWork())
    second = make_station("second", CountingWork(), needs=(first,))
    assert standing([first, second], config(), run) == {}
    for station in (first, second):
        run_station(station, config(), run)
    assert {name: found["figures"] for name, found in standing([first, second], config(), run).items()} == {
        "first": {"calls": 1},
        "second": {"calls": 1},
    }
    assert list(standing([first, second], config(dim=16), run)) == ["first"]
    absent = make_station("first", CountingWork(), files=[run / "absent"])
    assert standing([absent, second], config(), run) == {}


def test_a_run_belongs_to_one_process_at_a_time(run):
    with lock_run(run), pytest.raises(UserError, match="another tfdnc is at work there"), lock_run(run):
        pass
    with lock_run(run):
        pass


def test_work_that_is_refused_leaves_neither_a_folder_nor_half_a_station(tmp_path):
    """A log that was not there left runs/NAME behind."""

    def refuse(place):
        (place.output / "part").write_text("")
        raise UserError("no")

    def visit(run, resumes=False):
        station = Station("x", "x", (), settings=lambda config: {}, work=refuse, headline=str, resumes=resumes)
        with pytest.raises(UserError, match="no"), lock_run(run):
            run_station(station, config(), run)

    visit(tmp_path / "runs" / "new")
    assert list(tmp_path.iterdir()) == []
    old = tmp_path / "runs" / "old"
    old.mkdir(parents=True)
    visit(old)
    assert [path.name for path in old.iterdir()] == [".lock"]  # a folder that was there before stays
    visit(tmp_path / "runs" / "half", resumes=True)
    assert (tmp_path / "runs" / "half" / ".x.unfinished" / "part").exists()  # a station that resumes keeps its progress


def test_a_lock_whose_folder_went_is_no_lock(run, monkeypatch):
    """Between opening and locking, the process that failed there may have removed its new run."""
    flock = engine.fcntl.flock

    def late(file, how):
        flock(file, how)
        (run / ".lock").unlink()

    run.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(engine.fcntl, "flock", late)
    with pytest.raises(UserError, match="another tfdnc is at work there"):
        lock_run(run).__enter__()


def test_a_run_that_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "log.csv").write_text("")
    with pytest.raises(UserError, match=r"log\.csv/mine to be a folder that can be written to \(--runs\): Not a dir"):
        lock_run(tmp_path / "log.csv" / "mine").__enter__()
