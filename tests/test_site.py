"""Notebooks of the site: run in one folder, shown with their output; one that fails ends the build."""

import sys

import pytest
from readme import ROOT

pytest.importorskip("jupytext", reason="needs the packages of `make docs`")
pytest.importorskip("nbclient", reason="needs the packages of `make docs`")
sys.path.append(str(ROOT / "docs" / "site"))

import notebooks
from mkdocs.exceptions import PluginError

WRITES = """# %% [markdown]
# # A title
# With [a link](../data.md).

# %%
import sys

with open("left.txt", "w") as file:
    file.write("by the first")
print("<b>", file=sys.stderr)
print("said")

# %%
from IPython.display import Image

Image(data=bytes.fromhex("89504e470d0a1a0a"))
"""
READS = """# %%
open("left.txt").read()
"""
FAILS = """# %%
raise ValueError("of a cell")
"""


@pytest.fixture
def pages(tmp_path):
    def pages(**texts):
        sources = [tmp_path / f"{name}.py" for name in texts]
        for source, text in zip(sources, texts.values(), strict=True):
            source.write_text(text)
        return notebooks.pages(sources)

    return pages


def test_a_page_has_the_cells_with_their_output(pages):
    found = pages(first=WRITES, second=READS)
    assert list(found) == ["first.md", "first_1.png", "second.md"]
    first = found["first.md"]
    assert first.startswith("\n# A title\nWith [a link](../data.md).\n")
    assert 'print("said")\n```\n' in first
    assert "```text\nsaid\n```" in first
    assert "<b>\n```" not in first  # what libraries log
    assert "](first_1.png)" in first
    assert found["first_1.png"] == bytes.fromhex("89504e470d0a1a0a")
    assert "```text\n'by the first'\n```" in found["second.md"]


def test_a_cell_that_fails_ends_the_build(pages):
    with pytest.raises(PluginError, match=r"(?s)A cell of .*failing\.py failed.*of a cell"):
        pages(failing=FAILS)


def test_every_notebook_is_in_the_build():
    import hooks

    assert {path.stem for path in (ROOT / "docs" / "notebooks").glob("*.py")} == set(hooks.NOTEBOOKS)
