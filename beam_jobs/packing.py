"""Record batches as compressed Arrow IPC streams: elements of the jobs, without a Python object per event."""

import json
from collections.abc import Iterable

import pyarrow as pa

_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")  # saves more time than it costs, also in memory
_POINTER = b"packed table at "  # no Arrow stream begins with these bytes


def pack(batch: pa.RecordBatch) -> bytes:
    """Returns one record batch as the bytes of an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_OPTIONS) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def pointer(path: str, offset: int, length: int) -> bytes:
    """Returns bytes for which `unpack` reads the bytes `[offset, offset + length)` of a file."""
    return _POINTER + json.dumps([path, offset, length]).encode()


def is_pointer(packed: bytes) -> bool:
    """Returns whether these bytes are a `pointer`, not a table."""
    return packed.startswith(_POINTER)


def unpack(packed: bytes) -> pa.RecordBatch:
    """Returns the record batch of `pack`, or the one that a `pointer` refers to."""
    if is_pointer(packed):
        path, offset, length = json.loads(packed.removeprefix(_POINTER))
        with open(path, "rb") as stream:
            stream.seek(offset)
            packed = stream.read(length)
    with pa.ipc.open_stream(packed) as reader:
        return reader.read_next_batch()


def unpack_all(packed: Iterable[bytes], schema: pa.Schema) -> pa.Table:
    """Returns a table of all batches, in the given order; `schema` is used if there are no batches."""
    batches = [unpack(piece) for piece in packed]
    return pa.Table.from_batches(batches, schema=None if batches else schema)
