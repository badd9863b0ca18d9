"""What every test relies on."""

import os
import subprocess

# Set before any test module imports TensorFlow, whichever comes first.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
from readme import ROOT, commands, set_up


@pytest.fixture(scope="session")
def readme_folder(tmp_path_factory):
    """A folder in which README's commands were followed up to the first run of the reader's own config."""
    folder = tmp_path_factory.mktemp("readme")
    set_up(folder)
    steps = [next(one for one in commands() if one.startswith(word)) for word in ("source", "tfdnc run")]
    done = subprocess.run(
        ["bash", "-ec", "\n".join(steps)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
