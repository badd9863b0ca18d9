"""Kept results of reading a file of a log: a later run does not read the file again, and writes the same bytes."""

import fcntl
import gzip
import json
import os
import shutil
import time

import numpy as np
import pytest

from beam_jobs.kept_reads import KeptReads
from beam_jobs.sequences import prepare
from tfdnc.contracts import schema
from tfdnc.contracts.config import parse_config
from tfdnc.contracts.data_config import DataConfig
from tfdnc.pipeline import dependencies
from tfdnc.pipeline.engine import run_station
from tfdnc.pipeline.stations import PREPARE

RULES = {
    "min_item_events": 12,
    "min_user_events": 5,
    "filter_rounds": 3,
    "repeats": "collapse",
    "max_events_per_user": 40,
    "num_shards": 3,
    "max_malformed_share": 0.5,
}
CHUNKS = ["--chunk_bytes=700"]


def day_of(number, quoted=False):
    """Returns the CSV text of one day, with rows that are malformed in several ways."""
    rng = np.random.default_rng(number)
    items = rng.integers(0, 25, 200) * rng.integers(0, 25, 200) // 25  # some are rare
    columns = rng.integers(0, 30, 200), items, number * 1000 + rng.integers(0, 1000, 200)
    rows = [f"{user},{item},{time}" for user, item, time in zip(*columns, strict=True)]
    rows[3], rows[77], rows[120] = f"u,{number}", ",1,5", f"{number},i,never"
    if quoted:
        rows[50] = f'"u,{number}","an\nitem",{number}'
    return "\n".join(["user_id,item_id,timestamp", *rows, ""])


@pytest.fixture
def days(tmp_path):
    """Writes a log of three days: one quoted, one compressed."""
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "day1.csv").write_text(day_of(1))
    (folder / "day2.csv").write_text(day_of(2, quoted=True))
    (folder / "day3.csv.gz").write_bytes(gzip.compress(day_of(3).encode()))
    return folder


@pytest.fixture
def work(days, tmp_path, bytes_of):
    """Runs the job with the kept results of files that are known by their names."""

    def run(kept=True, flags=CHUNKS, prefix="", **rules):
        output = tmp_path / "output"
        shutil.rmtree(output, ignore_errors=True)
        config = DataConfig(path=[f"{days}/*.csv", f"{days}/*.csv.gz"], **RULES | rules)
        keys = tuple(prefix + path.name for path in sorted(days.iterdir()))
        reads = KeptReads(str(tmp_path / "kept"), keys, 7) if kept else None
        figures = prepare(config, output, flags, reads)
        return figures.pop("kept_reads", None), figures, bytes_of(output)

    return run


def spoil(path):
    """Makes a file of a log unreadable behind its header; its size stays."""
    open_file = gzip.open if path.suffix == ".gz" else open
    with open_file(path, "rb") as stream:
        header, rest = stream.readline(), stream.read()
    path.write_bytes(header + b"x" * len(rest) if path.suffix == ".csv" else gzip.compress(header + b"x" * len(rest)))


def test_a_new_day_is_read_and_the_old_ones_are_not(work, days):
    _, *expected = work(kept=False)
    late = (days / "day2.csv").rename(days.parent / "late.csv")  # comes last, and is in the middle of the order
    assert work()[0]["reused"] == 0
    late.rename(days / "day2.csv")
    for old in ("day1.csv", "day3.csv.gz"):
        spoil(days / old)
    reads, *found = work()
    assert (reads["files"], reads["reused"]) == (3, 2)
    assert found == expected
    assert set(expected[1]) > {f"{schema.DEAD_LETTER}/day{number}" for number in ("1.csv.jsonl", "3.csv.gz.jsonl")}
    assert sum(expected[0]["rows_malformed"].values()) > 6


def test_rules_over_all_events_are_applied_anew(work, days):
    other = {"min_item_events": 1, "filter_rounds": 1, "max_events_per_user": None, "repeats": "keep"}
    work()
    _, *expected = work(kept=False, **other)
    for day in days.iterdir():
        spoil(day)
    reads, *found = work(**other)
    assert reads["reused"] == 3
    assert found == expected


def test_columns_of_declared_inputs_are_kept_too(work, days):
    declared = {"columns": {"time": None}, "context": {"timestamp": "value"}}
    _, *expected = work(kept=False, **declared)
    assert work(**declared)[0]["reused"] == 0
    for day in days.iterdir():
        spoil(day)
    reads, *found = work(**declared)
    assert reads["reused"] == 3
    assert found == expected
    assert expected[0]["input_values"]["timestamp"] > 0


def test_an_engine_that_shuffles_by_itself_gives_the_same_bytes(work):
    _, *expected = work()
    reads, *found = work(flags=[*CHUNKS, "--shuffle=engine"])
    assert reads["reused"] == 3
    assert found == expected


def test_dead_letters_name_files_as_the_log_of_today_does(work, days):
    """Two files of one name are told apart by their folders, which an earlier log need not have had."""
    work()
    for folder in ("a", "b"):
        (days / folder).mkdir()
    (days / "day1.csv").rename(days / "a" / "day1.csv")
    (days / "b" / "day1.csv").write_text(day_of(5))
    config = DataConfig(path=str(days / "*" / "*.csv"), **RULES)
    output = days.parent / "output" / "named"
    prepare(config, output, CHUNKS, KeptReads(str(days.parent / "kept"), ("day1.csv", "new"), 7))
    letters = (output / schema.DEAD_LETTER / "a" / "day1.csv.jsonl").read_text().splitlines()
    assert {json.loads(letter)["file"] for letter in letters} == {"a/day1.csv"}


def test_damaged_results_are_read_again(work, tmp_path):
    _, *expected = work()
    first, second, third = (sorted((tmp_path / "kept").glob(f"day{day}*/*.blocks")) for day in (1, 2, 3))
    os.truncate(first[0], first[0].stat().st_size - 1)
    os.truncate(first[1], 0)
    second[0].unlink()
    next(third[0].parent.glob("pieces*")).write_bytes(b"[")
    reads, *found = work()
    assert reads["reused"] == 0
    assert found == expected
    assert work()[0]["reused"] == 3


def test_results_go_when_they_were_not_used_for_some_days_and_no_job_is_at_work(work, tmp_path):
    kept = tmp_path / "kept"
    work(prefix="old ")
    leftover = kept / "old day1.csv" / "1-2-3.blocks.tmp-abc"
    leftover.write_text("of a killed worker")
    for age, left in ((6, True), (8, False)):
        used = time.time() - age * 86_400
        os.utime(kept / "old day1.csv", (used, used))
        if not left:
            with (kept / ".lock").open("w") as other:
                fcntl.flock(other, fcntl.LOCK_SH)
                work()
            assert (kept / "old day1.csv").exists()  # a job may read it
        work()
        assert (kept / "old day1.csv").exists() == left
        assert not leftover.exists()
    assert (kept / "old day2.csv").exists()


def station(days, **data):
    data = {"path": [f"{days}/*.csv", f"{days}/*.csv.gz"], "keep_read_days": 7, **RULES, **data}
    return parse_config({"name": "x", "data": data})


def prepare_in(run, config, force=True):
    return run_station(PREPARE, config, run, force).figures["kept_reads"]["reused"]


def test_the_station_knows_files_by_their_content(days, tmp_path):
    run = tmp_path / "runs" / "mine"
    assert prepare_in(run, station(days)) == 0
    assert prepare_in(run.with_name("other"), station(days)) == 3
    status = (days / "day1.csv").stat()
    (days / "new").write_text(day_of(1).replace("\n7,", "\n8,"))
    (days / "new").rename(days / "day1.csv")
    os.utime(days / "day1.csv", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert prepare_in(run, station(days), force=False) == 2  # as long, and of the same time
    (days / "day2.csv").unlink()
    assert prepare_in(run, station(days), force=False) == 2
    assert "2 of 2 files not read again, 0 MB kept of them" in PREPARE.headline(
        run_station(PREPARE, station(days), run).figures
    )


@pytest.mark.parametrize(
    ("setting", "reused"),
    [
        ({"min_item_events": 2, "split": "none", "session_gap": 100, "duplicates": "drop"}, 3),
        ({"train_from": 500, "catalogue": "items", "max_malformed_share": 0.9, "keep_read_days": 9}, 3),
        ({"num_shards": 4}, 0),
        ({"quotes": "none"}, 0),
        ({"columns": {"user": "item_id", "item": "user_id"}}, 0),
        ({"columns": {"weight": "timestamp", "time": None}}, 0),
        ({"users": {"path": "users.csv", "features": {"age": "number"}}}, 3),
        ({"exposures_per_event": 3}, 3),
    ],
    ids=str,
)
def test_only_settings_of_reading_are_part_of_a_key(days, tmp_path, setting, reused):
    keys = dependencies.kept_reads(station(days), tmp_path / "runs" / "x").keys
    others = dependencies.kept_reads(station(days, **setting), tmp_path / "runs" / "x").keys
    assert len({*keys} & {*others}) == reused


def test_declared_columns_of_the_log_are_part_of_a_key(days, tmp_path):
    values, numbers = ({"timestamp": kind} for kind in ("value", "number"))
    declared = [{}, {"events": values}, {"events": numbers}, {"context": values}]
    configs = [station(days, columns={"time": None}, **one) for one in declared]
    keys = [key for config in configs for key in dependencies.kept_reads(config, tmp_path / "runs" / "x").keys]
    assert len({*keys}) == 3 * len(declared)


def test_nothing_is_kept_unless_it_is_asked_for(days, tmp_path):
    with_days, without = station(days), station(days, keep_read_days=None)
    assert PREPARE.settings(with_days) == PREPARE.settings(without)
    assert "keep_read_days" not in str(PREPARE.settings(with_days))
    assert "kept_reads" not in run_station(PREPARE, without, tmp_path / "runs" / "mine").figures
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"mine"}
