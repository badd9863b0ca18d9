"""The cluster station on hand-made logs whose right answer is obvious."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.tfdnc.clustering.prepared_logs import (
    HELD_OUT,
    METHODS,
    TINY,
    read_clusters,
    read_items,
    two_tastes,
    write_prepared,
)
from tfdnc.clustering import CLUSTERERS, build_clusters, read_training_log
from tfdnc.clustering.station import next_in_cluster, order_clusters
from tfdnc.clustering.word2vec import _Corpus
from tfdnc.contracts import items, schema
from tfdnc.contracts.config import ClusterConfig
from tfdnc.contracts.errors import UserError


@pytest.fixture
def prepared(tmp_path):
    titles = [f"Title {item}" for item in range(1, 21)]
    categories = [["even" if item % 2 == 0 else "odd", "all"] for item in range(1, 21)]
    return write_prepared(tmp_path / "prepared", two_tastes(), 20, titles, categories)


@pytest.mark.parametrize("method", ["spectral_kmeans", "word2vec_kmeans"])
def test_two_disjoint_tastes_are_two_clusters_exactly(method, prepared, tmp_path):
    figures = build_clusters(prepared, TINY.model_copy(update={"method": method}), 1, tmp_path / "out")
    items = read_items(tmp_path / "out")
    parity = {}
    for cluster, item_id in zip(items["cluster"], items["item_id"], strict=True):
        parity.setdefault(cluster, set()).add(int(item_id[1:]) % 2)
    assert sorted(map(sorted, parity.values())) == [[0], [1]]
    assert figures["next_in_cluster"] == 1
    assert figures["next_by_chance"] == pytest.approx(0.5)
    assert (figures["clusters"], figures["smallest"], figures["largest"]) == (2, 10, 10)
    assert sorted(cluster["name"] for cluster in read_clusters(tmp_path / "out")) == ["even", "odd"]


@pytest.mark.parametrize("method", METHODS)
def test_every_clusterer_keeps_the_contract(method, prepared, tmp_path):
    config = TINY.model_copy(update={"method": method, "min_category_items": 1})
    figures = build_clusters(prepared, config, 1, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / schema.ITEMS)
    items = table.to_pydict()
    assert table.schema.equals(schema.ITEM_SCHEMA)
    assert items["item_index"] == list(range(1, 21))
    assert sorted(items["sequence_index"]) == list(range(1, 21))
    assert items["item_id"] == [f"i{index}" for index in items["sequence_index"]]
    assert items["title"] == [f"Title {index}" for index in items["sequence_index"]]
    counts = np.bincount(np.concatenate([sequence[:-2] for sequence in two_tastes()]), minlength=21)
    assert items["count"] == [counts[index] for index in items["sequence_index"]]
    key = list(zip(items["cluster"], [-count for count in items["count"]], items["item_id"], strict=True))
    assert key == sorted(key)
    clusters = read_clusters(tmp_path / "out")
    assert (
        [cluster["cluster"] for cluster in clusters]
        == list(range(figures["clusters"]))
        == sorted(set(items["cluster"]))
    )
    assert set(clusters[0]) == {"cluster", "name", "items", "item_share", "event_share", "cold_items", "top_items"}
    shares = [cluster["event_share"] for cluster in clusters]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert sum(cluster["items"] for cluster in clusters) == 20
    assert len({cluster["name"] for cluster in clusters}) == len(clusters)
    assert clusters[0]["top_items"] == items["title"][:5]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {schema.ITEMS, schema.CLUSTERS}
    json.dumps(figures)


def test_every_registered_clusterer_is_tested():
    others = {"previous", "content_kmeans"}  # which have test_clustering_cold.py and test_content_clusters.py
    assert set(CLUSTERERS) == {*METHODS} | others


@pytest.mark.parametrize("method", METHODS)
def test_held_out_events_have_no_influence(method, tmp_path):
    contents = []
    for name, held_out in (("a", [1, 2]), ("b", [20, 19])):
        sequences = [[*sequence[:-2], *held_out] for sequence in two_tastes()]
        write_prepared(tmp_path / name, sequences, 20, categories=[["x"], ["y"]] * 10)
        config = TINY.model_copy(update={"method": method, "min_category_items": 1})
        build_clusters(tmp_path / name, config, 1, tmp_path / name / "out")
        contents.append([(tmp_path / name / "out" / file).read_bytes() for file in (schema.ITEMS, schema.CLUSTERS)])
    assert contents[0] == contents[1]


def test_equal_seeds_give_equal_bytes_in_any_process(prepared, tmp_path):
    program = (
        "import sys; from pathlib import Path; from tfdnc.clustering import build_clusters; "
        "from tfdnc.contracts.config import ClusterConfig; prepared, output = map(Path, sys.argv[1:]); "
        "build_clusters(prepared, ClusterConfig(num_clusters=5, dim=8, epochs=2), 7, output)"
    )
    contents = []
    for hash_seed in ("1", "2"):
        output = tmp_path / hash_seed
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        subprocess.run([sys.executable, "-c", program, prepared, output], env=environment, check=True)
        contents.append([(output / name).read_bytes() for name in (schema.ITEMS, schema.CLUSTERS)])
    assert contents[0] == contents[1]


def test_reading_drops_what_is_held_out(tmp_path):
    write_prepared(tmp_path, [[1, 2, 3, 4], [4, 3], [], [2, 2, 2, 1, 1]], 4)
    log = read_training_log(tmp_path, tmp_path / "scratch")
    parts = [(items.tolist(), lengths.tolist()) for items, lengths in log.parts()]
    assert parts == [([1, 2], [2, 0]), ([2, 2, 2], [0, 3])]
    assert log.counts.tolist() == [1, 4, 0, 0]


def test_long_sequences_become_several_sentences(tmp_path):
    """gensim would ignore the second half of this user, and so the items 3 and 4."""
    items = np.repeat([1, 2, 3, 4], 5_000).tolist()
    write_prepared(tmp_path, [[*items, *HELD_OUT]], 4)
    log = read_training_log(tmp_path, tmp_path / "scratch")
    sentences = list(_Corpus(log, warm=np.array([3, 2, 1, 0]), epochs=1))
    assert [len(sentence) for sentence in sentences] == [10_000, 10_000]
    assert sentences[1] == [1] * 5_000 + [0] * 5_000


def test_word2vec_says_how_far_it_is(prepared, tmp_path, caplog):
    caplog.set_level("INFO", "tfdnc.clustering")
    build_clusters(prepared, TINY.model_copy(update={"epochs": 2}), 1, tmp_path / "out")
    shares = [record.args[0] for record in caplog.records if record.message.startswith("Word2Vec:")]
    assert len(shares) == 20
    assert shares == sorted(shares)
    assert shares[-1] == 100


def test_a_budget_of_words_stands_in_the_figures(prepared, tmp_path):
    free = build_clusters(prepared, TINY, 1, tmp_path / "free")
    fewer = build_clusters(prepared, TINY.model_copy(update={"max_words": 5_000}), 1, tmp_path / "fewer")
    some = build_clusters(prepared, TINY.model_copy(update={"max_words": 400}), 1, tmp_path / "some")
    assert (free["epochs"], free["user_share"], free["trained_words"]) == (20, 1, 20 * 1_600)
    assert (fewer["epochs"], fewer["user_share"], fewer["trained_words"]) == (3, 1, 3 * 1_600)
    assert (some["epochs"], some["user_share"]) == (1, 0.25)
    assert some["trained_words"] == pytest.approx(400, rel=0.3)


def test_some_users_are_whole_users_of_every_file_picked_by_the_seed(prepared, tmp_path):
    log = read_training_log(prepared, tmp_path / "scratch")
    some = log.some_users(0.3, seed=1)
    parts = list(some.parts())
    assert [len(lengths) for _, lengths in parts] == pytest.approx([30, 30], abs=12)
    users = {tuple(user) for items, _ in log.parts() for user in items.reshape(-1, 8).tolist()}
    read = [tuple(user) for items, _ in parts for user in items.reshape(-1, 8).tolist()]
    assert set(read) <= users
    assert some.counts.tolist() == np.bincount(np.ravel(read), minlength=21)[1:].tolist()
    assert [items.tolist() for items, _ in log.some_users(0.3, seed=1).parts()] == [
        items.tolist() for items, _ in parts
    ]
    assert [items.tolist() for items, _ in log.some_users(0.3, seed=2).parts()] != [
        items.tolist() for items, _ in parts
    ]


def test_items_that_no_read_user_has_met_are_placed(tmp_path):
    sequences = [*two_tastes(), [21, 21, 21, *HELD_OUT], [22, 22, 22, *HELD_OUT]]
    categories = [["even" if item % 2 == 0 else "odd"] for item in range(1, 23)]
    write_prepared(tmp_path / "prepared", sequences, 22, categories=categories)
    read = read_training_log(tmp_path / "prepared", tmp_path / "scratch").some_users(0.5, seed=3)
    assert not read.counts[20:].all()
    config = TINY.model_copy(update={"max_words": 803})
    figures = build_clusters(tmp_path / "prepared", config, 3, tmp_path / "out")
    assert (figures["user_share"], figures["items"], figures["clusters"]) == (0.5, 22, 2)


def test_chance_level_by_hand(tmp_path):
    """Pairs (1,1) (1,2) of one user and (3,3) of another: clusters 0,0 / 0,1 / 1,1."""
    write_prepared(tmp_path, [[1, 1, 2, *HELD_OUT], [3, 3, *HELD_OUT], HELD_OUT], 3)
    observed, chance = next_in_cluster(read_training_log(tmp_path, tmp_path / "scratch"), np.array([0, 1, 1]))
    assert observed == pytest.approx(2 / 3)
    assert chance == pytest.approx((2 / 3) * (1 / 3) + (1 / 3) * (2 / 3))


def test_clusters_are_ordered_by_events():
    labels = order_clusters(np.array([7, 7, 3, 9, 9]), counts=np.array([1, 1, 5, 1, 1]))
    assert labels.tolist() == [1, 1, 0, 2, 2]  # 5 events; then two equal ones, by their first item


def test_small_categories_and_items_without_one_are_merged(tmp_path, caplog):
    categories = [["big", "tiny"]] * 8 + [["large"]] * 8 + [["tiny"], ["small"], [], None]
    write_prepared(tmp_path / "prepared", two_tastes(), 20, categories=categories)
    config = ClusterConfig(method="category", min_category_items=3, num_clusters=999)
    figures = build_clusters(tmp_path / "prepared", config, 1, tmp_path / "out")
    items = read_items(tmp_path / "out")
    groups = {}
    for cluster, index in zip(items["cluster"], items["sequence_index"], strict=True):
        groups.setdefault(cluster, set()).add(index)
    assert figures["clusters"] == 3
    assert (figures["categories"], figures["items_without_category"], figures["items_in_rest"]) == (4, 2, 4)
    assert "2 of 20 items have no category" in caplog.text
    assert sorted(map(sorted, groups.values())) == [list(range(1, 9)), list(range(9, 17)), [17, 18, 19, 20]]


def test_fewer_different_vectors_than_clusters_is_said(prepared, tmp_path, monkeypatch, caplog):
    vectors = np.eye(3, dtype=np.float32)[np.arange(20) % 3]
    monkeypatch.setattr("tfdnc.clustering.word2vec._skip_gram", lambda *_: (vectors, 0))
    figures = build_clusters(prepared, TINY.model_copy(update={"num_clusters": 5}), 1, tmp_path / "out")
    assert figures["clusters"] == 3 == len(read_clusters(tmp_path / "out"))
    assert "found 3 clusters, not 5" in caplog.text


@pytest.mark.parametrize("method", ["random", "spectral_kmeans", "word2vec_kmeans"])
def test_more_clusters_than_items_is_refused(method, prepared, tmp_path):
    config = TINY.model_copy(update={"method": method, "num_clusters": 21})
    with pytest.raises(UserError, match=r"num_clusters of at most 20.*got 21; lower"):
        build_clusters(prepared, config, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_as_many_clusters_as_items_is_fine(prepared, tmp_path):
    config = TINY.model_copy(update={"num_clusters": 20})
    assert build_clusters(prepared, config, 1, tmp_path / "out")["largest"] == 1


@pytest.mark.parametrize(
    ("sizes", "kind"),
    [((16, 4), "items"), ((10, 10), "events")],
)
def test_lopsided_clusters_are_refused(sizes, kind, tmp_path):
    """Of 20 items 16 in one category; or 10 of 20, but with nearly all events."""
    sequences = [[*range(1, 11), 20, *HELD_OUT]] * 10
    categories = [["a"]] * sizes[0] + [["b"]] * sizes[1]
    write_prepared(tmp_path / "prepared", sequences, 20, categories=categories)
    config = ClusterConfig(method="category", min_category_items=1, max_share=0.75)
    with pytest.raises(UserError, match=rf"at most 75% of the {kind}.*raise cluster\.max_share"):
        build_clusters(tmp_path / "prepared", config, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "categories", [[[f"sub{item}"] for item in range(20)], [["all"]] * 20, [["a"]] * 3 + [[]] * 17]
)
def test_categories_that_come_to_one_cluster_are_refused(categories, tmp_path):
    """With a category of its own for each of 384 items K became 1, and nothing was divided."""
    write_prepared(tmp_path / "prepared", two_tastes(), 20, categories=categories)
    with pytest.raises(UserError, match=r"several clusters, found one of all 20 items.*method: single") as error:
        build_clusters(tmp_path / "prepared", ClusterConfig(method="category"), 1, tmp_path / "out")
    assert f"of {len({tuple(own) for own in categories if own})} categories the largest has " in str(error.value)
    assert not (tmp_path / "out").exists()


def test_category_without_categories_is_refused(tmp_path):
    write_prepared(tmp_path / "prepared", two_tastes(), 20)
    with pytest.raises(UserError, match=r"data\.items\.categories"):
        build_clusters(tmp_path / "prepared", ClusterConfig(method="category"), 1, tmp_path / "out")


def test_unknown_method_lists_the_known(prepared, tmp_path):
    known = ", ".join(CLUSTERERS.names())
    with pytest.raises(UserError, match=f"Unknown clusterer 'kmeans'; known: {known}"):
        build_clusters(prepared, ClusterConfig(method="kmeans"), 1, tmp_path / "out")


@pytest.mark.parametrize("name", [schema.VOCABULARY, f"{schema.SEQUENCES}/{schema.shard_name(1, 2, 'parquet')}"])
@pytest.mark.parametrize("damage", [lambda raw: raw[:-9], lambda raw: b"", lambda raw: raw[::-1]])
def test_damaged_files_of_prepare_are_refused(prepared, tmp_path, name, damage):
    copy = shutil.copytree(prepared, tmp_path / "copy")
    (copy / name).write_bytes(damage((copy / name).read_bytes()))
    with pytest.raises(
        UserError, match=r"^Expected whole sequences and vocabulary.parquet in .* `tfdnc prepare` again"
    ):
        build_clusters(copy, TINY, 1, tmp_path / "out")


def test_a_missing_shard_is_not_passed_over(prepared, tmp_path):
    copy = shutil.copytree(prepared, tmp_path / "copy")
    (copy / schema.SEQUENCES / schema.shard_name(1, 2, "parquet")).unlink()
    with pytest.raises(UserError, match=r"Expected the 2 files part-00000.* found 1 that are not these"):
        build_clusters(copy, TINY, 1, tmp_path / "out")


@pytest.mark.parametrize("text", ["", "{", "null", "{}", "[{}]", '[{"name": "one of two"}]'])
def test_clusters_must_be_described(prepared, tmp_path, text):
    build_clusters(prepared, ClusterConfig(method="random", num_clusters=2), 1, tmp_path)
    (tmp_path / schema.CLUSTERS).write_text(text)
    with pytest.raises(UserError, match=r"^Expected .*clusters.*in .*clusters.json.* cluster again"):
        items.read_items(tmp_path)


def test_wrong_folders_are_refused(prepared, tmp_path):
    with pytest.raises(UserError, match="run `tfdnc prepare` first"):
        build_clusters(tmp_path / "nothing", TINY, 1, tmp_path / "out")
    write_prepared(tmp_path / "mixed", [[1, 2, 99, 1, 2]] * 2, 20)
    with pytest.raises(UserError, match=r"Expected items 1\.\.20 .* found 1\.\.99"):
        build_clusters(tmp_path / "mixed", TINY, 1, tmp_path / "out")
    write_prepared(tmp_path / "short", [[1, 2]] * 4, 20)
    with pytest.raises(UserError, match=r"users with training events in .*, found none"):
        build_clusters(tmp_path / "short", TINY, 1, tmp_path / "out")
