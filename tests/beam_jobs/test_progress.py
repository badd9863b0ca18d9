"""Progress of the jobs in their log records."""

import logging
from collections import Counter

import pytest

from beam_jobs.examples import build_examples
from beam_jobs.progress import PROGRESS, STEPS
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExamplesConfig


@pytest.fixture
def watch(caplog):
    """Returns a function that gives the announced parts and the sum of the parts done, from all records so far."""

    def watched():
        announced, done = Counter(), Counter()
        for record in caplog.records:
            announced.update(getattr(record, STEPS, {}))
            if hasattr(record, PROGRESS):
                step, parts, counts = getattr(record, PROGRESS)
                done.update({step: parts, **{f"{step} {name}": count for name, count in counts.items()}})
        caplog.clear()
        return announced, done

    caplog.set_level(logging.INFO, "beam_jobs")
    return watched


def test_both_jobs_complete_the_steps_that_they_announce(write_csv, prepare_log, write_items, tmp_path, watch):
    rows = [(user, f"i{item}", item) for user in range(20) for item in range(5)]
    figures, prepared = prepare_log(write_csv([*rows, ("", "x", 1)]), ["--chunk_bytes=100"], num_shards=4)
    announced, done = watch()
    assert announced["reading"] > 1
    assert {step: done[step] for step in announced} == announced == {"reading": announced["reading"], "sorting": 4}
    assert (done["reading rows"], done["reading malformed"]) == (101, 1)
    assert (done["sorting users"], done["sorting events"]) == (figures["users"], figures["events"]) == (20, 100)

    items = write_items([0, 0, 0, 1, 1], vocabulary=prepared / schema.VOCABULARY)
    more = build_examples(prepared / schema.SEQUENCES, items, ExamplesConfig(), 1, tmp_path / "examples")
    announced, done = watch()
    assert {step: done[step] for step in announced} == announced == {"encoding": 4}
    assert (done["encoding users"], done["encoding positions"]) == (20, more["positions"])


def test_a_file_that_is_read_as_one_piece_reports_rows_before_its_end(write_csv, prepare_log, watch):
    rows = [(user, f'"i{item}"', item) for user in range(20) for item in range(5)]
    prepare_log(write_csv(rows), ["--chunk_bytes=100"])
    announced, done = watch()
    assert announced["reading"] == done["reading"] == 1
    assert done["reading rows"] == 100
