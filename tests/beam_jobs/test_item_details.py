"""Titles and categories of items."""

import pytest

from beam_jobs.item_details import find_details, read_details
from tfdnc.data_config import DataConfig, ItemFile
from tfdnc.errors import UserError


def test_movielens_titles_and_genres(tmp_path):
    text = "1::Toy Story (1995)::Animation|Comedy\n2::Amélie: A::B Film (2001)::Romance\n"
    (tmp_path / "movies.dat").write_bytes(text.encode("latin-1"))
    details = find_details(DataConfig(format="movielens", path=tmp_path))
    titles, categories = read_details(details, ["2", "1", "3"])
    assert titles == ["Amélie: A::B Film (2001)", "Toy Story (1995)", None]
    assert categories == [["Romance"], ["Animation", "Comedy"], None]


def test_movies_dat_is_optional(tmp_path):
    assert find_details(DataConfig(format="movielens", path=tmp_path)) is None
    assert read_details(None, ["1", "2"]) == ([None, None], [None, None])


def test_item_csv_with_quotes_and_its_own_separator(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text('id,tags,name\na,"x, y",A\nb,,\nb,z,second row\n')
    items = ItemFile(path=path, item="id", title="name", categories="tags", separator=",")
    titles, categories = read_details(find_details(DataConfig(path=path, items=items)), ["b", "a"])
    assert titles == [None, "A"]
    assert categories == [[], ["x", "y"]]


def test_columns_not_named_stay_unknown(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id,name\na,A\n")
    details = find_details(DataConfig(path=path, items=ItemFile(path=path, title="name")))
    assert read_details(details, ["a"]) == (["A"], [None])


@pytest.mark.parametrize("rows", ["", "1.0,A\n2.0,B\n"])
def test_a_file_that_knows_none_of_the_items_is_of_another_log(tmp_path, rows):
    """Read without a word, it would leave every item without title and category."""
    path = tmp_path / "items.csv"
    path.write_text(f"item_id,name\n{rows}")
    details = find_details(DataConfig(path=path, items=ItemFile(path=path, title="name")))
    with pytest.raises(UserError, match=r"Expected items of the log, such as '1', in .*items.csv, found none of them"):
        read_details(details, ["1", "2"])
    assert read_details(details, []) == ([], [])


def test_errors_name_the_file_the_line_and_the_columns(tmp_path):
    path = tmp_path / "items.csv"
    with pytest.raises(UserError, match=r"found no file there; set data.items.path"):
        find_details(DataConfig(path=path, items=ItemFile(path=path)))
    path.write_text("item_id,name\na,A,too many\n")
    with pytest.raises(UserError, match=r"column 'title' in .*found item_id, name; set data.items.title"):
        find_details(DataConfig(path=path, items=ItemFile(path=path, title="title")))
    with pytest.raises(UserError, match=r"Expected 2 columns in .*line 2, found 3"):
        read_details(find_details(DataConfig(path=path, items=ItemFile(path=path))), ["a"])
