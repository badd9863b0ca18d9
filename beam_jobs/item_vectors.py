"""Vectors of items: from a list column of Parquet, or an array beside a file of ids, to one array by item.

Vectors never become Python objects. A batch of a column, or a part of a memory map, is copied into a memory map.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs.files import is_local, make_folder
from beam_jobs.logs.inputs import InputFile, find_files, open_bytes
from beam_jobs.logs.log_rows import as_bytes
from tfdnc.contracts.data_config import ItemFile
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import forget

_ROWS = 8192  # copied at a time

Part = tuple[pa.Array, np.ndarray]
"""Ids of M items as bytes, and their vectors `[M, D]`."""


@dataclass(frozen=True)
class VectorSource:
    """A feature of kind vector.

    Attributes:
        name: of the feature.
        file: Parquet with the column `name`, or an array.
        item: name of the column of ids; "" for an array.
        ids: file of the ids of an array, None for Parquet.
        size: D, the length of the vectors.
    """

    name: str
    file: InputFile
    item: str
    ids: InputFile | None
    size: int

    @property
    def files(self) -> list[InputFile]:
        """The files that are read."""
        return [self.file, *([] if self.ids is None else [self.ids])]

    def parts(self) -> Iterator[Part]:
        """Yields ids and vectors, part by part, without rows that have no vector."""
        yield from _array_parts(self) if self.ids is not None else _parquet_parts(self)


def find_vectors(file: InputFile, items: ItemFile) -> tuple[VectorSource, ...]:
    """Returns the features of kind vector of an item file.

    Raises:
        UserError: the file is no Parquet and there is no array, a file is missing or is none of these, or a vector has
            no numbers.
    """
    return tuple(_find(name, file, items) for name in items.vector_names)


def _find(name: str, file: InputFile, items: ItemFile) -> VectorSource:
    if name in items.vectors:
        [array] = find_files([items.vectors[name].path], f"data.items.vectors.{name}.path", "npy")
        [ids] = find_files([items.vectors[name].ids], f"data.items.vectors.{name}.ids", "txt")
        return VectorSource(name, array, "", ids, _open_array(array).shape[1])
    if items.format_of(file.name) != "parquet":
        raise UserError(
            f"Expected a Parquet file for the vector {name!r} of data.items.features, found {file.path}; convert it, "
            f"or name an array and its ids in data.items.vectors.{name}."
        )
    return VectorSource(name, file, items.item, None, _size_of_column(file, name))


def _open_array(file: InputFile) -> np.ndarray:
    if not file.local:
        raise UserError(f"Expected an array on a disk, from which it is memory-mapped, got {file.path}; copy it.")
    try:
        array = np.load(file.path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"Expected an array of numpy in {file.path}, could not read it: {error}.") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.shape[1] < 1 or array.dtype.kind not in "fiu":
        shape = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise UserError(f"Expected an array [items, numbers] in {file.path}, found {shape}.")
    return array


def _size_of_column(file: InputFile, name: str) -> int:
    """Returns the length of the first vector of a column."""
    try:
        with open_bytes(file) as stream:
            parquet = pq.ParquetFile(stream)
            if name not in parquet.schema_arrow.names:
                names = ", ".join(parquet.schema_arrow.names)
                raise UserError(f"Expected column {name!r} in {file.path}, found {names}; set data.items.features.")
            found = parquet.schema_arrow.field(name).type
            if not _is_list_of_numbers(found):
                raise UserError(f"Expected lists of numbers in column {name!r} of {file.path}, found {found}.")
            for batch in parquet.iter_batches(_ROWS, columns=[name], use_threads=False):
                lengths = pc.drop_null(pc.list_value_length(batch.column(0)))
                if len(lengths):
                    if size := lengths[0].as_py():
                        return int(size)
                    raise UserError(f"Expected numbers in the vectors {name!r} of {file.path}, found an empty one.")
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"Expected a Parquet file at {file.path}, could not read it: {error}.") from error
    raise UserError(f"Expected vectors in column {name!r} of {file.path}, found none.")


def _is_list_of_numbers(found: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(test(found) for test in lists):
        return False
    return bool(pa.types.is_floating(found.value_type) or pa.types.is_integer(found.value_type))


def _parquet_parts(source: VectorSource) -> Iterator[Part]:
    try:
        yield from _column_parts(source)
    except (OSError, pa.ArrowException) as error:  # of lists of fixed size pyarrow reads no missing one
        raise UserError(
            f"Expected lists of numbers in column {source.name!r} of {source.file.path}, could not read them: {error}. "
            "Where some are missing, write lists of variable size."
        ) from error


def _column_parts(source: VectorSource) -> Iterator[Part]:
    with open_bytes(source.file) as stream:
        names = [source.item, source.name]
        for batch in pq.ParquetFile(stream).iter_batches(_ROWS, columns=names, use_threads=False):
            batch = batch.filter(pc.is_valid(batch[source.name]))
            ids, lists = as_bytes(batch[source.item]), batch[source.name]
            lengths = pc.list_value_length(lists).to_numpy()
            if (wrong := np.flatnonzero(lengths != source.size)).size:
                raise UserError(
                    f"Expected vectors of {source.size} numbers in column {source.name!r} of {source.file.path}, as "
                    f"the first has, found {lengths[wrong[0]]} for item {_shown(ids, int(wrong[0]))}."
                )
            values = lists.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False)
            yield ids, values.reshape(-1, source.size)  # a null among the numbers is NaN here


def _array_parts(source: VectorSource) -> Iterator[Part]:
    assert source.ids is not None
    array = _open_array(source.file)
    with open_bytes(source.ids) as stream:
        ids = pa.array(stream.read().removeprefix(b"\xef\xbb\xbf").splitlines(), pa.binary())
    if len(ids) != len(array):
        raise UserError(
            f"Expected a line in {source.ids.path} for each of the {len(array)} rows of {source.file.path}, found "
            f"{len(ids)} lines."
        )
    for start in range(0, len(array), _ROWS):
        yield ids[start : start + _ROWS], array[start : start + _ROWS].astype(np.float32)
        forget(array)


def write_vectors(source: VectorSource, item_ids: list[str], folder: str) -> np.ndarray:
    """Writes NAME.npy with the vectors of items: float32 `[N, D]`, a row of NaN for an item without one.

    Args:
        source: the feature; of several vectors of an item the first counts.
        item_ids: N ids, in the order of the rows.
        folder: of the files, on a disk.

    Returns:
        The mask `[N]` of the items that have a vector.

    Raises:
        UserError: a vector has another length, or numbers that are not finite; or no item has a vector.
    """
    if not is_local(folder):
        raise UserError(f"Expected an output on a disk for vectors of items, got {folder}; copy it later.")
    make_folder(folder)
    path, ids = Path(folder, f"{source.name}.npy"), pa.array([item.encode() for item in item_ids], pa.binary())
    unfinished = path.with_name(f".{path.name}")  # a killed job's is overwritten
    found = np.lib.format.open_memmap(unfinished, "w+", np.float32, (len(ids), source.size))
    known = np.zeros(len(ids), bool)
    for part_ids, vectors in source.parts():
        rows = pc.fill_null(pc.index_in(part_ids, value_set=ids), -1).to_numpy().astype(np.int64)
        _, first = np.unique(rows, return_index=True)
        first = first[(rows[first] >= 0) & ~known[rows[first]]]
        if (bad := first[~np.isfinite(vectors[first]).all(axis=1)]).size:
            raise UserError(
                f"Expected finite numbers in the vectors {source.name!r} of {source.file.path}, found others for item "
                f"{_shown(part_ids, int(bad[0]))}. Leave its vector out: it is then unknown."
            )
        found[rows[first]] = vectors[first]
        known[rows[first]] = True
        forget(found)
    if len(ids) and not known.any():
        raise UserError(
            f"Expected vectors {source.name!r} of items of the log, such as {item_ids[0]!r}, in {source.file.path}, "
            "found none; compare the ids of both."
        )
    for start in range(0, len(ids), _ROWS):
        found[start : start + _ROWS][~known[start : start + _ROWS]] = np.nan
        forget(found)
    found.flush()
    os.replace(unfinished, path)
    return known


def _shown(ids: pa.Array, row: int) -> str:
    return repr((ids[row].as_py() or b"").decode("utf-8", "replace"))
