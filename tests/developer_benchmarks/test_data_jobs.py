"""The logs that the data jobs are measured on are what they promise, and the script beside them does the same work."""

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from beam_jobs.sequences import prepare
from developer_benchmarks.data_jobs import refuse_other_events, run_jobs
from developer_benchmarks.data_jobs_polars import number_items, read_events, write_records
from developer_benchmarks.kuairand_log import LOGS, TAGS, VIDEOS, Shape, write_log
from tfdnc.backend import tf
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import DataConfig

HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
MIN_ITEM_EVENTS, MIN_USER_EVENTS = 30, 10


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    write_log(folder, Shape(rows=30_000, users=120, videos=400))
    return folder


@pytest.fixture(scope="module")
def prepared(log, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared")
    limits = {"min_item_events": MIN_ITEM_EVENTS, "min_user_events": MIN_USER_EVENTS}
    config = DataConfig(format="kuairand", path=log, kuairand={"tab": 1}, num_shards=4, **limits)
    return prepare(config, output), output


def test_equal_arguments_give_equal_bytes_and_another_seed_others(log, tmp_path):
    shape = Shape(rows=30_000, users=120, videos=400)
    for name, seed in (("same", 1), ("other", 2)):
        write_log(tmp_path / name, shape, seed)
    for name in (*LOGS, VIDEOS):
        expected = (log / name).read_bytes()
        assert (tmp_path / "same" / name).read_bytes() == expected
        assert (tmp_path / "other" / name).read_bytes() != expected


def test_rows_are_in_the_columns_of_kuairand_and_in_order_of_time(log):
    tables = [pyarrow.csv.read_csv(log / name) for name in LOGS]
    assert [",".join(table.column_names) for table in tables] == [HEADER] * len(LOGS)
    times = np.concatenate([table["time_ms"].to_numpy() for table in tables])
    assert len(times) == 30_000
    assert (np.diff(times) >= 0).all()


def test_the_data_job_reads_every_row(prepared):
    figures, output = prepared
    assert figures["rows_malformed"] == {}
    assert figures["rows_read"] == figures["events"] + sum(figures["rows_filtered"].values()) == 30_000
    assert all(figures["rows_filtered"][rule] > 0 for rule in ("feedback", "tab", "min_item_events"))
    categories = pq.read_table(output / schema.VOCABULARY)["categories"].to_pylist()
    assert {len(tags) for tags in categories} == {1, 2}


def test_users_prefer_a_few_tags(log):
    videos = pyarrow.csv.read_csv(log / VIDEOS)
    first_tag = np.array([int(str(tags).split(",")[0]) for tags in videos["tag"].to_pylist()])
    rows = pyarrow.csv.read_csv(log / LOGS[0])
    tags_of_user = np.zeros((120, TAGS))
    np.add.at(tags_of_user, (rows["user_id"].to_numpy(), first_tag[rows["video_id"].to_numpy()]), 1)
    busy = tags_of_user[tags_of_user.sum(axis=1) > 50]
    share_of_three = np.sort(busy, axis=1)[:, -3:].sum(axis=1) / busy.sum(axis=1)
    assert share_of_three.mean() > 0.7


def test_twice_the_rows_are_of_the_same_users_and_videos():
    assert Shape(100_000, 100, 1000).scaled(1, rows=2) == Shape(200_000, 100, 1000)
    assert Shape(100_000, 1000, 1000).scaled(0.1) == Shape(10_000, 100, 100)


def test_the_script_keeps_the_same_events(log, prepared, tmp_path):
    _, output = prepared
    plain = tmp_path / "sequences.parquet"
    events = read_events(log, MIN_ITEM_EVENTS, MIN_USER_EVENTS)
    events.group_by("user_id", maintain_order=True).agg("video_id", "time_ms").write_parquet(plain)
    refuse_other_events(output, plain)


def test_the_script_writes_three_records_a_user_with_negatives_of_the_same_cluster(log, tmp_path):
    events = read_events(log, MIN_ITEM_EVENTS, MIN_USER_EVENTS)
    items, cluster, offsets = number_items(events, 5)
    lengths = np.unique(events["user_id"].to_numpy(), return_counts=True)[1]
    write_records(tmp_path, items, np.concatenate([[0], np.cumsum(lengths)]), cluster, offsets)
    for split, size in (("train", lengths - 2), ("validation", lengths - 2), ("test", lengths - 1)):
        records = tf.data.TFRecordDataset(str(tmp_path / f"{split}.tfrecord")).as_numpy_iterator()
        features = [tf.train.Example.FromString(record).features.feature for record in records]
        assert [len(feature["item"].int64_list.value) for feature in features] == size.tolist()
        for feature in features if split == "train" else []:
            own, clusters, negatives = (feature[name].int64_list.value for name in ("item", "cluster", "negatives"))
            assert cluster[list(negatives)].tolist() == list(clusters) == cluster[list(own)].tolist()
            assert not set(negatives) & set(own)


def test_other_events_are_refused(log, prepared, tmp_path):
    _, output = prepared
    plain = tmp_path / "sequences.parquet"
    events = read_events(log, MIN_ITEM_EVENTS + 1, MIN_USER_EVENTS)
    events.group_by("user_id", maintain_order=True).agg("video_id", "time_ms").write_parquet(plain)
    with pytest.raises(RuntimeError, match="Expected the same"):
        refuse_other_events(output, plain)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    peaks = []
    for rows in (1, 3):
        folder = tmp_path / f"{rows}"
        write_log(folder / "log", Shape().scaled(0.05, rows))
        costs = run_jobs(folder / "log", folder, 64, [])
        peaks.append({job: cost.peak for job, cost in costs.items()})
    for job in ("prepare", "examples"):
        assert peaks[1][job] < 1.2 * peaks[0][job]
