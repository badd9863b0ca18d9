"""Compressed text is read to its end or is an error; Python's readers of bzip2 and xz skip damage."""

import bz2
import io
import lzma

import pytest

from beam_jobs.logs.compressed import open_bzip2, open_xz

LINES = b"".join(b"%d,a,1\n" % row for row in range(20_000))
KINDS = [pytest.param(open_bzip2, bz2.compress, id="bzip2"), pytest.param(open_xz, lzma.compress, id="xz")]


@pytest.mark.parametrize(("opened", "compress"), KINDS)
def test_all_streams_are_read_and_any_offset_can_be_set(opened, compress):
    stream = opened(io.BytesIO(compress(LINES) + compress(b"") + compress(b"last\n")))
    assert stream.readline() == b"0,a,1\n"
    assert stream.tell() == 6
    assert stream.read() == LINES[6:] + b"last\n"
    assert stream.read() == b""
    stream.seek(len(LINES) - 6)
    assert stream.read(11) == LINES[-6:] + b"last\n"
    assert stream.seek(6) == 6
    assert stream.read(6) == LINES[6:12]


@pytest.mark.parametrize("damage", [b"\0", b"garbage"])
@pytest.mark.parametrize(("opened", "compress"), KINDS)
def test_damage_after_a_stream_is_an_error(opened, compress, damage):
    stream = opened(io.BytesIO(compress(LINES) + damage + compress(LINES)[1:]))
    with pytest.raises((OSError, lzma.LZMAError)):
        stream.read()


@pytest.mark.parametrize(("opened", "compress"), KINDS)
def test_an_incomplete_stream_is_an_error(opened, compress):
    with pytest.raises(EOFError):
        opened(io.BytesIO(compress(LINES) + compress(LINES)[:-9])).read()


def test_padding_between_streams_of_xz_is_no_damage():
    padded = lzma.compress(b"a\n") + bytes(8) + lzma.compress(b"b\n") + bytes(4)
    assert open_xz(io.BytesIO(padded)).read() == b"a\nb\n"
