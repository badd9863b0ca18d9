"""Tables of the signatures for the documents, made from the rows of `bundle`.

`python -m tfdnc.contracts.bundle_tables docs/serving.md` writes them into a file, between its two marks.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfdnc.contracts import bundle
from tfdnc.contracts.bundle import Row
from tfdnc.contracts.errors import UserError

_BEGIN, _END = "<!-- signatures: written by tfdnc.contracts.bundle_tables -->", "<!-- end of signatures -->"
_MARKED = re.compile(rf"(?<={re.escape(_BEGIN)}\n).*(?={re.escape(_END)})", re.DOTALL)


def render() -> str:
    """Returns the tables: signatures with the names of their tensors, inputs, and outputs."""
    signatures = bundle.signatures_of(attributes=True).values()
    inputs = _distinct([row for declared in signatures for row in declared.inputs] + list(bundle.TIMES))
    outputs = _distinct([row for declared in signatures for row in declared.outputs])
    tables = (
        _table(("signature", "inputs", "outputs"), _signature_cells()),
        _table(("input", "type", "says nothing", "meaning"), map(_cells, inputs)),
        _table(("output", "type", "beyond `num_results`", "meaning"), map(_cells, outputs)),
    )
    return "\n" + "\n\n".join("\n".join(table) for table in tables) + "\n\n"


def replace_tables(text: str) -> str:
    """Returns a document with the tables between its marks.

    Raises:
        UserError: It has no marks.
    """
    if not _MARKED.search(text):
        raise UserError(f"Expected the lines {_BEGIN!r} and {_END!r} in the document, found none. Add them.")
    return _MARKED.sub(lambda _: render(), text)


def _distinct(rows: Sequence[Row]) -> list[Row]:
    """The first row of each name."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.name, row)
    return list(first.values())


def _signature_cells() -> Iterator[tuple[str, str, str]]:
    first: dict[tuple[Row, ...], str] = {}  # outputs -> the first signature that has them
    for name, declared in bundle.signatures_of(attributes=True).items():
        before = first.setdefault(declared.outputs, name)
        outputs = _names(declared.outputs) if before == name else f"those of `{before}`"
        yield f"`{name}`", _names(declared.inputs), outputs


def _names(rows: Sequence[Row]) -> str:
    return ", ".join(f"`{row.name}`" for row in rows)


def _cells(row: Row) -> tuple[str, str, str, str]:
    neutral = "" if row.neutral is None else f"`{json.dumps(row.neutral)}`"
    return f"`{row.name}`", f"{row.dtype} [{', '.join(row.shape)}]", neutral, row.meaning


def _table(header: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    for cells in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(cells)} |"


def main(paths: Sequence[str]) -> None:
    """Writes the tables into documents."""
    for path in map(Path, paths):
        path.write_text(replace_tables(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
