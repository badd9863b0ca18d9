"""Hooks of MkDocs: pages from other folders, generated pages, notebooks, and links between all of them."""

import re
import sys
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import config_reference  # noqa: E402 - beside this file
import notebooks  # noqa: E402

ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "beam_jobs/README.md": "jobs.md",
    "serving/deploy/README.md": "deploy.md",
}
"""File of the repository -> page of the site."""

NOTEBOOKS = ("own_log", "own_encoder")
"""Files in `docs/notebooks`; the second goes on in the folder of the first."""

API = {
    "Run experiments": ("tfdnc.api.runs", ["run", "open_run", "Run"]),
    "Figures": ("tfdnc.api.report", ["Report"]),
    "Bundles in this process": ("serving.bundles.in_process", ["load_bundle", "Bundle"]),
    "Clients": ("serving.client", ["RetrievalClient", "AsyncRetrievalClient", "RetrievalError", "Tls", "Retry"]),
    "Answers": ("serving.messages", ["Retrieval", "Encoding"]),
    "Encoders of your own": ("tfdnc.model.encoders.base", ["UserEncoder", "TrainingStates", "UserVectors"]),
    "Losses of your own": ("tfdnc.model.losses.base", ["Loss"]),
}
"""Heading of the API page -> module and its names."""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that do not lie in `docs`."""
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "configuration.md", content=config_reference.page()))
    files.append(File.generated(config, "api.md", content=_api_page()))
    for name, content in notebooks.pages([ROOT / f"docs/notebooks/{name}.py" for name in NOTEBOOKS]).items():
        files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Returns the text with links for the site: a page, or only the words of a file that is no page."""
    sources = {page: source for source, page in ELSEWHERE.items()}
    name = page.file.src_uri
    folder = PurePosixPath(sources.get(name, f"docs/{name}")).parent

    def link(found: re.Match[str]) -> str:
        image, words, target = found.groups()
        path, sign, anchor = target.partition("#")
        if "://" in target or not path:
            return found.group()
        aim = normpath(str(folder / path))
        aim = ELSEWHERE.get(aim, aim.removeprefix("docs/"))
        if aim.startswith("notebooks/") and not name.startswith("notebooks/"):
            aim = aim.removesuffix(".py") + ".md"  # the page with the output; a notebook itself links to its file
        if files.get_file_from_path(aim) is None:
            return found.group() if image else words
        return f"{image}[{words}]({relpath(aim, PurePosixPath(name).parent)}{sign}{anchor})"

    return _LINK.sub(link, markdown)


def _api_page() -> str:
    lines = ["# Python API", "", "[A tour](python.md) shows these names at work.", ""]
    for heading, (module, names) in API.items():
        lines += [f"## {heading}", ""]
        for name in names:
            lines += [f"::: {module}.{name}", "    options: {heading_level: 3}", ""]
    return "\n".join(lines)
