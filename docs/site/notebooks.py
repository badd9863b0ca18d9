"""Notebooks of the site: Python files with cells, run in their order in one folder, and shown with their output.

What libraries log on stderr is left out, as the command line does it.
"""

import base64
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import jupytext
from mkdocs.exceptions import PluginError
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from traitlets.config import Config

SECONDS = 300
"""Longest time of a cell."""

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}


def pages(sources: Sequence[Path]) -> dict[str, str | bytes]:
    """Runs notebooks, each in a process of its own but all in one folder; returns their pages and pictures by name.

    Args:
        sources: Python files in jupytext's percent format; a later one finds the files of the earlier ones.

    Raises:
        PluginError: A cell has failed; `mkdocs build` ends.
    """
    found: dict[str, str | bytes] = {}
    with tempfile.TemporaryDirectory() as place:
        for source in sources:
            pictures: dict[str, bytes] = {}
            lines = [line for cell in run(source, Path(place)).cells for line in _shown(cell, source.stem, pictures)]
            found |= {f"{source.stem}.md": "\n".join(lines), **pictures}
    return found


def run(source: Path, place: Path) -> NotebookNode:
    """Returns a notebook with the output of its cells, which run in the folder `place`; raises as `pages`."""
    notebook = jupytext.read(source, fmt="py:percent")
    resources = {"metadata": {"path": place}}
    # Sockets are files of this user, not ports that others could reach.
    sockets = Config({"KernelManager": {"transport": "ipc", "ip": str(place / f".{source.stem}")}})
    client = NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources, config=sockets)
    try:
        client.execute(env=os.environ | _QUIET)
    except CellExecutionError as error:
        raise PluginError(f"A cell of {source} failed.\n{error}") from error
    return notebook


def _shown(cell: NotebookNode, name: str, pictures: dict[str, bytes]) -> Iterator[str]:
    """Yields a cell as lines of Markdown; pictures are added to `pictures`."""
    if cell.cell_type == "markdown":
        yield from ("", cell.source, "")
        return
    yield from ("", "```python", cell.source, "```", "")
    for output in (one for one in cell.outputs if one.get("name") != "stderr"):
        data = output.get("data", {})
        if "image/png" in data:
            picture = f"{name}_{len(pictures) + 1}.png"
            pictures[picture] = base64.b64decode(data["image/png"])
            yield from ("", f"![Output of the cell above]({picture})", "")
        else:
            yield from ("```text", (output.get("text") or data.get("text/plain", "")).rstrip(), "```", "")
