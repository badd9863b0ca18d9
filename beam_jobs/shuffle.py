"""The shuffle of the first job: by the engine, or by files on the disk of a single machine.

An engine spills by itself what does not fit its memory. FnApiRunner does not: whatever goes through a `GroupByKey`, or
waits for a side input, lies in the memory of one process. With `--shuffle=files` packed tables are set aside in scratch
files, which all workers must see, and only pointers to them go that way.
"""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from beam_jobs.files import is_local
from beam_jobs.packing import pointer
from beam_jobs.pipeline import DEFAULT_RUNNER, JobOptions
from tfdnc.contracts.errors import UserError

_SCRATCH = ".shuffle"


@contextmanager
def scratch_folder(output: str, options: PipelineOptions) -> Iterator[str | None]:
    """Yields an empty folder for scratch files, which goes when the block ends; None if the engine shuffles.

    Raises:
        UserError: files are asked for, and the output lies in a store.
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
    shutil.rmtree(folder, ignore_errors=True)  # of a killed job
    folder.mkdir(parents=True)
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder)


class SetAside(beam.PTransform):
    """Puts pointers in the place of packed tables, so that elements can wait, or be grouped, without weight.

    Args:
        scratch: folder for the tables; None leaves the elements as they are.
    """

    def __init__(self, scratch: str | None):
        super().__init__()
        self._scratch = scratch

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        """Returns elements of the same type."""
        if self._scratch is None:
            return elements
        return elements | beam.ParDo(WriteAside(self._scratch)).with_output_types(elements.element_type)


class WriteAside(beam.DoFn):
    """Appends the packed tables of elements to a file.

    Every bundle has a file of its own. What a failed bundle has written is in a file that no pointer of a finished one
    leads to, so a bundle that is tried again leaves no table twice.
    """

    def __init__(self, scratch: str):
        self._scratch = scratch

    def start_bundle(self):
        """Leaves what a failed bundle may have had open."""
        self._file = None

    def process(self, element: Any) -> Iterator[Any]:
        """Yields the element, with a pointer for every `bytes` in it, however deep in tuples."""
        yield self._set_aside(element)

    def finish_bundle(self):
        """Brings everything to the file before anybody follows a pointer."""
        if self._file is not None:
            self._file.close()

    def _set_aside(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._set_aside, value))
        return self._write(value) if isinstance(value, bytes) else value

    def _write(self, packed: bytes) -> bytes:
        if self._file is None:
            self._file = (Path(self._scratch) / uuid.uuid4().hex).open("xb")
        offset = self._file.tell()
        self._file.write(packed)
        return pointer(self._file.name, offset, len(packed))
