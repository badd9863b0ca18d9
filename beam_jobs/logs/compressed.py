"""Compressed text as a stream that is whole or an error: bzip2 and xz, in which Python's own readers skip damage.

`bz2.BZ2File` and `lzma.LZMAFile` take what follows the first compressed stream for garbage if they cannot decompress
it, and end there in silence. Parallel compressors write many streams into one file, so that would be most of a log.
"""

import bz2
import io
import lzma
from collections.abc import Callable
from typing import BinaryIO

_STORED_BYTES = 1 << 16  # read at a time


class WholeStreams(io.RawIOBase):
    """The text of all compressed streams of a file, one after the other.

    Args:
        stored: the compressed file, at its beginning.
        decompressor: makes a decompressor for one stream, such as `bz2.BZ2Decompressor`.
        padding: bytes that may stand between two streams.
    """

    def __init__(self, stored: BinaryIO, decompressor: Callable, padding: bytes = b""):
        super().__init__()
        self._stored, self._decompressor, self._padding = stored, decompressor, padding
        self._rewind()

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True: by reading on, or anew."""
        return True

    def readinto(self, buffer) -> int:
        """Fills the buffer with the next text; returns 0 at the end.

        Raises:
            EOFError: the last stream is cut off.
            OSError, lzma.LZMAError: damage.
        """
        text = self._read(len(buffer))
        buffer[: len(text)] = text
        self._place += len(text)
        return len(text)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place in the text, counted from its beginning or from here."""
        target = offset + (self._place if whence == io.SEEK_CUR else 0)
        if target < self._place:
            self._rewind()
        while self._place < target and self.readinto(bytearray(min(target - self._place, _STORED_BYTES))):
            pass
        return self._place

    def tell(self) -> int:
        """Returns the place in the text."""
        return self._place

    def _rewind(self) -> None:
        self._stored.seek(0)
        self._stream, self._waiting, self._place = None, b"", 0

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
    """Opens bzip2."""
    return io.BufferedReader(WholeStreams(stored, bz2.BZ2Decompressor))


def open_xz(stored: BinaryIO) -> BinaryIO:
    """Opens xz, whose streams may be padded with NUL bytes."""
    return io.BufferedReader(WholeStreams(stored, lzma.LZMADecompressor, b"\0"))
