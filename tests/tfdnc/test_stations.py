"""Skipping, redoing and resuming stations."""

import json

import pytest

from tfdnc.config import parse_config
from tfdnc.errors import UserError
from tfdnc.stations import Station, lock_run, run_station


def make_station(name, work, needs=(), resumes=False, files=()):
    return Station(
        name,
        name,
        needs=needs,
        settings=lambda config: {"dim": config.model.dim} if name == "second" else {},
        work=work,
        headline=str,
        files=lambda config, run: list(files),
        resumes=resumes,
    )


def config(dim=8):
    return parse_config({"name": "x", "model": {"dim": dim}})


class CountingWork:
    """Writes one file, and counts how often it was asked to."""

    def __init__(self):
        self.calls = 0

    def __call__(self, place):
        self.calls += 1
        (place.output / "result").write_text(str(self.calls))
        return {"calls": self.calls}


def test_an_unchanged_station_is_skipped_with_the_figures_it_had(tmp_path):
    work = CountingWork()
    station = make_station("first", work)
    assert not run_station(station, config(), tmp_path).skipped
    again = run_station(station, config(), tmp_path)
    assert again.skipped
    assert again.figures == {"calls": 1}


def test_force_runs_it_all_the_same(tmp_path):
    work = CountingWork()
    run_station(make_station("first", work), config(), tmp_path)
    run_station(make_station("first", work), config(), tmp_path, force=True)
    assert work.calls == 2


def test_a_changed_setting_reaches_the_stations_it_concerns_and_no_other(tmp_path):
    first_work, second_work = CountingWork(), CountingWork()
    first = make_station("first", first_work)
    second = make_station("second", second_work, needs=(first,))
    for dim in (8, 16):
        run_station(first, config(dim), tmp_path)
        run_station(second, config(dim), tmp_path)
    assert (first_work.calls, second_work.calls) == (1, 2)


def test_a_changed_input_file_reaches_the_stations_downstream(tmp_path):
    log = tmp_path / "log.csv"
    first_work, second_work = CountingWork(), CountingWork()
    first = make_station("first", first_work, files=[log])
    second = make_station("second", second_work, needs=(first,))
    for content in ("a", "b"):
        log.write_text(content)
        run_station(first, config(), tmp_path)
        run_station(second, config(), tmp_path)
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


def test_a_station_that_fails_leaves_the_finished_folder_as_it_was(tmp_path):
    run_station(make_station("first", CountingWork()), config(), tmp_path)

    def fail(place):
        (place.output / "result").write_text("half")
        raise UserError("no")

    with pytest.raises(UserError):
        run_station(make_station("first", fail), config(), tmp_path, force=True)
    assert (tmp_path / "first" / "result").read_text() == "1"


def test_leftovers_of_a_killed_run_are_removed_unless_the_station_resumes(tmp_path):
    def killed(place):
        (place.output / "progress").write_text("half")
        raise KeyboardInterrupt

    def look(place):
        return {"found": (place.output / "progress").is_file()}

    for resumes in (False, True):
        run = tmp_path / str(resumes)
        with pytest.raises(KeyboardInterrupt):
            run_station(make_station("first", killed, resumes=resumes), config(), run)
        outcome = run_station(make_station("first", look, resumes=resumes), config(), run)
        assert outcome.figures == {"found": resumes}


def test_progress_made_on_other_inputs_is_not_resumed(tmp_path):
    log = tmp_path / "log.csv"

    def killed(place):
        (place.output / "progress").write_text("half")
        raise KeyboardInterrupt

    log.write_text("a")
    with pytest.raises(KeyboardInterrupt):
        run_station(make_station("first", killed, resumes=True, files=[log]), config(), tmp_path)
    log.write_text("b")
    station = make_station("first", lambda p: {"found": (p.output / "progress").exists()}, resumes=True, files=[log])
    assert run_station(station, config(), tmp_path).figures == {"found": False}


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest", "null manifest"])
def test_a_station_whose_files_are_no_longer_whole_runs_again(tmp_path, damage):
    work = CountingWork()
    run_station(make_station("first", work), config(), tmp_path)
    damaged = tmp_path / "first" / ("manifest.json" if "manifest" in damage else "result")
    if damage == "remove":
        damaged.unlink()
    else:
        damaged.write_text("null" if "null" in damage else "")
    assert not run_station(make_station("first", work), config(), tmp_path).skipped
    assert run_station(make_station("first", work), config(), tmp_path).skipped
    assert work.calls == 2


def test_a_missing_station_or_file_is_named(tmp_path):
    first = make_station("first", CountingWork())
    with pytest.raises(UserError, match="run `tfdnc first` first"):
        run_station(make_station("second", CountingWork(), needs=(first,)), config(), tmp_path)
    with pytest.raises(UserError, match=r"Expected an input file at .*absent, found none"):
        run_station(make_station("first", CountingWork(), files=[tmp_path / "absent"]), config(), tmp_path)


def test_the_manifest_says_what_the_result_was_made_of(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("a")
    run_station(make_station("second", CountingWork(), files=[log]), config(), tmp_path)
    manifest = json.loads((tmp_path / "second" / "manifest.json").read_text())
    assert manifest["inputs"]["settings"] == {"dim": 8}
    assert manifest["inputs"]["seed"] == 1
    assert list(manifest["inputs"]["files"]) == ["log.csv"]
    assert manifest["figures"] == {"calls": 1}


def test_a_run_belongs_to_one_process_at_a_time(tmp_path):
    with lock_run(tmp_path), pytest.raises(UserError, match="another tfdnc is at work there"), lock_run(tmp_path):
        pass
    with lock_run(tmp_path):
        pass
