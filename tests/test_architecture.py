"""The import directions of docs/architecture.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND_FLOOR = {
    "tfdnc",
    *(
        f"tfdnc.{name}"
        for name in (
            *("config", "config_errors", "data_config", "errors", "items", "narrow", "negatives", "overrides"),
            *("registry", "schema", "section", "sequences", "shards", "tensorflow_paths", "times", "yaml_reader"),
        )
    ),
}


def imports_of(path):
    """Modules of this repository that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # `from tfdnc import schema` imports a module; `from tfdnc.schema import PAD` imports its parent.
            names = {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "tfdnc" else set()
            found |= {
                node.module,
                *(name for name in names if (ROOT / Path(*name.split("."))).with_suffix(".py").is_file()),
            }
    return {name for name in found if name.split(".")[0] in ("tfdnc", "beam_jobs", "serving")}


def files_of(package):
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", ["beam_jobs", "serving"])
def test_the_data_jobs_and_the_server_stand_on_the_ground_floor_only(package):
    for path in files_of(package):
        foreign = {name for name in imports_of(path) if name.split(".")[0] != package} - GROUND_FLOOR
        assert not foreign, path


def test_only_the_command_line_knows_all_three_packages():
    jobs_of = {"clustering"}  # the room that runs Beam jobs of its own
    for path in files_of("tfdnc"):
        if path.parent.name != "cli":
            foreign = {"serving"} if path.parent.name in jobs_of else {"beam_jobs", "serving"}
            assert not {name for name in imports_of(path) if name.split(".")[0] in foreign}, path


def test_comparisons_drive_stations_and_know_no_room_that_makes_them():
    for path in files_of("tfdnc/comparison"):
        foreign = {name for name in imports_of(path) if not name.startswith("tfdnc.comparison")}
        assert foreign <= GROUND_FLOOR | {"tfdnc.stations"}, path


def test_the_ground_floor_imports_nothing_above_it():
    for name in sorted(GROUND_FLOOR - {"tfdnc"}):
        path = (ROOT / Path(*name.split("."))).with_suffix(".py")
        assert imports_of(path) <= GROUND_FLOOR, path


def test_workers_and_the_command_line_start_without_tensorflow():
    modules = [
        "tfdnc",
        "tfdnc.cli.main",
        "tfdnc.cli.compare",
        "tfdnc.cli.benchmark",
        "beam_jobs.sequences",
        "beam_jobs.examples",
        "tfdnc.clustering",
        "tfdnc.page.build",  # a wrong folder is reported at once
    ]
    code = f"import sys, {', '.join(modules)}; print([name for name in sys.modules if name == 'tensorflow'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
