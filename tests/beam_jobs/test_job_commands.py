"""The jobs from the command line: their output folders and their errors."""

import fcntl
import json
import os
import subprocess
import sys

import pytest
import yaml

from beam_jobs import examples, sequences
from beam_jobs.command import FINISHED
from tfdnc.contracts import schema


@pytest.fixture
def config(tmp_path, write_csv):
    log = write_csv([(user, f"i{item}", item) for user in range(5) for item in range(4)])
    path = tmp_path / "config.yaml"
    data = {"path": str(log), "min_item_events": 1, "min_user_events": 3, "num_shards": 2}
    path.write_text(yaml.safe_dump({"name": "test", "data": data}))
    return path


def test_both_jobs_in_fresh_processes(config, tmp_path, write_items):
    # The module runs as `__main__`, so workers must still be able to import what they unpickle.
    command = [sys.executable, "-m", "beam_jobs.sequences", "--config", config, "--output", tmp_path / "prepared"]
    flags = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    subprocess.run([*command, *flags], check=True, timeout=120)
    items = write_items([0, 0, 1, 1], vocabulary=tmp_path / "prepared" / schema.VOCABULARY)
    arguments = ["--config", config, "--sequences", tmp_path / "prepared" / schema.SEQUENCES, "--items", items]
    status = examples.main([*map(str, arguments), "--output", str(tmp_path / "examples"), "--runner=FnApiRunner"])
    assert status == 0
    assert len(list((tmp_path / "examples").rglob("*.tfrecord"))) == 6


def test_no_tensorflow_in_the_jobs():
    code = "import sys, beam_jobs.sequences, beam_jobs.examples; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_bad_input_is_one_message_status_2_and_no_output(config, tmp_path, capsys):
    output = tmp_path / "prepared"
    arguments = ["--config", str(config), "--output", str(output)]
    assert sequences.main([*arguments, "--set", "data.min_user_events=5"]) == 2
    assert "none is left: 20 rows read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("prepared")] == []


def test_existing_output_is_not_overwritten(config, tmp_path, capsys):
    output = tmp_path / "prepared"
    output.mkdir()
    assert sequences.main(["--config", str(config), "--output", str(output)]) == 2
    assert "but it exists; remove it or name another folder" in capsys.readouterr().err


def test_files_of_a_killed_job_are_not_in_the_output(config, tmp_path):
    leftover = tmp_path / ".prepared.unfinished" / schema.SEQUENCES
    leftover.mkdir(parents=True)
    (leftover / "part-00007-of-00009.parquet").write_bytes(b"half")
    assert sequences.main(["--config", str(config), "--output", str(tmp_path / "prepared")]) == 0
    names = sorted(path.name for path in (tmp_path / "prepared" / schema.SEQUENCES).iterdir())
    assert names == ["part-00000-of-00002.parquet", "part-00001-of-00002.parquet"]
    assert not (tmp_path / ".prepared.unfinished").exists()


def test_two_jobs_do_not_write_one_output(config, tmp_path, capsys):
    unfinished = tmp_path / ".prepared.unfinished"
    unfinished.mkdir()
    (unfinished / "of-the-other").touch()
    lock = os.open(unfinished, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert sequences.main(["--config", str(config), "--output", str(tmp_path / "prepared")]) == 2
    os.close(lock)
    assert "another job is writing it: wait for it" in capsys.readouterr().err
    assert [path.name for path in unfinished.iterdir()] == ["of-the-other"]


def test_the_figures_are_the_last_file(config, tmp_path):
    assert sequences.main(["--config", str(config), "--output", str(tmp_path / "prepared")]) == 0
    figures = json.loads((tmp_path / "prepared" / FINISHED).read_text())
    assert {name: figures[name] for name in ("rows_read", "users", "items")} == {
        "rows_read": 20,
        "users": 5,
        "items": 4,
    }
