"""Readers of bzip2 and xz that read a file to its end or raise an error; those of Python skip damage.

`bz2.BZ2File` and `lzma.LZMAFile` end without an error at damage behind the first compressed stream. Parallel
compressors write many streams into one file, so most of a log could be lost.
"""

import bz2
import io
import lzma
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Decompressor = bz2.BZ2Decompressor | lzma.LZMADecompressor
"""Decompressor of one stream."""

_STORED_BYTES = 1 << 16  # read at a time


class WholeStreams(io.RawIOBase):
    """Text of all compressed streams of a file, one after the other.

    Args:
        stored: the compressed file, at its beginning.
        decompressor: makes a decompressor for one stream, such as `bz2.BZ2Decompressor`.
        padding: bytes that may stand between two streams.
    """

    def __init__(self, stored: BinaryIO, decompressor: Callable[[], Decompressor], padding: bytes = b"") -> None:
        super().__init__()
        self._stored, self._decompressor, self._padding = stored, decompressor, padding
        self._stream: Decompressor | None
        self._rewind()

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True: a seek reads on, or reads again from the beginning."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fills the buffer with the next text, and returns the number of bytes, 0 at the end.

        Raises:
            EOFError: the last stream is incomplete.
            OSError, lzma.LZMAError: a stream is damaged.
        """
        bytes_of_buffer = memoryview(buffer).cast("B")
        text = self._read(len(bytes_of_buffer))
        bytes_of_buffer[: len(text)] = text
        self._offset += len(text)
        return len(text)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Sets the offset in the text, counted from its beginning or from the current offset."""
        target = offset + (self._offset if whence == io.SEEK_CUR else 0)
        if target < self._offset:
            self._rewind()
        while self._offset < target and self.readinto(bytearray(min(target - self._offset, _STORED_BYTES))):
            pass
        return self._offset

    def tell(self) -> int:
        """Returns the offset in the text."""
        return self._offset

    def _rewind(self) -> None:
        self._stored.seek(0)
        self._stream, self._waiting, self._offset = None, b"", 0

    def _read(self, size: int) -> bytes:
        while True:
            if self._stream is None or self._stream.eof:
                self._waiting = self._next_stream()
                if not self._waiting:
                    return b""
                self._stream = self._decompressor()
            elif self._stream.needs_input and not self._waiting:
                self._waiting = self._stored.read(_STORED_BYTES)
                if not self._waiting:
                    raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            text = self._stream.decompress(self._waiting, size)
            self._waiting = b""
            if text:
                return text

    def _next_stream(self) -> bytes:
        """Returns the first bytes of the next stream, none at the end of the file."""
        waiting = self._stream.unused_data if self._stream else b""
        while True:
            waiting = waiting.lstrip(self._padding) if self._padding and self._stream else waiting
            if waiting:
                return waiting
            waiting = self._stored.read(_STORED_BYTES)
            if not waiting:
                return b""


def open_bzip2(stored: BinaryIO) -> BinaryIO:
    """Opens a bzip2 file to read its text."""
    return io.BufferedReader(WholeStreams(stored, bz2.BZ2Decompressor))


def open_xz(stored: BinaryIO) -> BinaryIO:
    """Opens an xz file, whose streams may be padded with NUL bytes, to read its text."""
    return io.BufferedReader(WholeStreams(stored, lzma.LZMADecompressor, b"\0"))
