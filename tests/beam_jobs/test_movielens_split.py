"""The split of MovieLens-1M that published results use, if the data are there."""

import os
from pathlib import Path

import pytest

from beam_jobs.sequences import prepare
from tfdnc.contracts.data_config import DataConfig

ML1M = Path(os.environ.get("TFDNC_ML1M", Path(__file__).parents[2] / "../shared/data/ml-1m"))


@pytest.mark.skipif(not (ML1M / "ratings.dat").is_file(), reason="needs MovieLens-1M; set TFDNC_ML1M to its folder")
def test_held_out_items_are_those_of_published_results(tmp_path):
    figures = prepare(DataConfig(format="movielens", path=ML1M), tmp_path / "prepared")
    assert figures == {
        "rows_read": 999_611,
        "lines_joined": 0,
        "rows_malformed": {},
        "rows_filtered": {"min_item_events": 0, "min_user_events": 0},
        "filter_rounds": {"changed": 0, "converged": True},
        "twin_ids": {"items": 0, "users": 0},
        "users": 6_040,
        "items": 3_416,
        "events": 999_611,
        "split": {
            "train_events": 987_531,
            "validation": {"users": 6_040, "cold": 0},
            "test": {"users": 6_040, "cold": 0},
        },
        "times": [956_703_932, 1_046_454_590],
        "days": ["2000-04-25", "2003-02-28"],
        "equal_events": 0,
        "seen_targets": {part: {"seen": 0, "equal": 0, "in_a_row": 0} for part in ("validation", "test")},
        "item_file": {
            "file": "movies.dat",
            "rows": 3_883,
            "repeated": 0,
            "of_other_items": 467,
            "items": 3_416,
            "described": 3_416,
            "added": 0,
            "malformed": {},
            "with": dict.fromkeys(("categories", "feature genre", "feature year", "title"), 3_416),
        },
        # From the README of the data: ties in time keep the order of the lines.
        "split_sha256": "b224dfec6f17a708ef10398ffc813654aa639ee5e40474cee3bbf33a15c0c17f",
    }
