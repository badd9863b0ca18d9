"""Both jobs with a store that is no disk: they read and write there, and refuse unfinished output."""

import json

import pytest
import yaml

from beam_jobs import examples, sequences
from beam_jobs.command import FINISHED
from beam_jobs.files import find_files, join, open_file, whole_file
from tests.beam_jobs.scheme_fs import BucketFileSystem
from tfdnc.contracts import schema

PREPARED, EXAMPLES, ITEMS = "bucket://there/prepared", "bucket://there/examples", "bucket://there/items.parquet"


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    monkeypatch.setattr(BucketFileSystem, "root", tmp_path / "store")


@pytest.fixture
def config(tmp_path, write_csv):
    log = write_csv([*[(user, f"i{item}", item) for user in range(9) for item in range(4)], (1, 1, "never")])
    path = tmp_path / "config.yaml"
    data = {"path": str(log), "min_item_events": 1, "min_user_events": 3, "num_shards": 2, "max_malformed_share": 0.5}
    path.write_text(yaml.safe_dump({"name": "test", "data": data}))
    return str(path)


def prepare(config, output, *more):
    return sequences.main(["--config", config, "--output", str(output), *more])


def encode(config, prepared, items, output):
    arguments = ["--config", config, "--sequences", join(prepared, "sequences"), "--items", str(items)]
    return examples.main([*arguments, "--output", str(output)])


def upload(path, target):
    with whole_file(target) as stream:
        stream.write(path.read_bytes())


def contents(place):
    """Returns {path below the folder or prefix: bytes}."""
    found = {}
    for path in find_files(place, "**"):
        with open_file(path) as stream:
            found[path.removeprefix(str(place)).lstrip("/")] = stream.read()
    return found


def test_both_jobs_write_the_same_bytes_to_a_store_and_to_a_disk(config, tmp_path, write_items):
    assert prepare(config, tmp_path / "prepared") == prepare(config, PREPARED) == 0
    items = write_items([0, 0, 1, 1], vocabulary=tmp_path / "prepared" / schema.VOCABULARY)
    upload(items, ITEMS)
    assert encode(config, tmp_path / "prepared", items, tmp_path / "examples") == 0
    assert encode(config, PREPARED, ITEMS, EXAMPLES) == 0
    assert contents(PREPARED) == contents(tmp_path / "prepared")
    assert contents(EXAMPLES) == contents(tmp_path / "examples")
    assert sorted(contents(PREPARED)) == [
        "dead_letter/log.csv.jsonl",
        FINISHED,
        "sequences/part-00000-of-00002.parquet",
        "sequences/part-00001-of-00002.parquet",
        "vocabulary.parquet",
    ]
    assert json.loads(contents(PREPARED)[FINISHED])["rows_read"] == 37


def test_bad_input_leaves_nothing_in_the_store(config, capsys):
    assert prepare(config, PREPARED, "--set", "data.min_user_events=5") == 2
    assert "none is left: 37 rows read" in capsys.readouterr().err
    assert prepare(config, PREPARED, "--set", "data.max_malformed_share=0") == 2
    assert "Expected at most 0.00% malformed rows" in capsys.readouterr().err
    assert contents("bucket://there") == {}


def test_a_place_with_files_is_not_written_to(config, tmp_path, capsys):
    upload(tmp_path / "log.csv", join(PREPARED, "mine.csv"))
    assert prepare(config, PREPARED) == 2
    assert "found 1 files such as bucket://there/prepared/mine.csv; remove them" in capsys.readouterr().err
    assert list(contents("bucket://there")) == ["prepared/mine.csv"]


def test_unfinished_output_is_not_read(config, write_items, capsys):
    items = write_items([0, 0, 1, 1])
    assert prepare(config, PREPARED) == 0
    BucketFileSystem(None).delete([join(PREPARED, FINISHED)])
    assert encode(config, PREPARED, items, EXAMPLES) == 2
    assert "found no figures.json there: it is still running or was stopped" in capsys.readouterr().err
    assert contents(EXAMPLES) == {}
