"""Runs from Python, on a run up to its records: results, log records and errors."""

import logging
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import tfdnc
from tfdnc.contracts import schema
from tfdnc.contracts.config import parse_config

CONFIG = {
    "name": "tiny",
    "generate": {"users": 60, "items": 30, "groups": 3, "mean_events": 12},
    "data": {"num_shards": 1, "min_item_events": 1},
    "cluster": {"method": "random", "num_clusters": 3},
    "model": {"dim": 8, "max_length": 10},
}


@pytest.fixture(scope="module")
def config():
    return parse_config(CONFIG)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return tfdnc.run(config, until="examples", runs=tmp_path_factory.mktemp("runs"))


def test_importing_the_package_imports_none_of_what_its_names_need():
    """Nor does the name of a run import TensorFlow, Beam or gRPC."""
    code = (
        "import sys, tfdnc\n"
        "assert set(tfdnc.__all__) <= set(dir(tfdnc))\n"
        "assert not {'numpy', 'pydantic', 'pyarrow', 'rich'} & set(sys.modules)\n"
        "tfdnc.run, tfdnc.load_config, tfdnc.open_run\n"
        "assert not {'tensorflow', 'apache_beam', 'grpc'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_what_its_module_has():
    for name in {*tfdnc.__all__} - {"__version__"}:
        assert getattr(tfdnc, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'tfdnc' has no attribute 'trian'"):
        tfdnc.trian  # noqa: B018


def test_stations_are_skipped_as_on_the_command_line_and_are_log_records(run, config, caplog):
    caplog.set_level(logging.INFO, "tfdnc")
    again = tfdnc.run(config, until="examples", runs=run.folder.parent)
    lines = [record.getMessage() for record in caplog.records if record.name == "tfdnc.api.runs"]
    assert [line.partition(", ")[0] for line in lines] == [
        f"{station}: unchanged" for station in ("generate", "prepare", "cluster", "examples")
    ]
    assert again.folder == run.folder


def test_a_folder_is_opened_with_the_config_that_it_was_made_with(run, config, tmp_path):
    assert tfdnc.open_run(run.folder).config == config
    with pytest.raises(tfdnc.UserError, match=r"Expected a run at .*found no config\.yaml there"):
        tfdnc.open_run(tmp_path)


def test_items_are_a_table_in_memory_and_one_of_arrow(run):
    table = run.item_table()
    assert table.schema.names == schema.ITEM_SCHEMA.names
    assert isinstance(table, pa.Table)
    assert table["item_id"].to_pylist() == run.items.item_ids
    assert run.items.num_clusters == 3


def test_batches_and_dataset_are_windows_of_the_records(run):
    records = run.records("train")
    batches = list(run.batches(epoch=1))
    assert len(batches) == run.steps_per_epoch
    users = np.concatenate([batch["user"] for batch in batches])
    assert sorted(users) == sorted(records.users[np.diff(records.splits) > 1])
    for expected, found in zip(batches, run.training_dataset(epochs=1, first_epoch=1), strict=True):
        np.testing.assert_array_equal(expected["history"], found["history"].numpy())
    assert len(run.records("test").targets) == run.figures("prepare")["users"]
    with pytest.raises(tfdnc.UserError, match="Expected train, validation or test, got 'valid'"):
        run.records("valid")


@pytest.mark.parametrize(
    ("ask", "station"),
    [
        (lambda run: run.history, "train"),
        (lambda run: run.tower(), "train"),
        (lambda run: run.report, "evaluate"),
        (lambda run: run.bundle(), "export"),
        (lambda run: run.figures("judge"), "judge"),
    ],
)
def test_a_missing_output_is_refused_with_the_station_to_run_to(run, ask, station):
    with pytest.raises(
        tfdnc.UserError, match=rf"with a finished station {station}, found none: run .* until '{station}'"
    ):
        ask(run)


def test_an_unknown_station_is_refused(run):
    with pytest.raises(tfdnc.UserError, match=r"Expected a station among generate, prepare, .*, got 'tarin'"):
        run.figures("tarin")
