"""Positions of the lines in a block of text, as arrays, without a Python object per line."""

from collections.abc import Iterator

import numpy as np


def line_spans(block: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions of the first byte, and behind the last byte, of every line that is not blank.

    Line ends are not part of a line.
    """
    characters = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    if not len(ends) or ends[-1] != len(block) - 1:
        ends = np.append(ends, len(block))
    starts = np.concatenate([[0], ends[:-1] + 1])
    returns = (ends > starts) & (characters[ends - 1] == ord("\r"))
    ends = ends - returns
    return starts[ends > starts], ends[ends > starts]


def well_formed_lines(lines: bytes, separator: bytes, num_columns: int) -> np.ndarray:
    """Returns the numbers of the lines that have the right number of columns: row r is line `result[r]`."""
    starts, ends = line_spans(lines)
    separators = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord(separator))
    columns = np.searchsorted(separators, ends) - np.searchsorted(separators, starts) + 1
    return np.flatnonzero(columns == num_columns)


def slices_of(block: bytes, offset: int, lines: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Yields (offset in the file, text) of lines of a block with this offset."""
    starts, ends = line_spans(block)
    for line in lines:
        yield offset + int(starts[line]), block[starts[line] : ends[line]]
