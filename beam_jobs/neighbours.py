"""Job over the sequences: for every item, the sum of the vectors of its neighbours.

    sequence files --ParDo--> sums of one file, by range of items --CombinePerKey--> one file per range of items

This is the product of the log's co-occurrence matrix and a matrix of vectors; no worker holds the whole log or all
co-occurrences. The sums are of integers, so they do not depend on the order in which workers add them.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsIter, TaggedOutput

from beam_jobs.files import whole_file
from beam_jobs.pipeline import add_counts, options_of, run
from tfdnc.contracts.sequences import training_part

_log = logging.getLogger(__name__)

RANGE_BYTES = 4 << 20
"""Size of an element of sums in bytes."""

BLOCK_EVENTS = 1 << 12
"""Number of events whose vectors are in memory at a time, so that long users need no more memory than others."""

MAX_NEIGHBOURS = 1 << 32
"""Largest number of neighbours of one item: a sum of more numbers of 30 bits may not fit 64 bits."""

_ONE = 1 << 30
_VECTORS = "vectors.npy"

Sums = tuple[np.ndarray, np.ndarray]
"""Row numbers int [U] of a matrix, distinct, and the vectors to add to these rows, int64 [U, D]."""


def sum_neighbours(
    files: Sequence[Path], vectors: np.ndarray, window: int, scratch: Path, runner_args: Sequence[str] = ()
) -> np.ndarray:
    """Returns float64 [N, D]: the sum, over the training events of an item, of the vectors of the events around it.

    Entries of vectors are rounded to multiples of 2^-30 of the largest absolute entry. A worker holds two N x D
    matrices of integers: the vectors, with 4 bytes per entry, and the sums, with 8.

    Args:
        files: sequence files, see `schema.SEQUENCES`, with items 1..N.
        vectors: float64 [N, D]; row i belongs to the item with `sequence_index` i + 1.
        window: number of events of the same user before and after an event that are its neighbours.
        scratch: folder that all workers see, without files of an earlier run; the caller removes it.
        runner_args: flags for Beam.

    Raises:
        RuntimeError: the runner lost data.
        OverflowError: an item has more than `MAX_NEIGHBOURS` neighbours.
    """
    scratch = scratch.absolute()  # a worker may run in another folder
    integers, unit = _fixed_point(vectors)
    _save(scratch / _VECTORS, integers)
    rows = max(1, RANGE_BYTES // (8 * integers.shape[1]))

    def build(pipeline: beam.Pipeline) -> beam.PCollection:
        sums = (
            pipeline
            | "Files"
            >> beam.Create([(part, len(files), str(path.absolute())) for part, path in enumerate(files, start=1)])
            | "Spread" >> beam.Reshuffle()
            | "Sum" >> beam.ParDo(SumFile(scratch / _VECTORS, window, rows)).with_outputs()
        )
        _ = (
            sums.ranges
            | "AddUp" >> beam.CombinePerKey(AddSums(rows, integers.shape[1]))
            | "Write" >> beam.Map(_write_range, scratch)
        )
        once = pipeline | "Once" >> beam.Create([None])
        return once | "Count" >> beam.Map(lambda _, counts: add_counts(counts), AsIter(sums.figures))

    figures = run(build, str(scratch), options_of(runner_args))
    sums = _read_ranges(scratch, rows, integers.shape)[1:]
    _check(sums[:, -1], figures["neighbours"])
    return sums[:, :-1] * unit


def _fixed_point(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the vectors as integers, int32 [N + 1, D + 1], and the unit: the number that the integer 1 stands for.

    Row 0 belongs to no item; the last column holds ones, to count neighbours.
    """
    unit = max(np.abs(vectors).max(), np.finfo(float).tiny) / _ONE
    integers = np.ones((len(vectors) + 1, vectors.shape[1] + 1), np.int32)
    integers[1:, :-1] = np.clip(np.rint(vectors / unit), -_ONE, _ONE)
    return integers, unit


def _check(neighbours: np.ndarray, expected: int) -> None:
    # Some runners lose elements without an error (see `pipeline`).
    if neighbours.sum() != expected:
        raise RuntimeError(f"Expected {expected} neighbours in all, found {neighbours.sum()}: the runner lost data.")
    if neighbours.max() > MAX_NEIGHBOURS:
        raise OverflowError(f"Expected at most {MAX_NEIGHBOURS} neighbours of one item, found {neighbours.max()}.")


class SumFile(beam.DoFn):
    """Computes the sums of one file.

    Outputs:
        ranges: (number of a range of `rows` rows, its `Sums`).
        figures: counts of neighbours.
    """

    def __init__(self, vectors: Path, window: int, rows: int) -> None:
        self._path, self._window, self._rows = vectors, window, rows

    def setup(self) -> None:
        """Reads the vectors from a file, because they are too large for a side input."""
        self._vectors = np.load(self._path)

    def process(
        self, element: tuple[int, int, str]
    ) -> Iterator[TaggedOutput[Literal["ranges"], tuple[int, Sums]] | TaggedOutput[Literal["figures"], dict[str, int]]]:
        """Yields the outputs of (number of the file, number of files, path)."""
        part, num_parts, path = element
        items, lengths = training_part(path)
        touched, sums = neighbour_sums(items, lengths, self._vectors, self._window)
        _log.info("neighbours in file %d of %d: %d events", part, num_parts, len(items))
        first_rows = np.arange(0, len(self._vectors) + self._rows, self._rows)
        edges = np.searchsorted(touched, first_rows)
        for number in np.flatnonzero(np.diff(edges)).tolist():
            part_of_range = slice(edges[number], edges[number + 1])
            yield TaggedOutput("ranges", (number, (touched[part_of_range] - first_rows[number], sums[part_of_range])))
        yield TaggedOutput("figures", {"neighbours": int(sums[:, -1].sum())})


def neighbour_sums(items: np.ndarray, lengths: np.ndarray, vectors: np.ndarray, window: int) -> Sums:
    """Returns the sums of one file.

    Args:
        items: int [E], user by user, oldest first.
        lengths: int [users], number of events of each user.
        vectors: int32 [rows, D], one row per item.
        window: number of events before and after an event that are its neighbours.
    """
    touched, row = np.unique(items, return_inverse=True)
    sums = np.zeros((len(touched), vectors.shape[1]), np.int64)
    user_ends = np.repeat(np.cumsum(lengths), lengths)
    event = np.arange(len(items))
    first = np.maximum(event - window, user_ends - np.repeat(lengths, lengths))
    last = np.minimum(event + window + 1, user_ends)
    for start in range(0, len(items), BLOCK_EVENTS):
        block = slice(start, start + BLOCK_EVENTS)
        # The difference of two running sums is exact, because they are integers.
        context = vectors[items[first[start] : last[block][-1]]]
        running = np.zeros((len(context) + 1, vectors.shape[1]), np.int64)
        np.cumsum(context, axis=0, out=running[1:])
        around = running[last[block] - first[start]]
        around -= running[first[block] - first[start]]
        around -= vectors[items[block]]
        order = np.argsort(row[block], kind="stable")
        ordered = row[block][order]
        edges = np.flatnonzero(np.diff(ordered, prepend=-1))
        sums[ordered[edges]] += np.add.reduceat(around[order], edges, axis=0)
    return touched, sums


class AddSums(beam.CombineFn):
    """Adds the `Sums` of one range; the accumulator holds the whole range, int64 [rows, D]."""

    def __init__(self, rows: int, width: int) -> None:
        self._shape = rows, width

    def create_accumulator(self) -> np.ndarray:
        """Returns zeros."""
        return np.zeros(self._shape, np.int64)

    def add_input(self, accumulator: np.ndarray, element: Sums) -> np.ndarray:
        """Returns the accumulator with the sums of one more file."""
        touched, sums = element
        accumulator[touched] += sums
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[np.ndarray]) -> np.ndarray:
        """Returns the sum of several accumulators."""
        return sum(accumulators, self.create_accumulator())

    def extract_output(self, accumulator: np.ndarray) -> np.ndarray:
        """Returns the sums of the range."""
        return accumulator


def _range_file(scratch: Path, number: int) -> Path:
    return scratch / f"range-{number:05d}.npy"


def _write_range(element: tuple[int, np.ndarray], scratch: Path) -> None:
    number, sums = element
    _save(_range_file(scratch, number), sums)


def _save(path: Path, array: np.ndarray) -> None:
    with whole_file(path) as stream:
        np.save(stream, array)


def _read_ranges(scratch: Path, rows: int, shape: tuple[int, int]) -> np.ndarray:
    """Returns the sums of all ranges, int64 of `shape`; a range whose items have no events has no file."""
    sums = np.zeros(shape, np.int64)
    for number, first in enumerate(range(0, shape[0], rows)):
        if (path := _range_file(scratch, number)).exists():
            sums[first : first + rows] = np.load(path)[: shape[0] - first]
    return sums
