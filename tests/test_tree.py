"""The tree of the tests: it mirrors the tree of the code, and no test file is a library of another."""

import ast
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CODE = TESTS.parent
FILES = sorted(TESTS.rglob("*.py"))
COLLECTED = {path.stem for path in FILES if path.stem.startswith("test_") or path.stem == "conftest"}
"""Modules in which pytest looks for tests or fixtures."""


def imported_by(source):
    """The last words of the modules and names that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.rpartition(".")[2] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "").rpartition(".")[2], *(alias.name for alias in node.names))


@pytest.mark.parametrize(
    "line",
    [
        "import test_methods",
        "import tests.test_methods",
        "from tests import test_methods as methods",
        "from test_methods import run",
    ],
)
def test_every_way_to_import_a_test_file_is_found(line):
    assert "test_methods" in imported_by(f"def helper():\n    {line}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_a_file_imports_no_test_file(path):
    """Helpers that several files need lie in modules without tests, fixtures in a conftest."""
    assert not COLLECTED & {*imported_by(path.read_text())}


def test_helpers_hold_no_tests():
    """pytest would not run them."""
    helpers = [path for path in FILES if path.stem not in COLLECTED]
    functions = [(path, node) for path in helpers for node in ast.walk(ast.parse(path.read_text()))]
    assert not [path for path, node in functions if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def test_every_folder_of_tests_is_a_folder_of_code():
    folders = {path.parent.relative_to(TESTS) for path in FILES}
    assert not [folder for folder in folders if not any((CODE / folder).glob("*.py")) and folder != Path()]


def test_no_two_test_files_have_one_name():
    """pytest imports a file by its name alone: of two, it would refuse the second."""
    names = Counter(path.name for path in FILES if path.stem.startswith("test_"))
    assert [name for name, count in names.items() if count > 1] == []
