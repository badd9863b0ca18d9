"""Running jobs: order, parallelism, failures, and that no process is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tfdnc.comparison.scripted_jobs import Silent, job
from tfdnc.comparison import jobs
from tfdnc.comparison.jobs import Job, run_jobs

PARENT = """
import signal, sys
from pathlib import Path
# A test suite in the background of a shell inherits that interrupts are ignored; Python then keeps it that way.
signal.signal(signal.SIGINT, signal.default_int_handler)
from tfdnc.comparison.jobs import Job, run_jobs, terminable
sys.path.insert(0, sys.argv[2])
from tests.tfdnc.comparison.scripted_jobs import Silent, job
folder = Path(sys.argv[1])
with terminable():
    run_jobs([job(folder, name, 60) for name in "ab"], 2, Silent())
"""


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.02)


def test_one_lane_keeps_the_order(tmp_path):
    observer = Silent()
    endings = run_jobs([job(tmp_path, name) for name in "cab"], 1, observer)
    assert (tmp_path / "order").read_text() == "+c-c+a-a+b-b"
    assert [ending.job.name for ending in endings] == ["c", "a", "b"]
    assert observer.most == 1


def test_two_lanes_work_side_by_side_and_the_third_job_waits(tmp_path):
    observer = Silent()
    run_jobs([job(tmp_path, "a", 1.5), job(tmp_path, "b", 0.1), job(tmp_path, "c")], 2, observer)
    order = (tmp_path / "order").read_text()
    assert observer.most == 2
    assert order.index("-b") < order.index("+c") < order.index("-a")


def test_a_failure_is_told_with_its_last_lines_and_stops_nobody(tmp_path):
    seen = []
    jobs = [job(tmp_path, "a", status=3), job(tmp_path, "b")]
    endings = run_jobs(jobs, 1, Silent(), on_end=lambda ending: seen.append(ending.job.name))
    assert [ending.failure for ending in endings] == ["exit status 3", None]
    assert endings[0].last_lines == ("a at work",)
    assert seen == ["a", "b"]


def test_a_job_that_was_killed_says_by_what(tmp_path):
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    [ending] = run_jobs([Job("a", "work", (sys.executable, "-c", script), tmp_path / "log")], 1, Silent())
    assert ending.failure == "killed by SIGKILL"


def test_the_log_keeps_earlier_attempts_and_the_ending_quotes_the_last_one_only(tmp_path):
    for _ in range(2):
        [ending] = run_jobs([job(tmp_path, "a")], 1, Silent())
    assert ending.last_lines == ("a at work",)
    log = (tmp_path / "a" / "compare.log").read_text()
    assert log.count("a at work\n") == 2
    assert log.startswith("$ ")


def test_the_environment_of_a_job_is_its_own(tmp_path):
    script = "import os; print(os.environ['OMP_NUM_THREADS'], 'PATH' in os.environ)"
    one = Job("a", "work", (sys.executable, "-c", script), tmp_path / "log", {"OMP_NUM_THREADS": "1"})
    assert run_jobs([one], 1, Silent())[0].last_lines == ("1 True",)


def test_an_interrupt_stops_the_children(tmp_path):
    class Interrupting(Silent):
        def tick(self, running):
            if (tmp_path / "a.pid").exists() and (tmp_path / "a.pid").read_text():
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([job(tmp_path, "a", 60), job(tmp_path, "b")], 1, Interrupting())
    assert not alive(int((tmp_path / "a.pid").read_text()))
    assert (tmp_path / "order").read_text() == "+a"


def test_a_child_that_does_not_heed_the_interrupt_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "GRACE_SECONDS", 0.2)
    script = (
        "import os, signal, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    )
    pid = tmp_path / "pid"

    class Interrupting(Silent):
        def tick(self, running):
            if pid.exists() and pid.read_text():
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([Job("a", "work", (sys.executable, "-c", script, str(pid)), tmp_path / "log")], 1, Interrupting())
    assert not alive(int(pid.read_text()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_a_parent_that_is_interrupted_terminated_or_killed(tmp_path, number):
    root = Path(__file__).parents[3]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), str(root)],
        env=os.environ,
        stderr=subprocess.DEVNULL,
    )
    pids = [tmp_path / f"{name}.pid" for name in "ab"]
    wait_for(lambda: all(pid.exists() and pid.read_text() for pid in pids))
    parent.send_signal(number)
    assert parent.wait(timeout=20) != 0
    wait_for(lambda: not any(alive(int(pid.read_text())) for pid in pids))
