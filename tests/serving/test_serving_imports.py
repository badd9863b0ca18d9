"""The direction of imports: the server runs any SavedModel, so nothing in it may know the training code."""

import ast
from pathlib import Path

import serving

ALLOWED = "tfdnc.contracts."


def imported(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_only_the_ground_floor_of_tfdnc_is_imported():
    for file in Path(serving.__file__).parent.rglob("*.py"):
        ours = {name for name in imported(file) if name.split(".")[0] in ("tfdnc", "beam_jobs")}
        strangers = {name for name in ours if not name.startswith(ALLOWED)}
        assert not strangers, file
