"""Tables as compressed Arrow bytes: how columns travel through Beam without a Python object per event."""

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")  # fast enough to pay for itself even in memory


class Spilled(NamedTuple):
    """Where the bytes of a packed batch lie: `length` bytes of the file at `path`, from `offset` on."""

    path: str
    offset: int
    length: int


Block = bytes | Spilled
"""A packed batch."""


def pack(batch: pa.RecordBatch) -> bytes:
    """Returns one record batch as the bytes of an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_OPTIONS) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def unpack(block: Block) -> pa.RecordBatch:
    """Returns the record batch of `pack`."""
    with pa.ipc.open_stream(_read(block) if isinstance(block, Spilled) else block) as reader:
        return reader.read_next_batch()


def _read(place: Spilled) -> bytes:
    with open(place.path, "rb") as stream:
        stream.seek(place.offset)
        return stream.read(place.length)


def unpack_all(blocks: Iterable[Block], schema: pa.Schema) -> pa.Table:
    """Returns all batches below each other, in the order given; `schema` is that of none at all."""
    batches = [unpack(block) for block in blocks]
    return pa.Table.from_batches(batches, schema=None if batches else schema)
