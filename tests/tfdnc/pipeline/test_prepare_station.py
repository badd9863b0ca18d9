"""The prepare station: its dependencies, and its headline."""

import pytest

from tfdnc.contracts.config import parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.pipeline.engine import Workplace, run_station
from tfdnc.pipeline.stations import EXAMPLES, PREPARE, TRAIN


def config(data):
    return parse_config({"name": "x", "data": data})


@pytest.fixture
def folder(tmp_path):
    for name in ("log_standard_a.csv", "log_standard_b.csv", "log_random_c.csv"):
        (tmp_path / name).write_text("user_id,video_id,time_ms,is_click,long_view\n")
    (tmp_path / "video_features_basic_pure.csv").write_text("video_id,tag\n")
    return tmp_path


def test_it_depends_on_every_file_that_is_read_and_no_other(folder):
    files = PREPARE.files(config({"format": "kuairand", "path": str(folder)}), folder)
    assert [file.name for file in files] == [
        "log_standard_a.csv",
        "log_standard_b.csv",
        "video_features_basic_pure.csv",
    ]


def test_it_depends_on_files_of_globs_and_on_remote_files_by_their_time(folder, monkeypatch):
    from tests.beam_jobs.scheme_fs import BucketFileSystem

    store = folder / "store"
    store.mkdir()
    monkeypatch.setattr(BucketFileSystem, "root", store)
    header = "user_id,item_id,timestamp\n"
    with BucketFileSystem(None).create("bucket://shop/b.csv") as stream:
        stream.write(header.encode())
    for name in ("c.csv", "a.csv"):
        (folder / name).write_text(header)
    data = {"path": [f"{folder}/?.csv", "bucket://shop/*.csv"]}
    here, there, last = PREPARE.files(config(data), folder)
    assert (here, last) == (folder / "a.csv", folder / "c.csv")
    assert (there.url, there.size, there.modified > 0) == ("bucket://shop/b.csv", len(header), True)


def test_where_training_begins_concerns_the_examples_and_not_the_prepared_log():
    """Another day trains on other events of one log."""
    days = [config({"train_from": day, "time_unit": "ms"}) for day in (None, "1970-01-01T00:00:01", "1970-01-02")]
    assert len({str(PREPARE.settings(day)) for day in days}) == 1
    assert [EXAMPLES.settings(day).get("train_from") for day in days] == [None, 1_000, 86_400_000]


def test_options_of_a_format_matter_to_that_format_only():
    def settings(format_, feedback):
        return PREPARE.settings(config({"format": format_, "kuairand": {"feedback": feedback}}))

    assert settings("kuairand", "is_click") != settings("kuairand", "long_view")
    assert settings("csv", "is_click") == settings("csv", "long_view")


@pytest.mark.parametrize(
    ("malformed", "filtered", "end"),
    [
        ({}, {"min_item_events": 0}, "2 items kept"),
        (
            {},
            {"feedback": 1000, "min_item_events": 5},
            "2 items kept; of 1,017 rows 1,005 filtered (1,000 by feedback, 5 by min_item_events)",
        ),
        (
            {"bad": 1, "worse": 1},
            {"min_item_events": 3},
            "2 items kept; of 1,017 rows 2 malformed, 3 filtered (3 by min_item_events)",
        ),
    ],
)
def test_the_headline_says_what_was_dropped_if_anything_was(malformed, filtered, end):
    figures = {"events": 10, "users": 3, "items": 2, "rows_read": 1017, "split": {"test": {}}}
    assert PREPARE.headline(figures | {"rows_malformed": malformed, "rows_filtered": filtered}).endswith(end)


def test_times_below_0_are_refused_for_a_model_that_reads_times(tmp_path):
    """Report and bundle differed: in requests, a time below 0 was an unknown one."""
    (tmp_path / "log.csv").write_text(
        "user_id,item_id,timestamp\n" + "".join(f"u{user},i{day},{day - 9}\n" for user in range(4) for day in range(5))
    )
    data = {"path": str(tmp_path / "log.csv"), "min_item_events": 1, "min_user_events": 3}
    without = parse_config({"name": "x", "data": data})
    assert run_station(PREPARE, without, tmp_path / "a" / "without").figures["times"] == [-9, -5]
    config = parse_config({"name": "x", "data": data, "model": {"times": True}})
    with pytest.raises(UserError, match=r"times from 0 up in the log with model\.times, found -9: .* add a constant"):
        run_station(PREPARE, config, tmp_path / "b" / "with")
    assert not (tmp_path / "b" / "with" / "prepare").exists()
    with pytest.raises(UserError, match="Expected times from 0 up"):  # prepared before model.times was set
        TRAIN.work(Workplace(config, tmp_path / "a" / "without", tmp_path / "train"))
