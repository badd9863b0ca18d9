"""The shuffle of the first job: by the engine, or by files on the disk of a single machine.

An engine spills data to disk if they do not fit its memory. FnApiRunner does not: all elements of a `GroupByKey`, and
all that wait for a side input, are in the memory of one process. With `--shuffle=files` packed tables are written to
scratch files, which all workers must see, and only pointers to them are shuffled.
"""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from beam_jobs.files import is_local
from beam_jobs.packing import is_pointer, pointer
from beam_jobs.pipeline import DEFAULT_RUNNER, JobOptions
from tfdnc.contracts.errors import UserError

_SCRATCH = ".shuffle"


@contextmanager
def scratch_folder(output: str, options: PipelineOptions) -> Iterator[str | None]:
    """Yields an empty folder for scratch files, removed after the block; None if the engine shuffles.

    Raises:
        UserError: `--shuffle=files` with an output in a store.
    """
    how, on_disk = options.view_as(JobOptions).shuffle, is_local(output)
    if how is None:
        in_memory = options.view_as(StandardOptions).runner == DEFAULT_RUNNER
        how = "files" if in_memory and on_disk else "engine"
    if how == "engine":
        yield None
        return
    if not on_disk:
        raise UserError(
            f"Expected --shuffle=files with an output on a disk of all workers, got {output}; leave it out."
        )
    folder = Path(output) / _SCRATCH
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed job
    folder.mkdir(parents=True)
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder)


class SetAside(beam.PTransform):
    """Replaces packed tables by pointers, so that elements that wait or are grouped take little memory.

    Args:
        scratch: folder for the tables; None leaves the elements unchanged.
    """

    def __init__(self, scratch: str | None) -> None:
        super().__init__()
        self._scratch = scratch

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        """Returns elements of the same type."""
        if self._scratch is None:
            return elements
        return elements | beam.ParDo(WriteAside(self._scratch)).with_output_types(elements.element_type)


class WriteAside(beam.DoFn):
    """Writes the packed tables of elements to a file, one file per bundle.

    No pointer refers to the file of a failed bundle, so a bundle that is tried again yields no table twice.
    """

    def __init__(self, scratch: str) -> None:
        self._scratch = scratch
        self._file: BinaryIO | None = None

    def start_bundle(self) -> None:
        """Forgets the file of a failed bundle."""
        self._file = None

    def process(self, element: Any) -> Iterator[Any]:
        """Yields the element, with a pointer for every `bytes` in it and in its nested tuples."""
        yield self._set_aside(element)

    def finish_bundle(self) -> None:
        """Closes the file, so that all tables are in it before a pointer is used."""
        if self._file is not None:
            self._file.close()

    def _set_aside(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._set_aside, value))
        return self._write(value) if isinstance(value, bytes) else value

    def _write(self, packed: bytes) -> bytes:
        if is_pointer(packed):  # to a table that is kept, see `kept_reads`
            return packed
        if self._file is None:
            self._file = (Path(self._scratch) / uuid.uuid4().hex).open("xb")
        offset = self._file.tell()
        self._file.write(packed)
        return pointer(self._file.name, offset, len(packed))
