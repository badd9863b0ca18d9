"""The second job: content of the records of every split."""

import hashlib
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.examples import build_examples
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExamplesConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import TIME, WEIGHT

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # before the first import of TensorFlow
tf = pytest.importorskip("tensorflow")

# Item index -> sequence index, and the clusters {1, 2, 3}, {4, 5, 6, 7}.
ORDER = [6, 1, 3, 7, 2, 5, 4]
CLUSTERS = [0, 0, 0, 1, 1, 1, 1]
FLOATS = {WEIGHT.key, "event_dwell"}
TIMES = [TIME.key, TIME.target_key]
FILES = [{"b": [6, 1, 7, 2], "c": [2, 2, 5]}, {}, {"a": [1, 2, 3, 4, 5, 6]}]


@pytest.fixture
def build(write_sequences, write_items, tmp_path):
    sequences, items = write_sequences(FILES), write_items(CLUSTERS, order=ORDER)

    def run(name="examples", seed=1, **config):
        output = tmp_path / name
        return build_examples(sequences, items, ExamplesConfig(**config), seed, output), output

    return run


def read(folder, names):
    """Returns all records of a split as dicts of lists, read by TensorFlow."""
    spec = {name: tf.io.RaggedFeature(tf.float32 if name in FLOATS else tf.int64) for name in names}
    files = [str(path) for path in sorted(folder.iterdir())]
    records = [tf.io.parse_single_example(record, spec) for record in tf.data.TFRecordDataset(files)]
    return [{name: value.numpy().tolist() for name, value in record.items()} for record in records]


def test_training_records(build):
    figures, output = build(num_negatives=3)
    records = read(output / schema.TRAIN, [*schema.TRAIN_FEATURES, TIME.key])
    # b: sequence indices 6, 1 are items 1, 2; c: 2 is item 5; a: 1, 2, 3, 4 are items 2, 5, 3, 7.
    assert [(r["user"], r["item"], r["cluster"]) for r in records] == [
        ([0], [1, 2], [0, 0]),
        ([1], [5], [1]),
        ([2], [2, 5, 3, 7], [0, 1, 0, 1]),
    ]
    assert [record["elapsed"] for record in records] == [[0, 1], [0], [0, 1, 3, 5]]
    for record in records:
        negatives = np.reshape(record["negatives"], (len(record["item"]), 3))
        for cluster, row in zip(record["cluster"], negatives, strict=True):
            left = {i + 1 for i, c in enumerate(CLUSTERS) if c == cluster} - set(record["item"])
            assert set(row) <= left
    assert figures["positions"] == 7


def test_with_train_from_a_record_says_how_many_events_are_earlier(write_sequences, write_items, tmp_path):
    """Times of a user's events are 0, 1, 4, 9; training parts have two, one and four."""
    sequences, items = write_sequences(FILES), write_items(CLUSTERS, order=ORDER)
    build_examples(sequences, items, ExamplesConfig(), 1, tmp_path / "examples", train_from=4)
    records = read(tmp_path / "examples" / schema.TRAIN, [*schema.TRAIN_FEATURES, schema.FIRST_TARGET])
    assert [record[schema.FIRST_TARGET] for record in records] == [[2], [1], [2]]
    assert [len(record["item"]) for record in records] == [2, 1, 4]  # the history keeps the earlier ones


def test_weights_of_the_training_part_are_in_the_training_records_only(write_sequences, write_items, tmp_path):
    def weigh(users):
        return {user: [item / 4 for item in items] for user, items in users.items()}

    sequences = write_sequences(FILES, weights=[weigh(users) for users in FILES])
    build_examples(sequences, write_items(CLUSTERS, order=ORDER), ExamplesConfig(), 1, tmp_path / "examples")
    records = read(tmp_path / "examples" / schema.TRAIN, [*schema.TRAIN_FEATURES, WEIGHT.key])
    assert [record[WEIGHT.key] for record in records] == [[1.5, 0.25], [0.5], [0.25, 0.5, 0.75, 1.0]]
    for split in (schema.VALIDATION, schema.TEST):
        records = read(tmp_path / "examples" / split, [*schema.HELD_OUT_FEATURES, WEIGHT.key])
        assert not any(record[WEIGHT.key] for record in records)


@pytest.mark.parametrize("weigh", [lambda place: 0, lambda place: float(place == 0 or place > 3)])
def test_weights_of_0_for_all_targets_are_refused(write_sequences, write_items, tmp_path, weigh):
    """Regression: an untrained model was exported. The first event of a user is no target, nor are the last two."""
    files = [{"a": [1, 2, 3, 4, 5, 6], "b": [6, 1, 7, 2, 3, 4]}]
    sequences = write_sequences(files, weights=[{user: [*map(weigh, range(6))] for user in "ab"}])
    with pytest.raises(UserError, match=r"weights above 0 by data\.columns\.weight or .*, found 0 for all 6 "):
        build_examples(sequences, write_items(CLUSTERS, order=ORDER), ExamplesConfig(), 1, tmp_path / "examples")
    sequences = write_sequences(files, "some", weights=[{"a": [0, 0, 0, 0, 1, 1], "b": [1, 1, 0, 0, 0, 0]}])
    figures = build_examples(sequences, write_items(CLUSTERS, order=ORDER), ExamplesConfig(), 1, tmp_path / "examples")
    assert figures["weights"] == {"targets": 6, "weighted": 1}


def test_without_weights_there_is_no_such_feature(build):
    _, output = build()
    assert b"weight" not in b"".join(path.read_bytes() for path in output.rglob("*.tfrecord"))


def held_out(user, item, target, cluster, elapsed, target_elapsed):
    times = {"elapsed": elapsed, "target_elapsed": target_elapsed}
    return {"user": user, "item": item, "target": target, "target_cluster": cluster} | times


def test_held_out_records(build):
    _, output = build()
    names = [*schema.HELD_OUT_FEATURES, *TIMES]
    assert read(output / schema.VALIDATION, names) == [
        held_out([0], [1, 2], [4], [1], elapsed=[0, 1], target_elapsed=[3]),
        held_out([1], [5], [5], [1], elapsed=[0], target_elapsed=[1]),
        held_out([2], [2, 5, 3, 7], [6], [1], elapsed=[0, 1, 3, 5], target_elapsed=[7]),
    ]
    assert read(output / schema.TEST, names) == [
        held_out([0], [1, 2, 4], [5], [1], elapsed=[0, 1, 3], target_elapsed=[5]),
        held_out([1], [5, 5], [6], [1], elapsed=[0, 1], target_elapsed=[3]),
        held_out([2], [2, 5, 3, 7, 6], [1], [0], elapsed=[0, 1, 3, 5, 7], target_elapsed=[9]),
    ]


def test_a_user_has_a_record_in_the_splits_of_its_events(write_sequences, write_items, tmp_path):
    split_of = {(1, 2, 3): (3, -1, -1), (2, 3, 4, 5): (1, 1, 3), (3, 4): (0, -1, 1), (4, 5, 6): (2, -1, 2)}
    sequences = write_sequences(
        [{"nothing held out": [1, 2, 3], "all": [2, 3, 4, 5]}, {"no training": [3, 4], "no validation": [4, 5, 6]}],
        split=lambda items: split_of[tuple(items)],
    )
    output = tmp_path / "examples"
    figures = build_examples(sequences, write_items([0] * 7), ExamplesConfig(), 1, output)
    assert figures["records"] == {"train": 3, "validation": 1, "test": 3}
    assert figures["positions"] == 6
    records = read(output / schema.TRAIN, ["user", "item"])
    assert [(r["user"], r["item"]) for r in records] == [([0], [1, 2, 3]), ([1], [2]), ([3], [4, 5])]
    held_out = {split: read(output / split, ["user", "item", "target"]) for split in (schema.VALIDATION, schema.TEST)}
    assert held_out == {
        schema.VALIDATION: [{"user": [1], "item": [2], "target": [3]}],
        schema.TEST: [
            {"user": [1], "item": [2, 3, 4], "target": [5]},
            {"user": [2], "item": [3], "target": [4]},
            {"user": [3], "item": [4, 5], "target": [6]},
        ],
    }


def test_a_difference_of_times_is_at_most_the_largest_int64(write_sequences, write_items, tmp_path):
    """Regression: the difference overflowed to a number below 0, which no record may hold."""
    sequences = write_sequences([{"a": [1, 2, 3, 4]}])
    [path] = sequences.iterdir()
    table = pq.read_table(path)
    times = pa.array([[-(2**63), -(2**63) + 5, 2**63 - 1, 2**63 - 1]], pa.list_(pa.int64()))
    pq.write_table(table.set_column(2, "times", times), path, write_page_checksum=True)
    build_examples(sequences, write_items([0, 0, 1, 1]), ExamplesConfig(), 1, tmp_path / "examples")
    [record] = read(tmp_path / "examples" / schema.TEST, TIMES)
    assert (record["elapsed"], record["target_elapsed"]) == ([0, 5, 2**63 - 1], [0])


def test_held_out_items_may_be_negatives(build):
    _, output = build(num_negatives=200)
    records = read(output / schema.TRAIN, schema.TRAIN_FEATURES)
    # User 2's test item is 1, and its cluster-0 training items are 2 and 3: only item 1 is left.
    assert set(records[2]["negatives"][:200]) == {1}


def test_exhausted_cluster_is_padded_and_counted(write_sequences, write_items, tmp_path):
    sequences = write_sequences([{"u": [1, 2, 3, 4, 4]}])
    items = write_items([0, 0, 1, 1, 1])
    figures = build_examples(sequences, items, ExamplesConfig(num_negatives=2), 1, tmp_path / "examples")
    (record,) = read(tmp_path / "examples" / schema.TRAIN, schema.TRAIN_FEATURES)
    assert record["negatives"][:4] == [0, 0, 0, 0]
    assert set(record["negatives"][4:]) <= {4, 5}
    assert figures["negatives"] == {"drawn": 2, "exact": 0, "redrawn": figures["negatives"]["redrawn"], "empty": 4}


def test_figures(build):
    figures, output = build()
    assert figures["records"] == {"train": 3, "validation": 3, "test": 3}
    for split, digest in figures["sha256"].items():
        shards = sorted((output / split).iterdir())
        assert [path.name for path in shards] == [schema.shard_name(shard, 3, "tfrecord") for shard in range(3)]
        assert digest == hashlib.sha256(b"".join(path.read_bytes() for path in shards)).hexdigest()
    assert {path.name for path in output.iterdir()} == {schema.TRAIN, schema.VALIDATION, schema.TEST}


def test_seed_changes_negatives_only(build):
    first, again, other = (
        build("one", num_negatives=9),
        build("two", num_negatives=9),
        build("three", 2, num_negatives=9),
    )
    assert first[0] == again[0]
    assert first[0]["sha256"]["train"] != other[0]["sha256"]["train"]
    assert first[0]["sha256"]["test"] == other[0]["sha256"]["test"]


def test_negatives_of_a_user_do_not_depend_on_the_others(write_sequences, write_items, tmp_path):
    items = write_items(CLUSTERS, order=ORDER)
    sequences = {name: write_sequences(files, name) for name, files in (("all", FILES), ("a", [{"a": FILES[2]["a"]}]))}
    records = {}
    for name, folder in sequences.items():
        build_examples(folder, items, ExamplesConfig(num_negatives=5), 1, tmp_path / f"{name}-examples")
        records[name] = read(tmp_path / f"{name}-examples" / schema.TRAIN, schema.TRAIN_FEATURES)[-1]
    assert records["all"]["negatives"] == records["a"]["negatives"]


@pytest.mark.parametrize("change", [lambda ids: ids[::-1], lambda ids: [*ids, "new"]])
def test_item_table_of_another_log_is_refused(write_csv, prepare_log, write_items, tmp_path, change):
    rows = [(user, item, time) for user in range(3) for time, item in enumerate("abcd")]
    _, prepared = prepare_log(write_csv(rows))
    vocabulary = tmp_path / schema.VOCABULARY
    ids = change(pq.read_table(prepared / schema.VOCABULARY)["item_id"].to_pylist())
    pq.write_table(pa.table({"item_id": ids}), vocabulary)
    items = write_items([0] * len(ids), vocabulary=vocabulary)
    with pytest.raises(UserError, match=r"Expected the 4 items of .*vocabulary.parquet in .*, found . items"):
        build_examples(prepared / schema.SEQUENCES, items, ExamplesConfig(), 1, tmp_path / "examples")
    assert not (tmp_path / "examples").exists()


def test_truncated_sequence_file_is_a_user_error(write_sequences, write_items, tmp_path):
    sequences = write_sequences(FILES)
    path = sequences / schema.shard_name(2, 3, "parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"whole Parquet file .*part-00002-of-00003.parquet, could not read it"):
        build_examples(sequences, write_items(CLUSTERS), ExamplesConfig(), 1, tmp_path / "examples")


def test_damaged_page_is_a_user_error(write_sequences, write_items, tmp_path):
    sequences = write_sequences([{f"user-{i}": [1, 2, 3, 4] for i in range(500)}])
    path = sequences / schema.shard_name(0, 1, "parquet")
    damaged = bytearray(path.read_bytes())
    damaged[200] ^= 0xFF  # inside the first data page; the footer is whole
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"whole Parquet file .*part-00000-of-00001.parquet, could not read it"):
        build_examples(sequences, write_items([0] * 4), ExamplesConfig(), 1, tmp_path / "examples")


@pytest.mark.parametrize(
    ("files", "remove", "message"),
    [
        ([], None, "Expected shards .* found none; run prepare first"),
        (FILES, 1, "Expected the 3 files .* found 2 that are not these"),
        ([{}], None, "Expected users in .*, found none"),
        ([{"u": [1, 2, 9]}], None, "sequence_index 9 is not in it"),
    ],
)
def test_wrong_inputs_are_user_errors(write_sequences, write_items, tmp_path, files, remove, message):
    sequences = write_sequences(files)
    if remove is not None:
        (sequences / schema.shard_name(remove, len(files), "parquet")).unlink()
    with pytest.raises(UserError, match=message):
        build_examples(sequences, write_items(CLUSTERS), ExamplesConfig(), 1, tmp_path / "examples")
