"""Log lines of libraries: hidden in a run that goes well, shown in one that fails, or if asked for."""

import io

import pytest
from commands import started

from tfdnc.cli.library_log import WENT_WELL, filter_lines, is_relevant

MLIR = b"I0000 00:00:1795793641.640518    6524 mlir_graph_optimization_pass.cc:437] MLIR V1 optimization pass is not\n"
NO_GPU = b"E0000 00:00:1795793641.640518    6524 cuda_platform.cc:51] failed call to cuInit: UNKNOWN ERROR (303)\n"
BROKEN = b"E0000 00:00:1795793641.640518    6524 thread.cc:1] Resource exhausted\n"
NOISE = [
    MLIR,
    NO_GPU,
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n",
    b"2026-11-27 15:33:12.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.\n",
    b"2026-11-27 15:33:12.123456: W external/local_xla/xla/x.cc:1] something\n",
    b"2026-11-27 15:33:12.123456: E external/local_xla/xla/cuda_dnn.cc:467] Unable to register cuDNN factory\n",
    b"To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with flags.\n",
]
NEWS = [
    BROKEN,
    b"F0000 00:00:1795793641.640518    6524 tensor.cc:9] Check failed: dims == 2\n",
    b"2026-11-27 15:33:12.123456: E tensorflow/core/x.cc:1] Out of memory\n",
    b"Traceback (most recent call last):\n",
    b"terminate called after throwing an instance of 'std::bad_alloc'\n",
    b"\n",
]


@pytest.mark.parametrize("line", NOISE)
def test_noise_is_not_shown(line):
    assert not is_relevant(line)


@pytest.mark.parametrize("line", NEWS)
def test_errors_and_lines_of_no_log_are_shown(line):
    assert is_relevant(line)


def passed(*lines):
    target = io.BytesIO()
    filter_lines(io.BytesIO(b"".join(lines)), target)
    return target.getvalue()


def test_kept_lines_are_shown_unless_the_run_went_well():
    assert passed(MLIR, BROKEN, NO_GPU) == BROKEN + MLIR + NO_GPU
    assert passed(MLIR, BROKEN, NO_GPU, WENT_WELL) == BROKEN
    assert passed(MLIR, b"no end of line", WENT_WELL) == b"no end of line"


SPEAK = f"""
os.write(2, {MLIR!r})
for name in ("apache_beam", "gensim.models", "tensorflow", "absl", "matplotlib"):
    logging.getLogger(name).warning("chatter")
warnings.warn("old", FutureWarning)
logging.getLogger("apache_beam").error("broken")
logging.getLogger("tfdnc.x").warning("ours")
"""


def test_a_normal_run_shows_warnings_of_ours_and_errors_of_libraries():
    done = started(SPEAK)
    assert done.returncode == 0
    assert done.stderr == b"ERROR broken\nWARNING ours\n"


@pytest.mark.parametrize("end", ["os.abort()", "raise RuntimeError('x')"])
def test_a_run_that_fails_shows_what_native_code_said_before(end):
    done = started(f"os.write(2, {MLIR!r})\n{end}")
    assert done.returncode
    assert MLIR in done.stderr
    assert b"\0" not in done.stderr


def test_verbose_shows_all():
    done = started(SPEAK, "--verbose")
    assert done.returncode == 0
    assert MLIR in done.stderr
    assert done.stderr.count(b"chatter") == 5
    assert b"FutureWarning: old" in done.stderr
