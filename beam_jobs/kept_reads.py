"""Kept results of reading: what each file of a log gave, for later runs whose log holds the same file.

    FOLDER/.lock                        shared by the jobs at work; the one that is alone removes what is old
    FOLDER/KEY/pieces-CHUNK.json        the pieces of a file
    FOLDER/KEY/START-END-CHUNK.blocks   the blocks of a piece: packed tables, then an index

A key is a digest of the content of a file and of all settings that its reading depends on. Rules over all events, such
as `min_item_events`, come later and are no part of it. The tables stay in these files: pointers to them are shuffled,
as with `shuffle.SetAside`, so workers must see the folder.
"""

import fcntl
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from beam_jobs.files import remove_unfinished, whole_file
from beam_jobs.log_blocks import Block
from beam_jobs.logs.log_files import Piece
from beam_jobs.packing import pointer

FORMAT = 1
"""Number of the format of the files; a change of it makes kept results useless, and belongs into the keys."""

_END = b"blocks\x00\x01"  # last bytes of a whole file of blocks
_LENGTH = 8  # bytes of the number before them: the length of the index
_DAY = 86_400


@dataclass(frozen=True)
class KeptReads:
    """The folder of kept results, and the part of it that belongs to one log.

    Attributes:
        folder: absolute path, on a disk that all workers see.
        keys: key of every file of the log, in its order.
        days: number of days after its last use for which a result is kept.
    """

    folder: str
    keys: tuple[str, ...]
    days: int

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Removes old results and leftovers of killed jobs, unless another job is at work; then keeps out the next."""
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._remove_old(folder)
            except BlockingIOError:
                pass  # a job that starts when no other is at work removes them
            fcntl.flock(lock, fcntl.LOCK_SH)
            for key in self.keys:
                (folder / key).mkdir(exist_ok=True)
                os.utime(folder / key)  # the time of the last use
            yield

    def _remove_old(self, folder: Path) -> None:
        oldest = time.time() - self.days * _DAY
        for entry in folder.iterdir():
            if entry.is_dir() and entry.name not in self.keys and entry.stat().st_mtime < oldest:
                shutil.rmtree(entry)
        remove_unfinished(folder)

    def whole_files(self, chunk_bytes: int) -> "WholeFiles":
        """Returns the files of the log that need not be read."""
        numbers = (n for n in range(len(self.keys)) if self.all_blocks(n, chunk_bytes) is not None)
        return WholeFiles(self, frozenset(numbers), chunk_bytes)

    def pieces(self, number: int, chunk_bytes: int, cut: Callable[[], list[Piece]]) -> list[Piece]:
        """Returns the pieces of file `number`, as kept or as `cut` returns them; to cut may mean to read all of it."""
        kept = self.kept_pieces(number, chunk_bytes)
        if kept is not None:
            return kept
        pieces = cut()
        with whole_file(self._pieces_path(number, chunk_bytes)) as stream:
            stream.write(json.dumps([(piece.start, piece.end) for piece in pieces]).encode())
        return pieces

    def kept_pieces(self, number: int, chunk_bytes: int) -> list[Piece] | None:
        """Returns the kept pieces of file `number`, None if there are none, or only a damaged file of them."""
        try:
            spans = json.loads(self._pieces_path(number, chunk_bytes).read_bytes())
        except (OSError, ValueError):
            return None
        return [Piece(number, start, end) for start, end in spans]

    def blocks(self, piece: Piece, chunk_bytes: int, read: Callable[[], Iterable[Block]]) -> list[Block]:
        """Returns the blocks of a piece with pointers instead of tables; reads and keeps them if they are not kept."""
        path = self._blocks_path(piece, chunk_bytes)
        kept = _load(path)
        return _keep(path, read()) if kept is None else kept

    def all_blocks(self, number: int, chunk_bytes: int) -> list[Block] | None:
        """Returns the kept blocks of file `number`, None unless all of them are kept."""
        pieces = self.kept_pieces(number, chunk_bytes)
        kept = [_load(self._blocks_path(piece, chunk_bytes)) for piece in pieces or ()]
        whole = [blocks for blocks in kept if blocks is not None]
        return None if pieces is None or len(whole) < len(pieces) else [block for blocks in whole for block in blocks]

    def _pieces_path(self, number: int, chunk_bytes: int) -> Path:
        return Path(self.folder, self.keys[number], f"pieces-{chunk_bytes}.json")

    def _blocks_path(self, piece: Piece, chunk_bytes: int) -> Path:
        return Path(self.folder, self.keys[piece.file], f"{piece.start}-{piece.end}-{chunk_bytes}.blocks")


@dataclass(frozen=True)
class WholeFiles:
    """Files of a log that are kept wholly; their events need not pass through the shuffle.

    Attributes:
        kept: the kept results.
        numbers: numbers of these files in the log.
        chunk_bytes: size of the pieces.
    """

    kept: KeptReads
    numbers: frozenset[int]
    chunk_bytes: int

    def figures(self) -> dict[str, int]:
        """Returns the number of `files` of the log, that of the `reused` ones, and the `bytes` now kept of the log."""
        folders = {Path(self.kept.folder, key) for key in self.kept.keys}
        num_bytes = sum(path.stat().st_size for folder in folders for path in folder.iterdir())
        return {"files": len(self.kept.keys), "reused": len(self.numbers), "bytes": num_bytes}

    @cached_property
    def events(self) -> dict[int, list[tuple[tuple[int, int], bytes]]]:
        """(Position of the block, pointer to packed events), by bucket."""
        found: dict[int, list[tuple[tuple[int, int], bytes]]] = defaultdict(list)
        for number in self.numbers:
            blocks = self.kept.all_blocks(number, self.chunk_bytes)
            if blocks is None:
                raise RuntimeError(
                    f"Expected the kept results of {self.kept.keys[number]}, which were there: run again."
                )
            for block in blocks:
                for bucket, packed in block.events:
                    found[bucket].append(((number, block.offset), packed))
        return found


def _keep(path: Path, blocks: Iterable[Block]) -> list[Block]:
    """Writes the blocks of a piece, one after the other; returns them with pointers instead of tables."""
    index: list[dict[str, Any]] = []
    with whole_file(path) as stream:
        offset = 0

        def write(packed: bytes) -> tuple[int, int]:
            nonlocal offset
            stream.write(packed)
            offset += len(packed)
            return offset - len(packed), len(packed)

        for block in blocks:
            events = [(bucket, *write(packed)) for bucket, packed in block.events]
            index.append(block._asdict() | {"events": events, "items": [write(packed) for packed in block.items]})
        written = json.dumps(index).encode()
        stream.write(written + len(written).to_bytes(_LENGTH) + _END)
    return _with_pointers(path, index)


def _load(path: Path) -> list[Block] | None:
    """Returns the kept blocks of a piece; None if there is no such file, or only a damaged one."""
    index = _index_of(path)
    return None if index is None else _with_pointers(path, index)


def _index_of(path: Path) -> list[dict[str, Any]] | None:
    try:
        with path.open("rb") as stream:
            stream.seek(-_LENGTH - len(_END), os.SEEK_END)
            length, end = int.from_bytes(stream.read(_LENGTH)), stream.read()
            if end != _END:
                return None
            stream.seek(-length - _LENGTH - len(_END), os.SEEK_END)
            index: list[dict[str, Any]] = json.loads(stream.read(length))
            return index
    except (OSError, ValueError):  # missing, or cut off by a crash of the machine: it is read from the log again
        return None


def _with_pointers(path: Path, index: list[dict[str, Any]]) -> list[Block]:
    def table(offset: int, length: int) -> bytes:
        return pointer(str(path), offset, length)

    return [
        Block(
            **one
            | {
                "events": [(bucket, table(*place)) for bucket, *place in one["events"]],
                "items": [table(*place) for place in one["items"]],
            }
        )
        for one in index
    ]
