"""Days of a log, played with a model that is brought up to date in several ways."""

import csv
import json
from collections import defaultdict

import numpy as np
import pytest

from serving.bundles.questions import Questions
from tfdnc.cli.main import main
from tfdnc.contracts.config import GenerateConfig, load_config
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.station_names import StationName
from tfdnc.datasets.generate import ITEM_FILE, LOG, generate_log
from tfdnc.operations.next_events import read_questions, read_users
from tfdnc.operations.simulate.days import Day, days_from
from tfdnc.operations.simulate.models import Model, lists_of
from tfdnc.operations.simulate.play import DayFigures, Play, means_of, play
from tfdnc.operations.simulate.ways import WAYS, Evening, Schedule
from tfdnc.pipeline.manifests import read_manifest
from tfdnc.pipeline.runner import Observer

DAY = 86_400
CONFIG = """
name: daily
data:
  path: {folder}/days.csv
  num_shards: 1
  min_item_events: 1
  items: {{path: {folder}/items.csv, categories: categories, features: {{categories: values}}}}
cluster: {{method: random, num_clusters: 2}}
model: {{dim: 8, max_length: 10, blocks: 1, item_features: true}}
train: {{epochs: 1, batch_tokens: 800}}
evaluate: {{candidates: [5, 10], within_cluster: [5]}}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The config of a log of ten days, with an item that is new on the ninth."""
    folder = tmp_path_factory.mktemp("daily")
    generate_log(GenerateConfig(users=60, items=60, groups=3, mean_events=10), 1, folder)
    with (folder / LOG).open() as log:
        header, *rows = csv.reader(log)
    of_user = defaultdict(list)
    for user, item, _ in rows:
        of_user[user].append(item)
    # The events of every user are spread over the ten days.
    lines = [
        [user, item, str(10 * DAY * place // len(items))]
        for user, items in of_user.items()
        for place, item in enumerate(items)
    ]
    lines += [[user, "new", str(9 * DAY - 1)] for user in ("1", "2", "3")]
    (folder / "days.csv").write_text("\n".join(",".join(line) for line in [header, *lines]))
    with (folder / ITEM_FILE).open("a") as items:
        items.write("new,a new item,Jazz\nlater,an item without an event,Jazz\n")
    path = folder / "daily.yaml"
    path.write_text(CONFIG.format(folder=folder))
    return path


@pytest.fixture(scope="module")
def played(config):
    """Figures of the command line, two days in all three ways."""
    flags = ["--from", str(8 * DAY), "--days", "2", "--runs", str(config.parent), "--warm-epochs", "1"]
    assert main(["simulate", str(config), *flags]) == 0
    return json.loads((config.parent / "daily-simulation" / "simulation.json").read_text())


@pytest.fixture
def runs(config):
    return config.parent / "daily-simulation"


def test_every_way_is_measured_on_every_day_from_one_first_model(played):
    rows = {(row["day"], row["way"]): row for row in played["by_day"]}
    eighth, ninth = str(8 * DAY), str(9 * DAY)
    assert list(rows) == [(day, way) for day in (eighth, ninth) for way in ("frozen", "warm", "full")]
    assert rows[eighth, "frozen"]["recall"] == rows[eighth, "warm"]["recall"] == rows[eighth, "full"]["recall"]
    assert [rows[day, "frozen"]["cpu_seconds"] for day in (eighth, ninth)] == [0, 0]
    assert rows[ninth, "warm"]["cpu_seconds"] > 0 < rows[ninth, "full"]["cpu_seconds"]
    assert rows[eighth, "frozen"]["new_targets"] == 3  # no model had met the item before this day
    for way, means in played["means"].items():
        values = [rows[day, way]["recall"]["recall@10"] for day in (eighth, ninth)]
        assert means["recall@10"] == pytest.approx(np.mean(values))
        assert means["cpu_seconds"] == rows[ninth, way]["cpu_seconds"]


def test_a_model_learns_what_was_before_its_day_and_nothing_later(played, runs, config):
    events = np.loadtxt(load_config(config).data.path, delimiter=",", skiprows=1, dtype=str)[:, 2].astype(int)
    counted = {}
    for name in (f"first-{8 * DAY}", f"warm-{8 * DAY}", f"full-{8 * DAY}"):
        prepared = read_manifest(runs / name / StationName.PREPARE.folder)["figures"]
        counted[name] = prepared["rows_read"] - prepared["rows_filtered"]["until"]
        assert prepared["split"]["train_events"] == prepared["events"]
    before, after = (int(np.sum(events < day * DAY)) for day in (8, 9))
    assert list(counted.values()) == [before, after, after]
    warm = load_config(runs / f"warm-{8 * DAY}" / "config.yaml")
    assert warm.train.initial == runs / f"first-{8 * DAY}"
    assert (warm.data.train_from, warm.data.until) == (8 * DAY, 9 * DAY)
    assert warm.cluster.previous == runs / f"first-{8 * DAY}" / StationName.CLUSTER.folder / "items.parquet"


def test_the_same_command_trains_nothing_again(played, config, runs):
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/train/manifest.json")}
    assert len(before) == 3
    again = play(Play(load_config(config), runs, 8 * DAY, 1, ["frozen"]))
    assert again[0].recall == played["by_day"][0]["recall"]
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*/train/manifest.json")} == before


def test_a_refresh_lists_new_items_that_have_had_an_event_and_trains_nothing(played, config, runs):
    first = Model(load_config(runs / f"first-{8 * DAY}" / "config.yaml"), runs / f"first-{8 * DAY}")
    users = read_users(first.config.data, first.config.data.locations)
    played_config, eighth = load_config(config), Day(8 * DAY, 9 * DAY, "")
    evening = Evening(played_config, runs, eighth, first, Schedule(), users, frozenset(), Observer())
    after = WAYS["refresh"](evening)
    assert after.run == first.run
    assert after.catalogue - first.catalogue == {"new"}
    [found] = lists_of(after, Questions([["1", "2"]], [["3"]], [{}], ()), len(after.catalogue))
    assert {*found} == after.catalogue - {"1", "2"}
    # Events of an item before the first day were too few: data.min_item_events says that lists do without it.
    assert WAYS["refresh"](evening._replace(rare=frozenset({"new"}))).catalogue == first.catalogue


def test_questions_of_a_day_are_those_of_a_log_that_ends_with_it(config):
    data = load_config(config).data
    asked = read_users(data, data.locations).questions(5 * DAY, 7 * DAY, 100)
    shorter = config.parent / "shorter.csv"
    header, *lines = (config.parent / "days.csv").read_text().splitlines()
    shorter.write_text("\n".join([header, *(line for line in lines if int(line.split(",")[2]) < 7 * DAY)]))
    other = read_questions(data, [str(shorter)], 5 * DAY, 100)
    assert sorted(map(str, zip(*asked[:3], strict=True))) == sorted(map(str, zip(*other[:3], strict=True)))
    assert read_users(data, data.locations).questions(20 * DAY, 21 * DAY, 100) is None


def test_days_have_24_hours_in_the_unit_of_the_log():
    [first, second] = days_from(DataConfig(time_unit="ms"), "2022-04-25", 2)
    assert first == Day(1_650_844_800_000, 1_650_931_200_000, "2022-04-25")
    assert (second.start, second.name) == (first.stop, "2022-04-26")
    with pytest.raises(UserError, match="Expected a log with times to play its days"):
        days_from(DataConfig(columns={"time": None}), 0, 1)


def test_an_unknown_way_is_refused_before_anything_is_trained(config, tmp_path):
    with pytest.raises(UserError, match=r"Unknown way to update a model 'hourly'; known: frozen, full, refresh, warm"):
        play(Play(load_config(config), tmp_path, 0, 1, ["hourly"]))
    assert not list(tmp_path.iterdir())
    assert {"frozen", "warm", "full"} <= WAYS.keys()


def test_a_day_that_the_log_does_not_have_is_refused_before_anything_is_trained(config, tmp_path):
    with pytest.raises(UserError, match="next events on that day, found none: play days that the log has"):
        play(Play(load_config(config), tmp_path, 9 * DAY, 3, ["frozen"]))
    assert list(tmp_path.glob("first-*/prepare/manifest.json"))
    assert not list(tmp_path.glob("*/train"))


def test_a_schedule_that_cannot_be_is_refused(played, config, runs):
    what = Play(load_config(config), runs, 8 * DAY, 2, ["warm"], schedule=Schedule(rate=0.0))
    with pytest.raises(UserError, match=rf"warm-{8 * DAY}: train.learning_rate"):
        play(what)


def test_new_items_count_by_their_events_in_the_means():
    def day(name, new, recall):
        return DayFigures(name, "warm", 9, 9, {"recall@5": recall}, new, {"recall@5": recall} if new else {}, 4.0)

    means = means_of([day("a", 3, 0.5), day("b", 0, 0.2), day("c", 1, 0.1)])["warm"]
    assert means == pytest.approx({"recall@5": 0.8 / 3, "recall_of_new@5": 1.6 / 4, "cpu_seconds": 4.0})
