"""Runs a graph on the pinned local runner, or on the one asked for, and brings its result back to the driver."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import worker_handlers

from beam_jobs.files import delete, join, make_folder, open_file, remove_unfinished, whole_file
from tfdnc.contracts.errors import UserError

DEFAULT_RUNNER = "FnApiRunner"
"""`DirectRunner` would first try to download Prism, and then run there with other error types."""

CHUNK_BYTES = 16 << 20
_RESULT = ".result.json"
_NAME = re.escape(f"{UserError.__module__}.{UserError.__name__}")
_USER_ERROR = re.compile(rf".*{_NAME}: (.*?)(?: \[while running .*)?$", re.DOTALL)  # the last one
_WHILE_RUNNING = re.compile(r" \[while running '.*$", re.DOTALL)


class JobOptions(PipelineOptions):
    """Flags of our own beside Beam's; none of them changes a byte of the output."""

    @classmethod
    def _add_argparse_args(cls, parser):
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
    """Returns the options of `runner_args`, with the runner pinned unless they name one."""
    named = any(argument.split("=")[0] == "--runner" for argument in runner_args)
    return PipelineOptions([*([] if named else [f"--runner={DEFAULT_RUNNER}"]), *runner_args])


def run(build: Callable[[beam.Pipeline], beam.PCollection], output: str, options: PipelineOptions) -> dict:
    """Builds and runs a graph.

    Args:
        build: adds the graph to a pipeline and returns a collection of exactly one JSON-serialisable dict.
        output: folder for the job's files; the dict passes through it, because a file reaches the driver from any
            runner, exactly once, where counters do not.
        options: of the pipeline.

    Returns:
        The dict.

    Raises:
        UserError: a worker raised one. Runners other than the in-memory one turn it into a `RuntimeError` that holds
            the worker's traceback as text.
    """
    make_folder(output)
    path = join(output, _RESULT)
    pipeline = beam.Pipeline(options=options)
    _ = build(pipeline) | "WriteResult" >> beam.Map(_write_json, path)
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
    with open_file(path) as stream:
        result = json.load(stream)
    delete([path])
    remove_unfinished(output)  # an engine starts a dead worker's bundle again, and succeeds
    return result


@contextmanager
def _no_timed_flush() -> Iterator[None]:
    """Keeps FnApiRunner's `multi_threading` and `multi_processing` modes from losing elements.

    In Beam 2.77 a thread flushes their data streams once a second: it copies the buffer, hands the copy on and then
    empties the buffer (`data_plane.TimeBasedBufferingClosableOutputStream`), while nothing keeps the worker from
    writing in between. What it writes then is gone. No option turns that off, 0 milliseconds in this constant does.
    """
    milliseconds = worker_handlers.DATA_BUFFER_TIME_LIMIT_MS
    worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0
    try:
        yield
    finally:
        worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = milliseconds


def add_counts(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Returns the sum of dicts of counts, key by key, keys in alphabetical order."""
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


def _write_json(result: dict, path: str) -> None:
    with whole_file(path) as stream:
        stream.write(json.dumps(result).encode())
