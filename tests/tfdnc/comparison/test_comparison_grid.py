"""Configs x seeds -> experiments, and what is shown of them."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from tfdnc.cli.compare import common_name
from tfdnc.comparison.grid import expand, seeds_in, variants_of
from tfdnc.comparison.jobs import Ending, Job
from tfdnc.comparison.progress import LineLog, LiveTable, clock, read_epochs, seconds_left
from tfdnc.contracts.errors import UserError
from tfdnc.pipeline import stations


@pytest.fixture
def configs(tmp_path):
    for name in ("x-dnc", "x-mf"):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\ntrain: {{epochs: 10}}")
    return [tmp_path / "x-dnc.yaml", tmp_path / "x-mf.yaml"]


def test_the_first_seed_comes_first_for_every_config(configs):
    made = expand(variants_of(configs, ["model.dim=8"]), [2, 1, 2])
    assert [one.name for one in made] == ["x-dnc-seed2", "x-mf-seed2", "x-dnc-seed1", "x-mf-seed1"]
    assert [one.label for one in made[:2]] == ["x-dnc", "x-mf"]
    assert {(one.config.seed, one.config.model.dim) for one in made} == {(1, 8), (2, 8)}


def test_a_station_is_told_what_makes_the_experiment(configs):
    [one, _] = expand(variants_of(configs, ["model.dim=8"]), [7])
    expected = [str(configs[0]), "--set", "model.dim=8", "--set", "name=x-dnc-seed7", "--set", "seed=7", "--runs", "r"]
    assert one.arguments(Path("r")) == expected


def test_two_configs_of_one_name_are_refused(configs):
    with pytest.raises(UserError, match="both called 'x-dnc'"):
        variants_of([configs[0], configs[0]], [])
    with pytest.raises(UserError, match="both called 'y'"):
        variants_of(configs, ["name=y"])


def test_a_bad_seed_or_key_is_refused_before_anything_runs(configs):
    with pytest.raises(UserError, match="seed"):
        expand(variants_of(configs, []), [-1])
    with pytest.raises(UserError, match="unknown key"):
        variants_of(configs, ["modle.dim=8"])


def test_a_name_that_is_set_names_the_runs_and_a_seed_that_is_set_is_refused(configs):
    [one] = expand(variants_of(configs[:1], ["name=y"]), [7])
    assert one.name == "y-seed7"
    with pytest.raises(UserError, match="Expected --seeds to say which seeds are run, got --set seed="):
        expand(variants_of(configs, ["seed=3"]), [7])


def test_earlier_seeds_are_found_by_the_names_of_their_runs(configs, tmp_path):
    runs = tmp_path / "runs"
    for name in ("x-dnc-seed10", "x-dnc-seed2", "x-dnc-seed02", "x-dnc-seedy", "x-dnc", "x-dnc-seed99999999999"):
        (runs / name).mkdir(parents=True)
    [variant, _] = variants_of(configs, [])
    assert seeds_in(runs, variant) == [2, 10]
    assert seeds_in(tmp_path / "absent", variant) == []


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["ml1m-dnc", "ml1m-sasrec"], "ml1m"),
        (["ml1m-dnc", "ml1m-dnc_naive"], "ml1m"),
        (["a", "b"], ""),
        (["a-b"], "a-b"),
    ],
)
def test_the_output_is_named_after_what_the_configs_have_in_common(labels, expected):
    assert common_name(labels) == expected


def test_epochs_are_read_while_they_are_written(tmp_path):
    assert read_epochs(tmp_path) == (0, 0.0)
    log = tmp_path / "epochs.jsonl"
    log.write_text('{"epoch": 1, "cpu_seconds": 2.0}\n{"epoch": 2, "cpu_seconds": 4.0}\n')
    assert read_epochs(tmp_path) == (2, 6.0)
    log.write_text('{"epoch": 1, "cpu_sec')
    assert read_epochs(tmp_path) == (0, 0.0)


def test_the_rest_is_shared_among_the_lanes_but_no_shorter_than_the_longest():
    pace = {"a": 2.0, "b": 4.0}
    assert seconds_left([("a", 10), ("b", 10)], pace, 2) == 40  # (20 + 40) / 2 = 30, but b alone takes 40
    assert seconds_left([("a", 10), ("b", 5), ("c", 10)], pace, 2) == 35  # c at the mean of 3: (20 + 20 + 30) / 2
    assert seconds_left([("a", 10)], {}, 2) is None
    assert seconds_left([], pace, 2) == 0


def test_the_clock():
    assert clock(3723.4) == "1:02:03"


def shown(console, tell):
    with console.capture() as capture:
        tell()
    return capture.get()


def test_without_a_terminal_there_is_one_line_per_event(tmp_path):
    console = Console(width=200)
    log = LineLog(console, total=3, finished=1, last_task="train")
    job = Job("x-seed1", "train", (), tmp_path / "compare.log")
    assert shown(console, lambda: log.started(job)) == "0:00:00  x-seed1: train ...\n"
    line = shown(console, lambda: log.ended(Ending(job, 65.0, 0, ())))
    assert line == "0:00:00  x-seed1: train done after 0:01:05; 2 of 3 finished\n"
    line = shown(console, lambda: log.ended(Ending(job, 1.0, 2, ("no",))))
    assert f"failed (exit status 2), see {job.log}" in line.replace("\n", "")
    assert "2 of 3 finished, 1 failed" in line


def test_a_terminal_shows_station_epoch_and_the_rest(configs, tmp_path):
    experiments = expand(variants_of(configs, []), [1])
    console = Console(width=100, force_terminal=True, no_color=True, highlight=False)
    live = LiveTable(console, experiments, set(), "train", stations.stations_of, tmp_path, lanes=1, pace={})
    job = Job("x-dnc-seed1", "train", (), tmp_path / "compare.log")
    picture = shown(console, lambda: console.print(live.picture([(job, 5.0)])))
    assert "0 of 2 finished, 0:00:00 elapsed" in picture
    assert "to go" not in picture

    unfinished = tmp_path / "x-dnc-seed1" / ".train.unfinished"
    unfinished.mkdir(parents=True)
    entries = [json.dumps({"epoch": epoch, "cpu_seconds": 6.0}) + "\n" for epoch in (1, 2, 3, 4)]
    (unfinished / "epochs.jsonl").write_text("".join(entries))
    picture = shown(console, lambda: console.print(live.picture([(job, 65.0)])))
    assert all(text in picture for text in ("x-dnc-seed1", "train", "4/10", "0:01:05"))
    assert "about 0:01:36 to go" in picture  # 6 + 10 epochs of 6 s
    shown(console, lambda: live.ended(Ending(job, 65.0, 0, ())))
    assert "about 0:01:00 to go" in shown(console, lambda: console.print(live.picture([])))
