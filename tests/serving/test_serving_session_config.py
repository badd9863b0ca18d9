"""Threads of TensorFlow: which numbers flags and file give the sessions, and that a fresh process has them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.options import ServerOptions
from serving.session_config import session_config
from tfdnc.contracts.errors import UserError

INTRA, INTER, BOTH = (f"tensorflow_{kind}_parallelism" for kind in ("intra_op", "inter_op", "session"))

COUNT_THREADS = """
import os, sys
from pathlib import Path
from serving.options import ServerOptions
from serving.servable import Servable
from serving.session_config import session_config

path, intra, inter = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
threads = {"tensorflow_intra_op_parallelism": intra, "tensorflow_inter_op_parallelism": inter}
before = len(os.listdir("/proc/self/task"))
servable = Servable.load("half", 1, path, session_config(ServerOptions(model_base_path=path, **threads)))
print(len(os.listdir("/proc/self/task")) - before)
"""


def threads(**flags):
    config = session_config(ServerOptions(model_base_path=Path("/m"), **flags))
    return config.intra_op_parallelism_threads, config.inter_op_parallelism_threads


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "session.config"
    path.write_text("inter_op_parallelism_threads: -1\nallow_soft_placement: true")
    return path


def test_tensorflow_chooses_unless_told():
    assert threads() == (0, 0)


def test_flags_give_the_numbers():
    assert threads(**{INTRA: 3, INTER: 5}) == (3, 5)
    assert threads(**{INTRA: 3}) == (3, 0)
    assert threads(**{BOTH: 4}) == (4, 4)


def test_flags_win_over_the_file(file):
    given = {"tensorflow_session_config_file": file}
    assert threads(**given) == (0, -1)
    assert threads(**given, **{INTRA: 3}) == (3, -1)
    assert threads(**given, **{BOTH: 2}) == (2, 2)
    assert session_config(ServerOptions(model_base_path=Path("/m"), **given)).allow_soft_placement


def test_a_file_that_is_no_config_is_told(file):
    file.write_text("inter_op_threads: 1")
    with pytest.raises(UserError, match=r"Error parsing text-format tensorflow\.ConfigProto: 1:1: Message type "):
        threads(tensorflow_session_config_file=file)


def test_all_three_are_too_many_and_beside_one_the_flag_for_both_is_ignored():
    assert threads(**{BOTH: 2, INTER: 3}) == (0, 3)
    with pytest.raises(UserError, match=f"Expected either {BOTH} or {INTRA} and {INTER}, got all three"):
        threads(**{BOTH: 2, INTRA: 2, INTER: 2})


def test_a_share_of_the_gpu_reaches_the_session():
    config = session_config(ServerOptions(model_base_path=Path("/m"), per_process_gpu_memory_fraction=0.5))
    assert config.gpu_options.per_process_gpu_memory_fraction == 0.5


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted as Linux shows them")
def test_a_process_has_as_many_threads_as_it_was_told(half_plus_two):
    """TensorFlow makes its pools with the first session of a process, so this one may have them already."""

    def started(intra, inter):
        command = [sys.executable, "-c", COUNT_THREADS, half_plus_two / "1", str(intra), str(inter)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ)).stdout)

    assert started(3, 5) - started(1, 1) == 6
