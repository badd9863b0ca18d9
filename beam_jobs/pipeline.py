"""Runs a graph on the default local runner, or on the runner of the flags, and returns its result to the driver."""

import json
import re
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.utils import interactive_utils

from beam_jobs.files import delete, join, make_folder, open_file, remove_unfinished, whole_file
from tfdnc.contracts.errors import UserError

DEFAULT_RUNNER = "FnApiRunner"
"""Beam's `DirectRunner` would first try to download Prism, and raises other types of errors there."""

CHUNK_BYTES = 16 << 20
"""Default of `--chunk_bytes`."""

_RESULT = ".result.json"
_NAME = re.escape(f"{UserError.__module__}.{UserError.__name__}")
_USER_ERROR = re.compile(rf".*{_NAME}: (.*?)(?: \[while running .*)?$", re.DOTALL)  # the last error of the text
_WHILE_RUNNING = re.compile(r" \[while running '.*$", re.DOTALL)


class JobOptions(PipelineOptions):
    """Flags of the jobs beside Beam's; none of them changes a byte of the output."""

    @classmethod
    def _add_argparse_args(cls, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--chunk_bytes",
            type=int,
            default=CHUNK_BYTES,
            help="bytes of log that a worker parses at once; memory grows with it",
        )
        parser.add_argument(
            "--shuffle",
            choices=["engine", "files"],
            help="how events are grouped by user: by the runner's own shuffle, or by scratch files in the output "
            f"folder, which all workers must see; default: files with {DEFAULT_RUNNER}, else engine",
        )


def options_of(runner_args: Sequence[str]) -> PipelineOptions:
    """Returns the options of `runner_args`, with `DEFAULT_RUNNER` unless they name a runner."""
    named = any(argument.split("=")[0] == "--runner" for argument in runner_args)
    return PipelineOptions([*([] if named else [f"--runner={DEFAULT_RUNNER}"]), *runner_args])


def run(build: Callable[[beam.Pipeline], beam.PCollection], output: str, options: PipelineOptions) -> dict[str, Any]:
    """Builds and runs a graph.

    Args:
        build: adds the graph to a pipeline and returns a collection of exactly one JSON-serialisable dict.
        output: folder for the job's files. The dict is written to a file there, because Beam's counters are not exact
            on every runner.
        options: options of the pipeline.

    Returns:
        The dict.

    Raises:
        UserError: a worker raised one. All runners but the in-memory one turn it into a `RuntimeError` with the
            worker's traceback as text, from which it is made again.
    """
    make_folder(output)
    path = join(output, _RESULT)
    with _as_in_a_script():
        pipeline = beam.Pipeline(options=options)
        _ = build(pipeline) | "WriteResult" >> beam.Map(_write_json, path)
        _finish(pipeline)
    with open_file(path) as stream:
        result: dict[str, Any] = json.load(stream)
    delete([path])
    remove_unfinished(output)  # left by a dead worker, whose bundle the engine has run again
    return result


def _finish(pipeline: beam.Pipeline) -> None:
    """Runs a pipeline to its end; raises as `run`."""
    try:
        with _no_timed_flush():
            pipeline.run().wait_until_finish()
    except UserError as error:
        raise UserError(_WHILE_RUNNING.sub("", str(error))) from error
    except Exception as error:
        match = _USER_ERROR.match(str(error))
        if match is None:
            raise
        raise UserError(match.group(1)) from error


@contextmanager
def _no_timed_flush() -> Iterator[None]:
    """Keeps FnApiRunner's `multi_threading` and `multi_processing` modes from losing elements.

    In Beam 2.77 a thread flushes their data streams once a second (`TimeBasedBufferingClosableOutputStream` in
    `data_plane`). It copies the buffer, sends the copy and then empties the buffer, without a lock. Elements that the
    worker writes in between are lost. No option turns the thread off; a time limit of 0 does.
    """
    milliseconds = worker_handlers.DATA_BUFFER_TIME_LIMIT_MS
    worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0
    try:
        yield
    finally:
        worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = milliseconds


@contextmanager
def _as_in_a_script() -> Iterator[None]:
    """Keeps Beam from its interactive environment, which it loads in notebooks to watch pipelines of their cells.

    That needs packages which plain `apache-beam` does not bring, such as pandas, and names the steps after cells.
    """
    modules = (interactive_utils, beam.pipeline)
    found = [module.is_in_ipython for module in modules]
    for module in modules:
        module.is_in_ipython = lambda: False
    try:
        yield
    finally:
        for module, function in zip(modules, found, strict=True):
            module.is_in_ipython = function


def add_counts(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Returns the sum of dicts of counts, key by key, keys in alphabetical order."""
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


def _write_json(result: dict[str, Any], path: str) -> None:
    with whole_file(path) as stream:
        stream.write(json.dumps(result).encode())
