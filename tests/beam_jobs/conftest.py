"""Fixtures: small logs, and readers of the jobs' output."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.transforms import core

from beam_jobs.sequences import prepare
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.features import WEIGHT, sequence_schema


@pytest.fixture(scope="session", autouse=True)
def _remembered_signatures():
    """Every job has Beam read signatures of the same functions thousands of times: a fifth of a small job's time."""
    read, known = core.get_signature, {}

    def remembered(function):
        key = getattr(function, "__func__", function), hasattr(function, "__self__")
        if key not in known:
            known[key] = read(function)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "get_signature", remembered)
        yield


@pytest.fixture
def write_csv(tmp_path):
    """Writes (user, item, time) rows as a CSV log and returns its path."""

    def write(rows, name="log.csv", header="user_id,item_id,timestamp"):
        path = tmp_path / name
        path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
        return path

    return write


@pytest.fixture
def prepare_log(tmp_path):
    """Runs the job with filters that keep (almost) everything, unless a test sets others."""

    def run(path, runner_args=(), name="prepared", **config):
        config = {"min_item_events": 1, "min_user_events": 3, "num_shards": 2, "max_malformed_share": 0.5, **config}
        output = tmp_path / name
        return prepare(DataConfig(path=path, **config), output, runner_args), output

    return run


@pytest.fixture
def read_users():
    """Returns {user: [(item id, time), ...]} of a prepared folder, users in the order of the files."""

    def read(prepared: Path) -> dict:
        ids = [None, *pq.read_table(prepared / schema.VOCABULARY)["item_id"].to_pylist()]
        users = {}
        for path in sorted((prepared / schema.SEQUENCES).iterdir()):
            for row in pq.read_table(path).to_pylist():
                users[row["user_id"]] = [(ids[i], t) for i, t in zip(row["items"], row["times"], strict=True)]
        return users

    return read


@pytest.fixture
def write_items(tmp_path):
    """Writes an item table: item i+1 of the result is sequence index `order[i]`, in cluster `clusters[i]`.

    Ids are those of a vocabulary, if one is given.
    """

    def write(clusters, counts=None, order=None, name="items.parquet", vocabulary=None):
        n = len(clusters)
        order = np.arange(1, n + 1) if order is None else np.asarray(order)
        known = pq.read_table(vocabulary)["item_id"].to_pylist() if vocabulary else None
        columns = [
            pa.array(np.arange(1, n + 1, dtype=np.int32)),
            pa.array(order.astype(np.int32)),
            pa.array([known[index - 1] if known else f"item-{index}" for index in order]),
            pa.array(np.asarray(clusters, np.int32)),
            pa.array(np.zeros(n, bool)),
            pa.array(np.ones(n, np.int64) if counts is None else np.asarray(counts, np.int64)),
            pa.nulls(n, pa.string()),
            pa.nulls(n, pa.list_(pa.string())),
            pa.nulls(n, pa.list_(pa.string())),
        ]
        path = tmp_path / name
        pq.write_table(pa.Table.from_arrays(columns, schema=schema.ITEM_SCHEMA), path)
        return path

    return write


@pytest.fixture
def write_sequences(tmp_path):
    """Writes files of sequences at times 0, 1, 4, 9, ...: {user: items}, and {user: weights} if there are any.

    The last two items are held out, or `split` says what is.
    """

    def write(
        files,
        name="sequences",
        split=lambda items: (len(items) - 2, len(items) - 2, len(items) - 1),
        weights=None,
    ):
        folder = tmp_path / name
        folder.mkdir()
        for shard, users in enumerate(files):
            items = list(users.values())
            times = [[place**2 for place in range(len(sequence))] for sequence in items]
            splits = zip(*map(split, items), strict=True) if users else ((), (), ())
            columns = [list(users), items, times, *splits]
            columns += [[weights[shard][user] for user in users]] if weights else []
            layout = sequence_schema([WEIGHT] if weights else [])
            arrays = [pa.array(c, f.type) for c, f in zip(columns, layout, strict=True)]
            table = pa.Table.from_arrays(arrays, schema=layout)
            pq.write_table(table, folder / schema.shard_name(shard, len(files), "parquet"), write_page_checksum=True)
        return folder

    return write


@pytest.fixture
def bytes_of():
    """Returns {relative path: bytes} of every file below a folder."""

    def read(folder: Path) -> dict:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read
