"""`tf.train.Example` records of int64 and float lists in TFRecord files, written without TensorFlow or protobuf.

The wire format (lengths and values are varints; values must not be negative):

    Example   = 0A length Features
    Features  = (0A length Entry) for every feature, in alphabetical order, so that equal records are equal bytes
    Entry     = 0A length name  12 length Feature
    Feature   = 1A length List of int64, or 12 length List of floats (which are four bytes each, lowest first)
    List      = 0A length values, or no bytes if there are no values
    file      = (uint64 length, masked CRC-32C of these 8 bytes, record, masked CRC-32C of the record) per record
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import google_crc32c
import numpy as np

from beam_jobs.files import whole_file

INT64, FLOAT = 0x1A, 0x12
"""Tags of the kinds of lists."""


@dataclass(frozen=True)
class Lists:
    """One feature of R records: record r holds the encoded values `data[starts[r]:ends[r]]`, all of one kind."""

    data: bytes
    starts: list[int]
    ends: list[int]
    kind: int = INT64


class Varints:
    """Non-negative integers `[V]`, encoded at once; several features may share them by different cuts."""

    def __init__(self, values: np.ndarray) -> None:
        self._data, self._edges = encode_varints(values)

    def lists(self, starts: np.ndarray, ends: np.ndarray) -> Lists:
        """Returns the feature whose record r holds `values[starts[r]:ends[r]]`."""
        return Lists(self._data, self._edges[starts].tolist(), self._edges[ends].tolist())


class CutVarints:
    """Lists of non-negative integers `[E]`, encoded at once: list e is the values `edges[e] .. edges[e + 1] - 1`."""

    def __init__(self, values: np.ndarray, edges: np.ndarray) -> None:
        self._values, self._edges = Varints(values), edges

    def lists(self, starts: np.ndarray, ends: np.ndarray) -> Lists:
        """Returns the feature whose record r holds the lists `starts[r]..ends[r] - 1`, one after the other."""
        return self._values.lists(self._edges[starts], self._edges[ends])


def scalars(values: np.ndarray) -> Lists:
    """Returns the feature whose record r holds `[values[r]]`."""
    rows = np.arange(len(values))
    return Varints(values).lists(rows, rows + 1)


class Floats:
    """Numbers `[V]`, encoded at once as float32; several features may share them by different cuts."""

    def __init__(self, values: np.ndarray) -> None:
        self._data = values.astype("<f4").tobytes()

    def lists(self, starts: np.ndarray, ends: np.ndarray) -> Lists:
        """Returns the feature whose record r holds `values[starts[r]:ends[r]]`."""
        return Lists(self._data, (starts * 4).tolist(), (ends * 4).tolist(), FLOAT)


def encoded(values: np.ndarray) -> Varints | Floats:
    """Returns numbers `[V]` as their dtype asks: floats, or integers that are not negative."""
    return Floats(values) if np.issubdtype(values.dtype, np.floating) else Varints(values)


def encode_varints(values: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Encodes integers seven bits a byte, lowest first, the high bit set on all but the last byte.

    Args:
        values: `[V]`, not negative.

    Returns:
        The bytes, and `[V + 1]` edges: value v is `bytes[edges[v]:edges[v + 1]]`.
    """
    values = np.asarray(values, np.int64)
    if len(values) and values.min() < 0:
        raise ValueError(f"expected values >= 0, got {values.min()}")
    lengths = np.ones(len(values), np.int64)
    rest = values >> 7
    while rest.any():
        lengths += rest > 0
        rest >>= 7
    edges = np.concatenate([[0], np.cumsum(lengths)])
    encoded = np.empty(edges[-1], np.uint8)
    for byte in range(lengths.max(initial=0)):
        rows = np.flatnonzero(lengths > byte)
        more = (lengths[rows] > byte + 1) << 7
        encoded[edges[rows] + byte] = (values[rows] >> (7 * byte)) & 0x7F | more
    return encoded.tobytes(), edges


def encode_examples(features: dict[str, Lists]) -> Iterator[bytes]:
    """Yields the serialized `tf.train.Example` of every record; all features have the same number of records."""
    columns = [(_field(0x0A, name.encode()), lists) for name, lists in sorted(features.items())]
    for bounds in zip(*(zip(lists.starts, lists.ends, strict=True) for _, lists in columns), strict=True):
        entries = (
            _field(0x0A, name + _field(0x12, _field(lists.kind, _values(lists.data[start:end]))))
            for (name, lists), (start, end) in zip(columns, bounds, strict=True)
        )
        yield _field(0x0A, b"".join(entries))


def write_records(path: str, records: Iterable[bytes]) -> int:
    """Writes a TFRecord file, whole or not at all, and returns the number of records."""
    num_records = 0
    with whole_file(path) as stream:
        for record in records:
            length = struct.pack("<Q", len(record))
            stream.write(length + _masked_crc(length) + record + _masked_crc(record))
            num_records += 1
    return num_records


def _values(data: bytes) -> bytes:
    return _field(0x0A, data) if data else b""


def _field(tag: int, content: bytes) -> bytes:
    """Returns a length-delimited protobuf field."""
    length = len(content)
    header = bytearray((tag,))
    while length > 0x7F:
        header.append(length & 0x7F | 0x80)
        length >>= 7
    header.append(length)
    return bytes(header) + content


def _masked_crc(data: bytes) -> bytes:
    """Returns the CRC as TFRecord stores it, rotated and with a constant added, for data that contain CRCs."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
