"""Titles, categories and features of items."""

import numpy as np
import pytest

from beam_jobs.item_accounts import ItemAccounts
from beam_jobs.item_details import Details, find_details, find_new_details, read_catalogue, read_details
from beam_jobs.item_features import NUM_QUANTILES, make_features, ranges_of
from tfdnc.contracts.data_config import DataConfig, ItemFile
from tfdnc.contracts.errors import UserError


def test_movielens_titles_genres_and_years(tmp_path):
    text = "1::Toy Story (1995)::Animation|Comedy\n2::Amélie: A::B Film (2001)::Romance\n3::No Year::Drama\n"
    (tmp_path / "movies.dat").write_bytes(text.encode("latin-1"))
    details = find_details(DataConfig(format="movielens", path=tmp_path))
    known = read_details(details, ["2", "1", "4", "3"])
    assert known.titles == ["Amélie: A::B Film (2001)", "Toy Story (1995)", None, "No Year"]
    assert known.categories == [["Romance"], ["Animation", "Comedy"], None, ["Drama"]]
    assert known.features == [
        ["genre=Romance", "year=2001..2001"],
        ["genre=Animation", "genre=Comedy", "year=1995..1995"],
        None,
        ["genre=Drama"],
    ]


def test_movies_dat_is_optional(tmp_path):
    assert find_details(DataConfig(format="movielens", path=tmp_path)) is None
    assert read_details(None, ["1", "2"]) == (["1", "2"], [None, None], [None, None], [None, None])


def test_kuairands_videos_bring_their_features(tmp_path):
    header = "video_id,author_id,video_type,upload_dt,upload_type,video_duration,music_id,tag"
    rows = "7,55,NORMAL,2022-04-10,Kmovie,9000.0,33,39\n8,55,AD,2022-04-10,,,,\n"
    (tmp_path / "video_features_basic_pure.csv").write_text(f"{header}\n{rows}")
    known = read_details(find_details(DataConfig(format="kuairand", path=tmp_path)), ["7", "8"])
    assert known.categories == [["39"], []]
    assert known.features == [
        [
            "tag=39",
            "author_id=55",
            "music_id=33",
            "video_type=NORMAL",
            "upload_type=Kmovie",
            "video_duration=9000..9000",
        ],
        ["author_id=55", "video_type=AD"],
    ]


def test_item_csv_with_quotes_and_its_own_separator(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text('id,tags,name,brand\na,"x, y",A,"Smith, Jones"\nb,,,\nb,z,second row,other\n')
    features = {"tags": "values", "brand": "value"}
    items = ItemFile(path=path, item="id", title="name", categories="tags", features=features, separator=",")
    known = read_details(find_details(DataConfig(path=path, items=items)), ["b", "a"])
    assert known == Details(
        item_ids=["b", "a"],
        titles=[None, "A"],
        categories=[[], ["x", "y"]],
        features=[[], ["tags=x", "tags=y", "brand=Smith, Jones"]],
    )


def test_columns_not_named_stay_unknown(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id,name\na,A\n")
    details = find_details(DataConfig(path=path, items=ItemFile(path=path, title="name")))
    assert read_details(details, ["a"]) == (["a"], ["A"], [None], [None])


def test_the_other_items_of_the_file_follow_on_request(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id,name,size\nz,Z,9\na,A,1\n,no id,2\nz,again,3\nb,B,4\n")
    items = ItemFile(path=path, title="name", features={"size": "number"})
    known = read_details(find_details(DataConfig(path=path, items=items)), ["b", "unknown"], more=True)
    assert known.item_ids == ["b", "unknown", "z", "a"]
    assert known.titles == ["B", None, "Z", "A"]
    assert known.features == [["size=4..4"], None, ["size=9..9"], ["size=1..1"]]


def test_a_catalogue_of_the_item_file_needs_one(tmp_path):
    with pytest.raises(UserError, match=r"item file with data.catalogue items, found none; name one in data.items"):
        find_details(DataConfig(format="movielens", path=tmp_path, catalogue="items"))


@pytest.mark.parametrize("rows", ["", "1.0,A\n2.0,B\n"])
def test_a_file_without_any_of_the_items_is_refused(tmp_path, rows):
    """Without this error, every item would lack title and category without a message."""
    path = tmp_path / "items.csv"
    path.write_text(f"item_id,name\n{rows}")
    details = find_details(DataConfig(path=path, items=ItemFile(path=path, title="name")))
    with pytest.raises(UserError, match=r"Expected items of the log, such as '1', in .*items.csv, found none of them"):
        read_details(details, ["1", "2"])
    assert read_details(details, []) == ([], [], [], [])


def test_errors_name_the_file_and_the_columns(tmp_path):
    path = tmp_path / "items.csv"
    with pytest.raises(UserError, match=r"found no file there; set data.items.path"):
        find_details(DataConfig(path=path, items=ItemFile(path=path)))
    path.write_text("item_id,name\na,A,too many\n")
    with pytest.raises(UserError, match=r"column 'title' in .*found item_id, name; set data.items.title"):
        find_details(DataConfig(path=path, items=ItemFile(path=path, title="title")))
    with pytest.raises(UserError, match=r"column 'price' in .*found item_id, name; set data.items.features"):
        find_details(DataConfig(path=path, items=ItemFile(path=path, features={"price": "number"})))


class TestFeatures:
    def test_each_value_counts_once(self):
        assert make_features([("a| b |a|",)], {"tag": "values"}, "|", "f") == [["tag=a", "tag=b"]]

    def test_a_single_value_may_hold_the_separator(self):
        assert make_features([(" a|b ",)], {"tag": "value"}, "|", "f") == [["tag=a|b"]]

    def test_blank_and_unknown_differ(self):
        assert make_features([("", ""), None], {"tag": "value", "size": "number"}, "|", "f") == [[], None]

    def test_numbers_share_the_value_of_their_quantile(self):
        found = make_features([(str(n),) for n in range(1000, 0, -1)], {"size": "number"}, "|", "f")
        [quantiles] = zip(*found, strict=True)
        assert len(set(quantiles)) == NUM_QUANTILES
        assert {quantiles.count(name) for name in set(quantiles)} <= {49, 50, 51}
        for number, name in zip(range(1000, 0, -1), quantiles, strict=True):
            start, end = name.removeprefix("size=").split("..")
            assert float(start) <= number <= float(end)

    def test_equal_numbers_share_a_feature(self):
        found = make_features([("5",)] * 90 + [("7.5",)] * 10 + [("nan",), ("inf",)], {"size": "number"}, "|", "f")
        assert found == [["size=5..5"]] * 90 + [["size=7.5..7.5"]] * 10 + [[], []]

    def test_a_word_in_a_column_of_numbers_is_refused(self):
        with pytest.raises(UserError, match=r"numbers in column 'size' of i.csv, found 'big'; set data.items.features"):
            make_features([("1",), ("big",)], {"size": "number"}, "|", "i.csv")


KINDS = {"year": "number", "maker": "value"}


class TestNewerFile:
    """An item file that is newer than the training: its features are named as those of the training."""

    def read(self, tmp_path, text, known, earlier):
        path = tmp_path / "newer.csv"
        path.write_text(text)
        items = ItemFile(path=tmp_path / "items.csv", features=KINDS)
        details = find_new_details(DataConfig(path="log.csv", items=items), str(path))
        return read_catalogue(details, known, ranges_of(earlier, KINDS), ItemAccounts())

    def test_numbers_are_in_the_ranges_of_the_training(self, tmp_path):
        """Quantiles of the newer file have other names, of which the model knows none."""
        earlier = [["year=1990..1994", "maker=x"], ["year=-5..1989"], ["year=2000..2000.5"], []]
        years = ("1", "-9", "1989", "1989.5", "1994", "1997", "2000.7", "2030", "")
        rows = "".join(f"i{n},{year},\n" for n, year in enumerate(years))
        found = self.read(tmp_path, f"item_id,year,maker\n{rows}", ["i1"], earlier)
        low, middle, high = "year=-5..1989", "year=1990..1994", "year=2000..2000.5"
        assert found.item_ids[0] == "i1"
        by_id = dict(zip(found.item_ids, found.features, strict=True))
        assert [by_id[f"i{n}"] for n in range(len(years))] == [
            *([low], [low], [low], [middle], [middle], [high], [high], [high], [])
        ]

    def test_ranges_are_found_again_in_their_own_file(self):
        numbers = np.random.default_rng(0).normal(0, 1e7, 500)
        rows = [(repr(float(number)), "") for number in numbers]
        features = make_features(rows, KINDS, "|", "f")
        assert make_features(rows, KINDS, "|", "f", ranges_of(features, KINDS)) == features

    def test_items_that_the_file_lacks_are_not_in_it(self, tmp_path):
        found = self.read(tmp_path, "item_id,year,maker\nb,,x\nnew,,y\na,,z\nb,,w\n", ["a", "gone", "b"], [])
        assert found.item_ids == ["a", "b", "new"]
        assert found.features == [["maker=z"], ["maker=x"], ["maker=y"]]

    def test_a_file_of_other_items_is_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"Expected items of the log, such as 'a', in .*newer\.csv, found none"):
            self.read(tmp_path, "item_id,year,maker\nb,,x\n", ["a"], [])

    def test_a_data_set_has_its_own_format(self, tmp_path):
        path = tmp_path / "movies.dat"
        path.write_text("1::Toy Story (1995)::Comedy\n")
        details = find_new_details(DataConfig(format="movielens", path="elsewhere"), str(path))
        assert read_catalogue(details, ["1"], {}, ItemAccounts()).titles == ["Toy Story (1995)"]
        with pytest.raises(UserError, match=r"this one has no data.items"):
            find_new_details(DataConfig(path="log.csv"), str(path))
