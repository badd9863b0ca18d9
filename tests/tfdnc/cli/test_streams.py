"""Nothing about the display ends the work: letters that cannot be encoded, pipes and disks that take no more."""

import os
import pty
import subprocess

from commands import ASCII_ONLY, script, started

SHOW = """
made = screen.table("Users of Амели", "item", "cluster")
made.add_row("アメリ ━ 3", "█ é")
screen.console.print(made)
print("плюс")
logging.getLogger("tfdnc.x").warning("übrig")
"""


def test_letters_that_the_output_cannot_hold_are_replaced():
    """A rich table of titles ended a finished run with a UnicodeEncodeError."""
    done = started(SHOW, env=ASCII_ONLY)
    assert done.returncode == 0, done.stderr
    assert b"Users of ?????" in done.stdout
    assert b"??? ? 3" in done.stdout
    assert done.stderr == b"WARNING ?brig\n"


def test_a_path_that_is_not_utf_8_is_shown_as_its_bytes():
    done = started('print(os.fsdecode(b"runs/\\xff"))', env={"LC_ALL": "C.UTF-8"})
    assert (done.returncode, done.stdout) == (0, b"runs/\xff\n")


def test_a_terminal_that_cannot_encode_shows_bars_in_ascii():
    """The bar of a training needs U+2501, the spinner of a data job braille."""
    work = """
from rich.progress import Progress
from beam_jobs.progress import progress, steps
with Progress() as shown:
    shown.add_task("training", total=3, completed=2)
with last_log_line("prepare"):
    logging.getLogger("beam_jobs").info("files", extra=steps(reading=3))
    logging.getLogger("beam_jobs").info("a block", extra=progress("reading"))
    time.sleep(0.3)
print("done")
"""
    ours, theirs = pty.openpty()
    environment = {**os.environ, **ASCII_ONLY, "TERM": "xterm"}
    process = subprocess.Popen(script(work), stdout=theirs, stderr=subprocess.PIPE, env=environment)
    os.close(theirs)
    said = b""
    while b"done" not in said:
        said += os.read(ours, 4096)
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    os.close(ours)
    assert b"reading 1 of 3" in said
    assert b"?" not in said.replace(b"\x1b[?25", b"")  # sequences that hide and show the cursor


def test_work_goes_on_when_the_reader_is_gone(tmp_path):
    """As in `tfdnc run CONFIG | head`."""
    work = f"""
screen.console.print(0)
for _ in range(9):
    screen.console.print("a line longer than a pipe is wide " * 10_000, soft_wrap=True)
print("the end")
open({str(tmp_path / "done")!r}, "w").close()
"""
    command = script(work)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    assert (tmp_path / "done").exists()


def test_output_that_is_lost_to_a_full_disk_is_said():
    with open("/dev/full", "wb") as full:
        done = started('print("a table")', stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 1
    assert done.stderr == b"tfdnc: not all output could be written (No space left on device)\n"


def test_closed_descriptors_are_no_reason_to_stop():
    done = subprocess.run(["bash", "-c", '"$@" >&- 2>&-', "-", *script('print("x")')], check=False, timeout=60)
    assert done.returncode == 0
