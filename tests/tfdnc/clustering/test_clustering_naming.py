"""Names of clusters: categories first, else eras and titles, never twice the same."""

import numpy as np

from tfdnc.clustering import naming

COUNTS = np.array([5, 9, 7, 1, 2, 3])
TITLES = list("abcdef")
NONE = [[]] * 6


def name_clusters(labels, counts, titles, categories):
    """Names the clusters of items whose ids are 0, 1, ..."""
    return naming.name_clusters(labels, counts, [str(i) for i in range(len(labels))], titles, categories)


def test_items_without_titles_are_called_items():
    """`1 + 2` said nothing of what it is."""
    untitled, labels = [None] * 6, np.array([0, 0, 0, 1, 1, 2])
    assert name_clusters(labels, COUNTS, untitled, NONE) == ["items 1, 2, ...", "items 4, 3", "item 5"]
    some = [None, "b", None, None, "", "f"]
    assert name_clusters(labels, COUNTS, some, NONE) == ["b + item 2", "items 4, 3", "f"]
    assert name_clusters(labels, COUNTS, untitled, [["x"]] * 6) == ["x (item 1)", "x (item 4)", "x (item 5)"]


def test_without_categories_the_most_popular_titles_name_a_cluster():
    assert name_clusters(np.array([0, 0, 0, 1, 1, 1]), COUNTS, TITLES, NONE) == ["b + c", "f + e"]


def test_a_cluster_of_one_item():
    assert name_clusters(np.array([0, 1, 1, 1, 1, 1]), COUNTS, TITLES, NONE) == ["a", "b + c"]


def test_one_cluster_is_all_items():
    assert name_clusters(np.zeros(6, dtype=int), COUNTS, TITLES, [["x"]] * 6) == ["all items"]


def test_a_common_first_category_is_the_name():
    categories = [["War", "Drama"], ["War", "Drama"], ["War"], ["Drama"], ["Drama"], ["Drama", "War"]]
    assert name_clusters(np.array([0, 0, 0, 1, 1, 1]), COUNTS, TITLES, categories) == ["War", "Drama"]


def test_categories_are_chosen_by_lift_with_a_floor_on_support():
    """Drama is everywhere and says nothing; Rare is over-represented but borne by one item of ten."""
    horror = [["Drama", "Horror"]] * 6 + [["Horror", "Sci-Fi"]] * 3 + [["Drama", "Rare"]]
    plain = [["Drama"]] * 6 + [["Comedy", "Drama"]] * 4
    names = name_clusters(np.repeat([0, 1], 10), np.arange(20), [str(i) for i in range(20)], horror + plain)
    assert names == ["Horror / Sci-Fi", "Comedy"]


def test_equal_names_are_told_apart_by_an_item_that_deserves_the_name():
    categories = [["x"], ["x"], ["x"], ["x"], ["y"], ["y"]]
    assert name_clusters(np.array([0, 0, 1, 1, 2, 2]), COUNTS, TITLES, categories) == ["x (b)", "x (c)", "y"]
    # Item b is the most popular of cluster 0, but no x.
    categories = [["x"]] * 5 + [["y"]] * 15
    categories[1] = ["y"]
    names = name_clusters(
        np.repeat([0, 1, 2], [3, 2, 15]), np.r_[5, 9, 7, 1, 2, [0] * 15], list("abcdefghijklmnopqrst"), categories
    )
    assert names[:2] == ["x (c)", "x (e)"]


def test_equal_titles_get_a_number():
    assert name_clusters(np.array([0, 1, 2]), np.ones(3), ["t", "t", "t"], [[]] * 3) == [
        "t (t)",
        "t (t) #2",
        "t (t) #3",
    ]


def test_clusters_of_an_era_say_so():
    """The first cluster's most popular title is not of its era, so others stand for it; the second is a mixture."""
    old = ["Odd One (2001)", *[f"Old {year} ({year})" for year in range(1940, 1960)]]
    new = [f"New {year} ({year})" for year in range(1970, 2010)]
    labels = np.repeat([0, 1], [len(old), len(new)])
    counts = np.r_[100, np.arange(20), np.arange(40)]
    names = name_clusters(labels, counts, old + new, [[]] * len(labels))
    assert names[0] == "1942-1958: Old 1958 (1958) + Old 1957 (1957)"
    assert names[1] == "New 2009 (2009) + New 2008 (2008)"
