"""The benchmark of the training input reads a whole data set, several times as long."""

import numpy as np

from beam_jobs.tfrecord import Varints, encode_examples, scalars, write_records
from developer_benchmarks.training_input import link
from tfdnc.contracts import schema
from tfdnc.training.records import read_training


def test_linked_shards_are_one_data_set(tmp_path):
    items, bounds = Varints(np.array([1, 2, 3, 1, 2])), (np.array([0, 3]), np.array([3, 5]))
    lists = items.lists(*bounds)
    for shard in range(2):
        features = {"user": scalars(2 * shard + np.arange(2)), "item": lists, "cluster": lists, "negatives": lists}
        write_records(tmp_path / schema.shard_name(shard, 2, "tfrecord"), encode_examples(features))
    link(tmp_path, copies=3)
    records = read_training(tmp_path)
    assert records.items.tolist() == 6 * [1, 2, 3, 1, 2]
    assert len(list(tmp_path.iterdir())) == 6
