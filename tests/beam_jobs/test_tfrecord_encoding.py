"""TensorFlow reads the records that are encoded without it."""

import os

import numpy as np
import pytest

from beam_jobs.tfrecord import Floats, Lists, Varints, encode_examples, encode_varints, scalars, write_records

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # before the first import of TensorFlow
tf = pytest.importorskip("tensorflow")


def test_varints_by_hand():
    encoded, edges = encode_varints(np.array([0, 1, 127, 128, 300, 2**62]))
    assert encoded == bytes([0, 1, 0x7F, 0x80, 1, 0xAC, 2]) + b"\x80" * 8 + b"\x40"
    assert edges.tolist() == [0, 1, 2, 3, 5, 7, 16]
    assert encode_varints(np.array([], np.int64))[0] == b""


def test_negative_values_are_refused():
    with pytest.raises(ValueError, match="expected values >= 0, got -1"):
        encode_varints(np.array([3, -1]))


@pytest.mark.parametrize("largest", [2, 1 << 7, 1 << 14, 1 << 21, 1 << 40, (1 << 63) - 1])
@pytest.mark.parametrize("length", [0, 1, 43, 5000])
def test_records_equal_protobufs_own_deterministic_bytes(largest, length):
    values = np.random.default_rng(0).integers(0, largest, length, endpoint=True)
    features = {
        "user": scalars(np.array([7, 300])),
        "item": Varints(values).lists(np.array([0, 0]), np.array([length, length // 2])),
    }
    first, second = encode_examples(features)
    for record, user, items in ((first, 7, values), (second, 300, values[: length // 2])):
        lists = {"item": items.tolist(), "user": [user]}
        expected = tf.train.Example(
            features=tf.train.Features(
                feature={
                    name: tf.train.Feature(int64_list=tf.train.Int64List(value=value)) for name, value in lists.items()
                }
            )
        )
        assert tf.train.Example.FromString(record) == expected
        assert record == expected.SerializeToString(deterministic=True)


def test_floats_equal_protobufs_own_bytes():
    values = np.array([0.0, 1.5, 1e-45, 3.4e38, 0.1], np.float32)
    starts, ends = np.array([0, 2, 4]), np.array([2, 2, 5])
    for record, start, end in zip(
        encode_examples({"w": Floats(values).lists(starts, ends)}), starts, ends, strict=True
    ):
        feature = tf.train.Feature(float_list=tf.train.FloatList(value=values[start:end]))
        expected = tf.train.Example(features=tf.train.Features(feature={"w": feature}))
        assert record == expected.SerializeToString(deterministic=True)


def test_tensorflow_reads_the_files(tmp_path):
    path = tmp_path / "part.tfrecord"
    records = [b"", b"one", bytes(range(256)) * 300]
    assert write_records(path, records) == 3
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(path))] == records


def test_a_failing_write_leaves_no_file(tmp_path):
    def records():
        yield b"one"
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        write_records(tmp_path / "part.tfrecord", records())
    assert list(tmp_path.iterdir()) == []


def test_features_must_have_the_same_number_of_records():
    with pytest.raises(ValueError, match="shorter"):
        list(encode_examples({"a": scalars(np.arange(2)), "b": Lists(b"\x01", [0], [1])}))
