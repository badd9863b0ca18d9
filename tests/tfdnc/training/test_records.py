"""Reading the TFRecords of the examples job."""

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import TIME, WEIGHT, Kind, event_feature
from tfdnc.training.records import read_held_out, read_training
from tfdnc.training.workers import WorkerIndex

DWELL = event_feature("dwell", Kind.NUMBER)


def write(folder, shard, examples, num_shards=2):
    folder.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / schema.shard_name(shard, num_shards, "tfrecord"))) as writer:
        for features in examples:
            encoded = {
                name: tf.train.Feature(float_list=tf.train.FloatList(value=value))
                if name in (WEIGHT.key, DWELL.key)
                else tf.train.Feature(int64_list=tf.train.Int64List(value=value))
                for name, value in features.items()
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=encoded)).SerializeToString())


@pytest.fixture
def training_folder(tmp_path):
    folder = tmp_path / schema.TRAIN
    write(folder, 0, [{"user": [0], "item": [4, 5], "cluster": [0, 1], "negatives": [1, 2, 6, 0]}])
    write(folder, 1, [{"user": [1], "item": [7], "cluster": [1], "negatives": [8, 9]}])
    return folder


def test_training_records_come_in_order_of_the_shards(training_folder):
    records = read_training(training_folder)
    np.testing.assert_array_equal(records.items, [4, 5, 7])
    np.testing.assert_array_equal(records.clusters, [0, 1, 1])
    np.testing.assert_array_equal(records.negatives, [[1, 2], [6, 0], [8, 9]])
    np.testing.assert_array_equal(records.splits, [0, 2, 3])
    np.testing.assert_array_equal(records.users, [0, 1])
    assert records.features == {}


def write_weighted(folder, weights):
    for shard, (items, weight) in enumerate((([4, 5], weights[0]), ([7], weights[1]))):
        features = {"user": [shard], "item": items, "cluster": items, "negatives": items}
        write(folder, shard, [features | ({} if weight is None else {WEIGHT.key: weight})])
    return folder


def test_a_weight_of_training_records_stands_beside_the_event_before(tmp_path):
    """There a window reads it: a target counts by its own weight. The last event of a user has no target."""
    folder = write_weighted(tmp_path / schema.TRAIN, ([0.5, 0.25], [2.0]))
    weights = read_training(folder, features=[WEIGHT]).features[WEIGHT.key]
    np.testing.assert_array_equal(weights[[0]], np.float32([0.25]))
    assert (weights.dtype, weights.shape) == (np.float32, (3,))


@pytest.mark.parametrize(("features", "expected"), [((), [0, 1, 0, 0]), ([WEIGHT], [0, 3, 0, 0])])
def test_targets_before_the_first_one_that_counts_have_weight_0(tmp_path, features, expected):
    """Beside the event before, where a window reads it; no position reads that of a user's last event."""
    for shard, (weights, first) in enumerate((([1.0, 2.0, 3.0], 2), ([4.0, 5.0, 5.0], 3))):
        record = {
            "user": [shard],
            "item": [1, 2, 3],
            "cluster": [0, 0, 0],
            "negatives": [],
            schema.FIRST_TARGET: [first],
        }
        write(tmp_path / schema.TRAIN, shard, [record | {WEIGHT.key: weights}])
    records = read_training(tmp_path / schema.TRAIN, features=features, partly=True)
    weights = records.features[WEIGHT.key]
    np.testing.assert_array_equal(records.first_targets, [2, 3])
    np.testing.assert_array_equal(weights[[0, 1, 3, 4]], expected)
    assert weights.dtype == np.float32


def test_records_that_do_not_say_which_targets_count_are_refused(training_folder):
    with pytest.raises(
        UserError, match=r"Expected first_target in each of 2 records .* Run the examples station again"
    ):
        read_training(training_folder, partly=True)


@pytest.mark.parametrize("weights", [([0.5, 0.0], None), ([0.5, 0.0], [1.0, 1.0])])
def test_weights_of_some_events_only_are_refused(tmp_path, weights):
    with pytest.raises(UserError, match=r"weight of each of the 3 items .* found [24]: .*Run the examples station"):
        read_training(write_weighted(tmp_path / schema.TRAIN, weights), features=[WEIGHT])


def test_every_worker_reads_its_own_shards(tmp_path):
    folder = tmp_path / schema.TRAIN
    for user, items in enumerate(([4, 5], [7], [1])):
        write(folder, user, [{"user": [user], "item": items, "cluster": items, "negatives": items}], num_shards=3)
    first, second = (read_training(folder, WorkerIndex(index, 2)) for index in range(2))
    assert (first.users.tolist(), first.items.tolist(), first.splits.tolist()) == ([0, 2], [4, 5, 1], [0, 2, 3])
    assert (second.users.tolist(), second.items.tolist()) == ([1], [7])
    with pytest.raises(UserError, match=r"at least one shard per worker in .*, found 3 for 4 workers"):
        read_training(folder, WorkerIndex(0, 4))


def test_shards_without_a_record_are_refused(tmp_path):
    folder = tmp_path / schema.TRAIN
    write(folder, 0, [{"user": [0], "item": [4, 5], "cluster": [0, 0], "negatives": []}], num_shards=2)
    write(folder, 1, [], num_shards=2)
    with pytest.raises(UserError, match=r"Expected records in .*-00001-of-00002.*, found none.*start fewer workers"):
        read_training(folder, WorkerIndex(1, 2))


def test_records_without_negatives(tmp_path):
    folder = tmp_path / schema.TRAIN
    write(folder, 0, [{"user": [0], "item": [4, 5], "cluster": [0, 0], "negatives": []}], num_shards=1)
    assert read_training(folder).negatives.shape == (2, 0)


def test_held_out_records(tmp_path):
    folder = tmp_path / schema.TEST
    write(folder, 0, [{"user": [0], "item": [4, 5], "target": [6], "target_cluster": [1]}])
    write(folder, 1, [{"user": [1], "item": [3], "target": [2], "target_cluster": [0]}])
    records = read_held_out(folder)
    np.testing.assert_array_equal(records.items, [4, 5, 3])
    np.testing.assert_array_equal(records.splits, [0, 2, 3])
    np.testing.assert_array_equal(records.targets, [6, 2])
    np.testing.assert_array_equal(records.target_clusters, [1, 0])


def test_times_are_read_on_demand(tmp_path):
    long = 10**12  # more than int32 holds
    write(tmp_path / "train", 0, [{"user": [0], "item": [4, 5], "cluster": [0, 0], "elapsed": [0, long]}], num_shards=1)
    assert read_training(tmp_path / "train").features == {}
    assert read_training(tmp_path / "train", features=[TIME]).features[TIME.key][0] == long

    users = [
        {"item": [4, 5, 6], "elapsed": [0, 3, long], "target_elapsed": [7]},
        {"item": [5], "elapsed": [0], "target_elapsed": [9]},
    ]
    records = [{"user": [row], "target": [1], "target_cluster": [0]} | user for row, user in enumerate(users)]
    write(tmp_path / "test", 0, records, num_shards=1)
    assert read_held_out(tmp_path / "test").features == {}
    # From each item to the next, and from the last to the target.
    assert read_held_out(tmp_path / "test", [TIME]).features[TIME.key].tolist() == [3, long, 7, 9]


def test_numbers_stand_beside_their_own_event(tmp_path):
    record = {"user": [0], "item": [4, 5], "cluster": [0, 0], DWELL.key: [0.5, -1e30]}
    write(tmp_path / "train", 0, [record], num_shards=1)
    write(tmp_path / "test", 0, [record | {"target": [6], "target_cluster": [0]}], num_shards=1)
    for records in (read_training(tmp_path / "train", features=[DWELL]), read_held_out(tmp_path / "test", [DWELL])):
        np.testing.assert_array_equal(records.features[DWELL.key], np.float32([0.5, -1e30]))


def test_records_without_times_say_what_to_run(tmp_path):
    write(tmp_path / "train", 0, [{"user": [0], "item": [4, 5], "cluster": [0, 0]}], num_shards=1)
    with pytest.raises(UserError, match=r"elapsed of each of the 2 items.*Run the examples station again"):
        read_training(tmp_path / "train", features=[TIME])


@pytest.mark.parametrize("damage", [lambda raw: raw[:-5], lambda raw: raw[:20] + b"\xff" + raw[21:]])
def test_a_damaged_shard_is_named_with_what_to_do(training_folder, damage):
    shard = training_folder / schema.shard_name(1, 2, "tfrecord")
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(UserError, match=r"truncated or damaged.*Run the examples station again"):
        read_training(training_folder)


def test_a_missing_shard_is_not_passed_over(training_folder):
    (training_folder / schema.shard_name(0, 2, "tfrecord")).unlink()
    with pytest.raises(UserError, match=r"Expected the 2 files part-00000.* found 1 that are not these; run the exam"):
        read_training(training_folder)


def test_records_of_another_layout_are_refused(tmp_path):
    folder = tmp_path / schema.TRAIN
    for shard in range(2):
        write(folder, shard, [{"user": [shard], "item": [4, 5], "cluster": [0], "negatives": [1, 2]}])
    with pytest.raises(UserError, match="as many clusters as items"):
        read_training(folder)


def test_an_empty_folder_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match="run the examples station first"):
        read_training(tmp_path)
