"""Import rules of docs/architecture.md: the folders that each folder may import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = "tfdnc.contracts"

# Folder, or file beside the folders -> the folders it may import, beside itself and the contracts.
IMPORTS = {
    "tfdnc": {"tfdnc.api", "serving.client", "serving.messages", "serving.bundles"},
    "tfdnc.contracts": set(),
    "beam_jobs": {"beam_jobs.logs"},
    "beam_jobs.logs": {"beam_jobs"},
    "beam_jobs.engines": {"beam_jobs"},
    "serving": {"serving.bundles", "serving.rest"},
    "serving.rest": {"serving"},
    "serving.messages": {"serving"},
    "serving.client": {"serving", "serving.messages"},
    "serving.bundles": {"serving", "serving.client", "serving.messages"},
    "tfdnc.datasets": set(),
    "tfdnc.backend": set(),
    "tfdnc.clustering": {"beam_jobs"},
    "tfdnc.model": {"tfdnc.backend"},
    "tfdnc.retrieval": {"tfdnc.backend"},
    "tfdnc.training": {"tfdnc.backend", "tfdnc.model"},
    "tfdnc.evaluation": {"tfdnc.backend", "tfdnc.model", "tfdnc.retrieval", "tfdnc.training"},
    "tfdnc.export": {"tfdnc.backend", "tfdnc.model", "tfdnc.retrieval", "tfdnc.training"},
    "tfdnc.pipeline": {
        *("tfdnc.datasets", "tfdnc.clustering", "tfdnc.training", "tfdnc.model", "tfdnc.retrieval"),
        *("tfdnc.evaluation", "tfdnc.export", "beam_jobs", "beam_jobs.logs", "serving.bundles"),
    },
    "tfdnc.operations": {
        *("beam_jobs", "beam_jobs.logs", "serving", "serving.bundles", "tfdnc.backend", "tfdnc.clustering"),
        *("tfdnc.training", "tfdnc.model", "tfdnc.retrieval", "tfdnc.export", "tfdnc.pipeline"),
    },
    "tfdnc.api": {
        "tfdnc.backend",
        "tfdnc.model",
        "tfdnc.training",
        "tfdnc.evaluation",
        "tfdnc.pipeline",
        "tfdnc.operations",
        "serving.bundles",
    },
    "tfdnc.comparison": {"tfdnc.pipeline.engine"},
    "tfdnc.page": {
        *("tfdnc.backend", "tfdnc.comparison", "tfdnc.evaluation", "tfdnc.pipeline.manifests", "tfdnc.training"),
        *("serving.bundles", "serving.messages", "tfdnc.operations"),
    },
    "tfdnc.explore": {
        *("serving.bundles", "serving.client", "serving.messages", "tfdnc.operations", "tfdnc.page", "tfdnc.training"),
    },
    "tfdnc.benchmark": {"tfdnc.backend", "tfdnc.comparison", "tfdnc.training"},
    "tfdnc.load_test": {
        "serving",
        "serving.bundles",
        "serving.messages",
        "tfdnc.backend",
        "tfdnc.export",
        "tfdnc.model",
    },
}


def folder_of(module):
    """The folder of a module, or the module itself where it lies beside the folders."""
    package, *rest = module.split(".")
    below = rest and ((ROOT / package / rest[0]).is_dir() or package == "tfdnc")
    return f"{package}.{rest[0]}" if below else package


def modules_of(path):
    """Modules of this repository that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from tfdnc.contracts import schema` imports a module, `from tfdnc.contracts.schema import PAD` a name.
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if _is_module(name) else node.module for name in found]
        else:
            continue
        yield from (name for name in found if name.split(".")[0] in ("tfdnc", "beam_jobs", "serving"))


def _is_module(name):
    path = ROOT / Path(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def files():
    for package in ("tfdnc", "beam_jobs", "serving"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.parent.name != "deploy":  # examples for other programs
                yield path, folder_of(module_of(path))


def circles(imports):
    """Sets of two or more modules that import each other, directly or through others; imports: module -> modules."""
    reached = {}
    for module in imports:
        found, open_ends = set(), {module}
        while open_ends:
            new = {name for end in open_ends for name in imports.get(end, ())} - found
            found, open_ends = found | new, new
        reached[module] = found
    groups = {
        frozenset({other for other in found if module in reached.get(other, ())}) for module, found in reached.items()
    }
    return {group for group in groups if len(group) > 1}


def test_every_room_is_in_the_picture():
    """The command line is not in the table, because it may import every folder."""
    assert {folder for _, folder in files()} == {*IMPORTS, "tfdnc.cli"}


@pytest.mark.parametrize("folder", IMPORTS)
def test_a_folder_imports_what_the_picture_says(folder):
    allowed = IMPORTS[folder] | {folder, CONTRACTS}
    for path, of in files():
        if of == folder:
            foreign = {name for name in modules_of(path) if folder_of(name) not in allowed and name not in allowed}
            assert not foreign, path


def test_no_permission_is_out_of_date():
    for folder, allowed in IMPORTS.items():
        used = {name for path, of in files() if of == folder for name in modules_of(path)}
        used |= {folder_of(name) for name in used}
        assert allowed <= used, folder


def test_a_circle_of_imports_is_found():
    assert circles({"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"d"}, "e": {"a"}}) == {frozenset("abc")}


def test_no_modules_import_each_other():
    """Imports in functions and those for types alone count: an index and its estimate were tied by one of these."""
    assert circles({module_of(path): set(modules_of(path)) for path, _ in files()}) == set()


def test_workers_and_the_command_line_start_without_tensorflow():
    modules = [
        "tfdnc",
        "tfdnc.cli.main",
        "tfdnc.cli.compare",
        "tfdnc.cli.benchmark_training",
        "beam_jobs.sequences",
        "beam_jobs.examples",
        "tfdnc.clustering",
        "tfdnc.page.build",  # a wrong folder is reported at once
    ]
    code = f"import sys, {', '.join(modules)}; print([name for name in sys.modules if name == 'tensorflow'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
