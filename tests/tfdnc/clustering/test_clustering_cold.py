"""Items without training events, or unknown to an earlier clustering: where they go, and how they are marked."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tfdnc.clustering.prepared_logs import METHODS, TINY, read_clusters, read_items, two_tastes, write_prepared
from tfdnc.clustering import build_clusters
from tfdnc.clustering.cold import assign_cold_items
from tfdnc.contracts import schema
from tfdnc.contracts.config import ClusterConfig, parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import read_items as read_item_table
from tfdnc.pipeline import stations


def kinds_of(*names):
    """One trait an item, or none."""
    return [[name] if name else [] for name in names]


def parities(num_items):
    return [["even" if item % 2 == 0 else "odd"] for item in range(1, num_items + 1)]


def columns_by_id(output, *names):
    """{item id: value, or tuple of values} of an item table."""
    items = read_items(output)
    values = items[names[0]] if len(names) == 1 else zip(*(items[name] for name in names), strict=True)
    return dict(zip(items["item_id"], values, strict=True))


class TestPlacing:
    def test_by_category_else_to_the_smallest(self):
        labels = np.array([0, 0, 0, 1, 1, 2, -1, -1, -1])
        categories = kinds_of("a", "b", "b", "a", "a", "b", "a", None, "new")
        assert assign_cold_items(labels, categories).tolist() == [0, 0, 0, 1, 1, 2, 1, 2, 2]

    def test_items_of_no_known_category_do_not_pile_up_in_one_cluster(self):
        labels = np.array([0, 0, 0, 1, *[-1] * 6])
        placed = assign_cold_items(labels, kinds_of(*[None] * 10))
        assert np.bincount(placed).tolist() == [5, 5]
        assert placed[4:6].tolist() == [1, 1]  # until it is as large as the other

    def test_ids_without_items_are_no_clusters(self):
        assert assign_cold_items(np.array([7, 7, 3, -1, -1]), kinds_of(*["a"] * 4, None)).tolist() == [
            7,
            7,
            3,
            7,
            3,
        ]

    def test_a_tie_goes_to_the_lowest_id(self):
        assert assign_cold_items(np.array([2, 1, -1]), kinds_of("a", "a", "a")).tolist() == [2, 1, 1]

    def test_nobody_is_cold(self):
        labels = np.array([1, 0])
        assert assign_cold_items(labels, kinds_of("a", None)).tolist() == [1, 0]

    def test_several_traits_count_by_their_shares_of_a_cluster(self):
        # Cluster 0 has six items, all of "all", one of "x"; cluster 1 has two, both of "all" and "x".
        labels = np.array([0] * 6 + [1] * 2 + [-1] * 3)
        traits = [["all", "x"], *[["all"]] * 5, *[["all", "x"]] * 2, ["x", "all"], ["all"], ["x", "new"]]
        by_hand = {0: 6 * (6.5 / 6) * (1.5 / 6), 1: 2 * (2.5 / 2) * (2.5 / 2)}
        assert by_hand[1] > by_hand[0]
        assert assign_cold_items(labels, traits)[-3:].tolist() == [1, 0, 1]

    def test_equals_a_loop_on_random_items(self):
        rng = np.random.default_rng(0)
        for _ in range(50):
            labels = rng.integers(-1, 4, 60)
            labels[0] = 2
            categories = rng.choice(["a", "b", "c", "d", None], 60)
            expected = labels.copy()
            for item in np.flatnonzero(labels < 0):
                kin = labels[(categories == categories[item]) & (labels >= 0)] if categories[item] else []
                if len(kin):
                    expected[item] = np.bincount(kin).argmax()
            ids = np.unique(labels[labels >= 0])
            for item in np.flatnonzero(expected < 0):
                sizes = [(expected == cluster).sum() for cluster in ids]
                expected[item] = ids[int(np.argmin(sizes))]
            np.testing.assert_array_equal(assign_cold_items(labels, kinds_of(*categories)), expected)


@pytest.fixture
def prepared(tmp_path):
    """Two tastes on the items 1..20; 21 and 22 are seen only when they are held out."""
    sequences = [[*sequence[:-2], 21, 22] for sequence in two_tastes()]
    return write_prepared(tmp_path / "prepared", sequences, 22, categories=parities(22))


@pytest.mark.parametrize("method", METHODS)
def test_every_clusterer_leaves_cold_items_to_their_category(method, prepared, tmp_path):
    config = TINY.model_copy(update={"method": method, "min_category_items": 1})
    figures = build_clusters(prepared, config, 1, tmp_path / "out")
    found = columns_by_id(tmp_path / "out", "cluster", "cold", "count")
    for item, others in ((21, range(1, 20, 2)), (22, range(2, 21, 2))):
        cluster, cold, count = found[f"i{item}"]
        assert cold
        assert count == 0
        kin = [found[f"i{other}"][0] for other in others]
        assert cluster in np.flatnonzero(np.bincount(kin) == np.bincount(kin).max())
    assert not any(cold for item_id, (_, cold, _) in found.items() if item_id not in ("i21", "i22"))
    clusters = read_clusters(tmp_path / "out")
    by_cluster = [sum(cold for k, cold, _ in found.values() if k == cluster["cluster"]) for cluster in clusters]
    assert [cluster["cold_items"] for cluster in clusters] == by_cluster
    assert figures["cold_items"] == sum(by_cluster) == 2


@pytest.mark.parametrize("method", METHODS)
def test_cold_items_move_no_other_item(method, prepared, tmp_path):
    write_prepared(tmp_path / "warm", two_tastes(), 20, categories=parities(20))
    config = TINY.model_copy(update={"method": method, "min_category_items": 1})
    for name in ("prepared", "warm"):
        build_clusters(tmp_path / name, config, 1, tmp_path / name / "out")
    with_cold, without = (columns_by_id(tmp_path / name / "out", "cluster") for name in ("prepared", "warm"))
    assert {item: cluster for item, cluster in with_cold.items() if item not in ("i21", "i22")} == without


def test_cold_items_make_no_category_large_enough(tmp_path):
    """Two trained items of "tiny" and 20 cold ones: a cluster of it would have nothing to learn from."""
    categories = [["big"]] * 9 + [["large"]] * 9 + [["tiny"]] * 22
    write_prepared(tmp_path / "prepared", two_tastes(), 40, categories=categories)
    config = ClusterConfig(method="category", min_category_items=3, max_share=0.75)
    assert build_clusters(tmp_path / "prepared", config, 1, tmp_path / "out")["smallest"] == 9
    found = columns_by_id(tmp_path / "out", "cluster")
    assert len({found[f"i{item}"] for item in range(19, 41)}) == 1


def test_readers_see_who_is_cold(prepared, tmp_path):
    build_clusters(prepared, TINY, 1, tmp_path / "out")
    items = read_item_table(tmp_path / "out")
    assert {items.item_ids[row] for row in np.flatnonzero(items.cold)} == {"i21", "i22"}
    write_prepared(tmp_path / "warm", two_tastes(), 20)
    build_clusters(tmp_path / "warm", TINY, 1, tmp_path / "warm-out")
    assert read_item_table(tmp_path / "warm-out").cold is None


class TestPrevious:
    """A second log, on which the even items are the popular ones, without the items 19 and 20 and with 21 to 24."""

    @pytest.fixture
    def former(self, prepared, tmp_path):
        build_clusters(prepared, TINY, 1, tmp_path / "former")
        return tmp_path / "former" / schema.ITEMS

    @pytest.fixture
    def newer(self, tmp_path):
        sequences = [[item + 4 if item > 18 else item for item in sequence] for sequence in two_tastes()]
        sequences = [[22, *sequence] for sequence in sequences[1::2]] + sequences[::8]
        categories = [*parities(22), ["odd"], None]
        return write_prepared(tmp_path / "newer", sequences, 24, categories=categories)

    def build(self, newer, former, output):
        return build_clusters(newer, ClusterConfig(method="previous", previous=former, max_share=1), 1, output)

    def test_known_items_stay_and_new_ones_are_placed_and_marked(self, newer, former, tmp_path):
        figures = self.build(newer, former, tmp_path / "out")
        before, after = (columns_by_id(path, "cluster") for path in (tmp_path / "former", tmp_path / "out"))
        assert {item: after[item] for item in before} == before
        assert after["i23"] == before["i1"]
        assert after["i24"] in (0, 1)
        cold, count = columns_by_id(tmp_path / "out", "cold"), columns_by_id(tmp_path / "out", "count")
        assert count["i23"] > 0  # it has events, but was not there when the clusters were made
        assert cold == {item: item in ("i23", "i24") or not count[item] for item in cold}
        assert figures["cold_items"] == sum(cold.values())
        assert pq.read_table(tmp_path / "out" / schema.ITEMS).schema.equals(schema.ITEM_SCHEMA)

    def test_clusters_keep_their_numbers_though_their_events_have_changed(self, newer, former, tmp_path):
        self.build(newer, former, tmp_path / "out")
        shares = [cluster["event_share"] for cluster in read_clusters(tmp_path / "out")]
        assert shares[0] < shares[1]

    def test_its_own_output_is_a_fixed_point(self, newer, former, tmp_path):
        self.build(newer, former, tmp_path / "out")
        self.build(newer, tmp_path / "out" / schema.ITEMS, tmp_path / "again")
        first, second = (columns_by_id(tmp_path / name, "cluster", "item_index") for name in ("out", "again"))
        assert first == second

    def test_a_cluster_without_items_is_gone_and_said_to_be(self, newer, former, tmp_path, caplog):
        table = pq.read_table(former)
        cluster = np.where(table["cluster"].to_numpy() == 0, 0, 2)
        lonely = table.slice(0, 1).set_column(2, "item_id", pa.array(["gone"]))
        table = table.set_column(3, "cluster", pa.array(cluster, pa.int32()))
        at = int(np.searchsorted(cluster, 1))
        table = pa.concat_tables([table[:at], lonely.set_column(3, "cluster", pa.array([1], pa.int32())), table[at:]])
        numbers = np.arange(1, table.num_rows + 1, dtype=np.int32)
        table = table.set_column(0, "item_index", pa.array(numbers)).set_column(1, "sequence_index", pa.array(numbers))
        pq.write_table(table, former)
        assert self.build(newer, former, tmp_path / "out")["clusters"] == 2
        assert "Clusters 1 have no item left" in caplog.text

    def test_a_table_of_other_items_is_refused(self, former, tmp_path):
        table = pq.read_table(former)
        pq.write_table(table.set_column(2, "item_id", pa.array([f"x{i}" for i in range(table.num_rows)])), former)
        write_prepared(tmp_path / "newer", two_tastes(), 20)
        with pytest.raises(UserError, match=r"Expected items of the log in cluster\.previous, found none of its 20"):
            self.build(tmp_path / "newer", former, tmp_path / "out")

    def test_a_table_that_knows_few_of_the_items_is_refused_and_one_that_lacks_some_is_warned_of(
        self, newer, former, tmp_path, caplog
    ):
        """The others were put wherever items like them are, or into the smallest cluster, without a word."""

        def forget(*item_ids):
            table = pq.read_table(former)
            ids = [f"x{item_id}" if item_id in item_ids else item_id for item_id in table["item_id"].to_pylist()]
            pq.write_table(table.set_column(2, "item_id", pa.array(ids)), former)

        forget("i4", "i6", "i8")
        figures = self.build(newer, former, tmp_path / "out")
        assert figures["known_items"] == 19
        assert 0.5 < figures["known_event_share"] < 0.9
        share = 100 - 100 * figures["known_event_share"]
        assert f"{share:.1f} % of the training events are of items that are not in {former}" in caplog.text
        forget(*(f"i{item}" for item in range(3, 23)))
        with pytest.raises(UserError, match=r"at least 50% of the training events, found .* knows 2 of the 24 items"):
            self.build(newer, former, tmp_path / "again")
        assert not (tmp_path / "again").exists()

    def test_a_table_that_is_not_there_is_refused(self, newer, tmp_path):
        with pytest.raises(UserError, match=r"Expected an item table at .*nowhere\.parquet"):
            self.build(newer, tmp_path / "nowhere.parquet", tmp_path / "out")

    @pytest.mark.parametrize("cluster", [{"method": "previous"}, {"previous": "items.parquet"}])
    def test_the_path_and_the_method_go_together(self, cluster):
        with pytest.raises(UserError, match="expected `previous` to name an item table with method previous"):
            parse_config({"name": "x", "cluster": cluster})

    def test_the_station_depends_on_the_table_and_not_on_where_it_lies(self, tmp_path):
        def config(path):
            cluster = {"method": "previous", "previous": str(path)}
            return parse_config({"name": "x", "cluster": cluster, "evaluate": {"judge": cluster}})

        table, run = tmp_path / "one" / schema.ITEMS, tmp_path / "run"
        table.parent.mkdir()
        table.touch()
        one, other = config(table), config("other/items.parquet")
        for station in (stations.CLUSTER, stations.JUDGE):
            assert station.settings(one) == station.settings(other)
            assert station.files(one, run) == [table]
        assert stations.CLUSTER.files(parse_config({"name": "x"}), tmp_path) == []

    def test_the_table_of_the_run_itself_is_refused(self, tmp_path):
        table = tmp_path / "runs" / "x" / "cluster" / schema.ITEMS
        config = parse_config({"name": "x", "cluster": {"method": "previous", "previous": str(table)}})
        with pytest.raises(UserError, match=r"cluster\.previous of another run, got .* give the new run another name"):
            stations.CLUSTER.files(config, tmp_path / "runs" / "x")
        table.parent.mkdir(parents=True)
        table.touch()
        assert stations.CLUSTER.files(config, tmp_path / "runs" / "xy") == [table]
