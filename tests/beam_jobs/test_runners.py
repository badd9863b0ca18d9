"""The same bytes for every chunk size, mode of the runner and number of workers."""

import sys

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.utils import interactive_utils

from beam_jobs.examples import build_examples
from beam_jobs.pipeline import options_of, run
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExamplesConfig

MODES = {
    "small_chunks": ["--chunk_bytes=499"],
    "multi_threading": ["--direct_running_mode=multi_threading", "--direct_num_workers=2", "--chunk_bytes=5000"],
    "multi_processing": ["--direct_running_mode=multi_processing", "--direct_num_workers=2", "--chunk_bytes=5000"],
}


@pytest.fixture
def log(write_csv):
    rng = np.random.default_rng(3)
    columns = (rng.integers(0, 60, 2000), rng.integers(0, 40, 2000), rng.integers(0, 9, 2000))
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    rows[500], rows[1500] = ("", 1, 1), (1, 1, "never")
    return write_csv(rows)


@pytest.mark.parametrize("mode", MODES)
def test_both_jobs_write_the_same_bytes(log, prepare_log, write_items, bytes_of, tmp_path, mode):
    def both_jobs(name, runner_args):
        figures, prepared = prepare_log(log, runner_args, name=name)
        clusters = np.arange(figures["items"]) * 4 // figures["items"]
        order = np.random.default_rng(0).permutation(figures["items"]) + 1
        items = write_items(clusters, order=order, vocabulary=prepared / schema.VOCABULARY)
        config = ExamplesConfig(num_negatives=2)
        examples = tmp_path / f"{name}-examples"
        more = build_examples(prepared / schema.SEQUENCES, items, config, 1, examples, runner_args)
        return figures, bytes_of(prepared), more, bytes_of(examples)

    assert both_jobs("expected", []) == both_jobs(mode, MODES[mode])


def test_no_thread_flushes_a_stream_while_it_is_written(tmp_path):
    # The race lost blocks of events in one run of fifty, which is too rare to be tested by itself.
    before = worker_handlers.DATA_BUFFER_TIME_LIMIT_MS

    def build(graph):
        return graph | beam.Create([None]) | beam.Map(lambda _: {"limit": worker_handlers.DATA_BUFFER_TIME_LIMIT_MS})

    assert run(build, tmp_path, options_of(MODES["multi_threading"])) == {"limit": 0}
    assert worker_handlers.DATA_BUFFER_TIME_LIMIT_MS == before > 0


def test_a_job_runs_in_a_notebook_as_in_a_script(tmp_path, monkeypatch):
    """In IPython Beam loaded its interactive environment, which needs pandas; `tfdnc.run` failed in every notebook."""
    for module in (interactive_utils, beam.pipeline):
        monkeypatch.setattr(module, "is_in_ipython", lambda: True)
    monkeypatch.setitem(sys.modules, "apache_beam.runners.interactive", None)
    result = run(lambda graph: graph | beam.Create([{"one": 1}]), tmp_path, options_of([]))
    assert result == {"one": 1}
    assert interactive_utils.is_in_ipython()


def test_runner_is_pinned_unless_named():
    assert options_of([]).get_all_options()["runner"] == "FnApiRunner"
    assert options_of(["--runner=PortableRunner"]).get_all_options()["runner"] == "PortableRunner"
    assert options_of(["--runner", "PortableRunner"]).get_all_options()["runner"] == "PortableRunner"
