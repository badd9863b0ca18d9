"""The generated log keeps its promises: hidden groups, skewed popularity, an order that is worth learning."""

import csv

import numpy as np
import pyarrow.parquet as pq
import pytest

from beam_jobs.sequences import prepare
from tfdnc.clustering import build_clusters
from tfdnc.contracts import schema
from tfdnc.contracts.config import ClusterConfig, GenerateConfig
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.datasets.generate import ITEM_FILE, LOG, generate_log, group_name

CONFIG = GenerateConfig()


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    output = tmp_path_factory.mktemp("generated")
    return output, generate_log(CONFIG, seed=3, output=output)


@pytest.fixture(scope="module")
def log(generated):
    """int64 [events, 3]: user, item, time; by user, then time."""
    rows = np.loadtxt(generated[0] / LOG, delimiter=",", skiprows=1, dtype=np.int64)
    return rows[np.lexsort((rows[:, 2], rows[:, 0]))]


@pytest.fixture(scope="module")
def items(generated):
    """Item id -> (title, group)."""
    with (generated[0] / ITEM_FILE).open() as file:
        return {int(row["item_id"]): (row["title"], row["categories"]) for row in csv.DictReader(file)}


def test_sizes_are_as_asked(generated, log, items):
    figures = generated[1]
    assert set(log[:, 0]) == set(range(1, CONFIG.users + 1))
    assert set(items) == set(range(1, CONFIG.items + 1)) >= set(log[:, 1])
    assert len({group for _, group in items.values()}) == CONFIG.groups == figures["groups"]
    assert len(log) == figures["events"] == pytest.approx(CONFIG.users * CONFIG.mean_events, rel=0.05)
    assert len({title for title, _ in items.values()}) == CONFIG.items


def test_the_file_is_in_order_of_time(generated):
    times = np.loadtxt(generated[0] / LOG, delimiter=",", skiprows=1, dtype=np.int64)[:, 2]
    assert (np.diff(times) >= 0).all()


def test_a_user_meets_no_item_twice_and_no_second_twice(log):
    assert len(np.unique(log[:, :2], axis=0)) == len(log)
    assert len(np.unique(log[:, [0, 2]], axis=0)) == len(log)


def test_users_return_to_items_as_often_as_asked(tmp_path):
    generate_log(GenerateConfig(users=300, items=600, groups=3, repeats=0.6), 1, tmp_path)
    rows = np.loadtxt(tmp_path / LOG, delimiter=",", skiprows=1, dtype=np.int64)
    returns = len(rows) - len(np.unique(rows[:, :2], axis=0))
    assert 0.57 < returns / (len(rows) - 300) < 0.63  # the first event of a user cannot be one


def test_lengths_vary_around_the_mean(log):
    lengths = np.bincount(log[:, 0])[1:]
    assert lengths.min() >= 5
    assert np.percentile(lengths, 90) > 2 * np.percentile(lengths, 10)


def test_popularity_is_skewed(generated, log):
    counts = np.sort(np.bincount(log[:, 1], minlength=CONFIG.items + 1)[1:])[::-1]
    share = counts[: CONFIG.items // 10].sum() / counts.sum()
    assert generated[1]["top_tenth_share"] == pytest.approx(share)
    assert share > 0.25
    assert counts[-1] >= 5  # rare items survive `data.min_item_events`


def test_users_mix_a_few_interests_and_stay_in_them(log, items):
    groups = np.array([items[item][1] for item in log[:, 1]])
    for user in range(1, 50):
        assert len(set(groups[log[:, 0] == user])) <= CONFIG.interests_per_user
    same_user = log[1:, 0] == log[:-1, 0]
    assert 0.7 < (groups[1:] == groups[:-1])[same_user].mean() < 0.95


def test_the_last_item_tells_more_than_popularity(log):
    """Hit@10 of each user's last event: counts of (item, next item) against counts of items."""
    is_last = np.append(log[1:, 0] != log[:-1, 0], True)
    popularity = np.bincount(log[~is_last, 1], minlength=CONFIG.items + 1)
    transitions = np.zeros((CONFIG.items + 1, CONFIG.items + 1))
    pairs = np.flatnonzero((log[1:, 0] == log[:-1, 0]) & ~is_last[1:])
    np.add.at(transitions, (log[pairs, 1], log[pairs + 1, 1]), 1)
    hits = np.zeros(2)
    for end in np.flatnonzero(is_last):
        history = log[np.searchsorted(log[:, 0], log[end, 0]) : end, 1]
        for method, scores in enumerate((popularity, transitions[history[-1]] + popularity / 1e6)):
            unseen = np.where(np.isin(np.arange(CONFIG.items + 1), history), -1, scores)
            hits[method] += log[end, 1] in np.argpartition(-unseen, 10)[:10]
    by_popularity, by_transition = hits / CONFIG.users
    assert by_transition > 0.4
    assert by_transition > 4 * by_popularity


def test_word2vec_finds_the_hidden_groups(tmp_path):
    generate_log(GenerateConfig(users=500, items=300, groups=5), 1, tmp_path)
    prepare(DataConfig(path=tmp_path / LOG), tmp_path / "prepared")
    build_clusters(tmp_path / "prepared", ClusterConfig(num_clusters=5), 1, tmp_path / "clusters")
    table = pq.read_table(tmp_path / "clusters" / schema.ITEMS, columns=["item_id", "cluster"])
    with (tmp_path / ITEM_FILE).open() as file:
        group = {row["item_id"]: row["categories"] for row in csv.DictReader(file)}
    groups = np.array([group[item] for item in table["item_id"].to_pylist()])
    clusters = table["cluster"].to_numpy()
    pure = sum(np.unique(groups[clusters == k], return_counts=True)[1].max() for k in range(5))
    assert pure / len(groups) > 0.95


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path):
    config = GenerateConfig(users=50, items=400)
    contents = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate_log(config, seed, tmp_path / folder)
        contents.append([(tmp_path / folder / name).read_bytes() for name in (LOG, ITEM_FILE)])
    assert contents[0] == contents[1] != contents[2]
    assert {path.name for path in (tmp_path / "a").iterdir()} == {LOG, ITEM_FILE}


def test_nobody_runs_out_of_items(tmp_path):
    """Half of two tiny groups: rings and popularity draws are exhausted, and every event still has a new item."""
    config = GenerateConfig(users=200, items=12, groups=2, interests_per_user=2, mean_events=6, popularity_exponent=3)
    generate_log(config, 1, tmp_path)
    rows = np.loadtxt(tmp_path / LOG, delimiter=",", skiprows=1, dtype=np.int64)
    assert len(np.unique(rows[:, :2], axis=0)) == len(rows)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"interests_per_user": 9}, "interests_per_user of at most generate.groups = 8, got 9"),
        ({"items": 100, "mean_events": 40}, "mean_events between 5 and 18 .* got 40"),
        ({"items": 4}, "mean_events between"),
        ({"mean_events": 2}, "between 5 and"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(wrong, message, tmp_path):
    with pytest.raises(UserError, match=message):
        generate_log(GenerateConfig(**wrong), 1, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_group_names_never_repeat():
    names = [group_name(group) for group in range(100)]
    assert names[0] == "Jazz"
    assert len(set(names)) == 100
