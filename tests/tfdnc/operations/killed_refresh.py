"""Run as a script: kills refreshes of a copy of a run, each at a later change of the disk, and prints what is left."""

import shutil
import sys
from pathlib import Path

from tests.beam_jobs.dying import fork
from tests.tfdnc.operations.plain_run import plain_refresh


def main(run: Path, newer: str) -> None:
    """Prints the exit code and the folder of each copy; the last one was not killed."""
    for die_at in range(1, 200):
        copy = run.with_name(f"killed-{die_at}")
        shutil.copytree(run, copy)
        status = fork(lambda folder: plain_refresh(folder, newer, keep=1), copy, die_at)
        print(status, copy, flush=True)
        if status == 0:
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
