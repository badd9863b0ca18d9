"""The shuffle of the first job: by the engine, or by files on the disk of a single machine.

An engine spills by itself what does not fit its memory. FnApiRunner does not: whatever goes through a `GroupByKey`, or
waits for a side input, lies in the memory of one process. With `--shuffle=files` only the places of blocks go that way,
and the blocks into scratch files, which all workers must see.
"""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from beam_jobs.packing import Spilled
from beam_jobs.pipeline import DEFAULT_RUNNER, JobOptions

_SCRATCH = ".shuffle"

Order = tuple[int, int]
"""Where in the log a block stands: (number of the file, offset in it)."""


@contextmanager
def scratch_folder(output: Path, options: PipelineOptions) -> Iterator[Path | None]:
    """Yields an empty folder for scratch files, which ends with the block; None if the engine shuffles."""
    how = options.view_as(JobOptions).shuffle
    if how is None:
        how = "files" if options.view_as(StandardOptions).runner == DEFAULT_RUNNER else "engine"
    if how == "engine":
        yield None
        return
    folder = output / _SCRATCH
    shutil.rmtree(folder, ignore_errors=True)  # of a killed job
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class GroupBlocks(beam.PTransform):
    """A `GroupByKey` of (bucket, (order, block)).

    Args:
        scratch: folder for the blocks; None leaves them to the engine.
    """

    def __init__(self, scratch: Path | None):
        super().__init__()
        self._scratch = scratch

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """Returns (bucket, iterable of (order, block)); the orders come in any order."""
        if self._scratch is not None:
            blocks = (
                blocks
                | "NameBlocks" >> beam.MapTuple(lambda bucket, block: ((bucket, block[0]), block[1]))
                | "Spill" >> beam.ParDo(Spill(str(self._scratch)))
                | "NameBuckets"
                >> beam.MapTuple(lambda name, block: (name[0], (name[1], block))).with_output_types(
                    tuple[int, tuple[Order, Any]]
                )
            )
        return blocks | "Group" >> beam.GroupByKey()


class SetAside(beam.PTransform):
    """Passes (name, block) on to a transform that has to wait for a side input made of all of them.

    Args:
        scratch: folder for the blocks; None leaves them to the engine.
    """

    def __init__(self, scratch: Path | None):
        super().__init__()
        self._scratch = scratch

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """Returns (name, block)."""
        if self._scratch is None:
            return blocks
        # Reshuffle, so that no runner makes "spill" a part of what waits.
        return blocks | "Spill" >> beam.ParDo(Spill(str(self._scratch))) | "Wait" >> beam.Reshuffle()


class Spill(beam.DoFn):
    """Appends the block of (name, block) to a file, and passes on its place.

    Every bundle has a file of its own. What a failed bundle has written is in a file that no place points to, so a
    bundle that is tried again leaves no block twice.
    """

    def __init__(self, scratch: str):
        self._scratch = scratch

    def start_bundle(self):
        """Leaves behind what a failed bundle may have had open."""
        self._file = None

    def process(self, element: tuple[Any, bytes]) -> Iterator[tuple[Any, Any]]:
        """Yields (name, place); an empty block has none."""
        name, block = element
        if not block:
            yield name, block
            return
        if self._file is None:
            self._file = (Path(self._scratch) / uuid.uuid4().hex).open("xb")
        offset = self._file.tell()
        self._file.write(block)
        yield name, Spilled(self._file.name, offset, len(block))

    def finish_bundle(self):
        """Brings everything to the file before the runner takes the places for good."""
        if self._file is not None:
            self._file.close()
