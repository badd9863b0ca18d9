"""docs/python.md as it stands: its files are written, its Python is run, and what it says of plug-ins holds."""

import json
import os
import re
import subprocess
import sys

import pytest
from readme import ROOT

from tfdnc.contracts.config import load_config
from tfdnc.contracts.plugins import source_digests

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def blocks(language, marked):
    """(name of the file, content) of the fenced blocks that are files, or ("", content) of the others."""
    fence = rf"^```{language} ?(?:file=(\S+))?\n(.*?)^```"
    return [(name, text) for name, text in re.findall(fence, PAGE, re.MULTILINE | re.DOTALL) if bool(name) == marked]


def python(code, folder, **environment):
    """Output of a fresh process."""
    command = [sys.executable, "-c", code]
    options = {"cwd": folder, "env": os.environ | environment, "timeout": 400, "check": False}
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def followed(readme_folder):
    """The folder of README, in which the page was followed; and what its Python printed and logged."""
    for name, text in [*blocks("python", True), *blocks("yaml", True)]:
        (readme_folder / name).write_text(text)
    code = "\n".join(text for _, text in blocks("python", False))
    light = "import sys, tfdnc\nassert not {'tensorflow', 'numpy', 'pydantic'} & {*sys.modules}\n"
    return readme_folder, *python(light + code, readme_folder, PYTHONPATH=str(ROOT))


def test_the_page_works_as_it_stands(followed):
    """In the folder of README's own run, whose stations are unchanged from Python, too."""
    folder, printed, logged = followed
    assert "Expected `until` to be a station of generate, prepare" in printed
    for station in ("prepare", "cluster", "examples", "train", "evaluate", "export"):
        assert f"tfdnc.api.runs:{station}: unchanged, " in logged
    assert "tfdnc.training.display:epoch 1/" in logged  # of the encoder of the page
    assert re.search(
        r"tfdnc\.api\.runs:prepare: adopted from mine, .*\n(?s:.*)tfdnc\.api\.runs:train: [\d.]+ s, ", logged
    )
    options = json.loads((folder / "runs/mine-mean/train/manifest.json").read_text())["inputs"]["settings"]["model"]
    assert options["options"] == {"last": 5}


def test_a_bundle_of_the_users_encoder_serves_without_it(followed, tmp_path):
    code = f"""
import importlib.util, tfdnc
assert importlib.util.find_spec("my_encoder") is None
bundle = tfdnc.load_bundle({str(followed[0] / "runs/mine-mean/bundle")!r})
[answer] = bundle.retrieve([["s1", "s2"]], 10, times=[[]])
print(len(answer.item_ids))
"""
    assert python(code, tmp_path, PYTHONPATH=str(ROOT))[0] == "10\n"


def test_an_edit_of_the_encoder_makes_the_training_stale_and_what_comes_before_not(followed):
    """tests/tfdnc/pipeline/test_plugin_stations.py shows what a station does with other inputs."""
    folder = followed[0]
    module, run = folder / "my_encoder.py", folder / "runs" / "mine-mean"
    inputs = {path.parent.name: json.loads(path.read_text())["inputs"] for path in run.glob("[!.]*/manifest.json")}
    digests = source_digests(load_config(folder / "mine_mean.yaml").plugins)
    assert {station for station, made_of in inputs.items() if made_of.get("plugins")} == {"train"}
    assert inputs["train"]["plugins"] == digests
    module.write_text(module.read_text() + "\n# another version\n")
    assert source_digests([f"{folder}/my_encoder"]) != digests
