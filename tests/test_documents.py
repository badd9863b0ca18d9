"""Links between the documents: files and headings that they name exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "beam_jobs/README.md", "serving/deploy/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def prose_of(document):
    """The text of a document without its fenced code."""
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors_of(document):
    """The anchors that GitHub makes of the headings: lower case, blanks as hyphens, no other punctuation."""
    headings = re.findall(r"^#+ (.*)$", prose_of(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links_of(document):
    """Targets of the links of a document, but those to other sites."""
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(document)) if "://" not in target]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading(document):
    for link in links_of(document):
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_every_document_is_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        if document not in reached:
            reached.add(document)
            names = {link.partition("#")[0] for link in links_of(document)}
            waiting += [(document.parent / name).resolve() for name in names if name.endswith(".md")]
    assert set(DOCUMENTS) <= reached
