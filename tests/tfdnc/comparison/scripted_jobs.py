"""Jobs that write down when they start and end, and an observer that shows nothing."""

import sys
from pathlib import Path

from tfdnc.comparison.jobs import Job

WORKER = """
import os, sys, time
folder, name, seconds, status = sys.argv[1:]
open(f"{folder}/{name}.pid", "w").write(str(os.getpid()))
open(f"{folder}/order", "a").write(f"+{name}")
print(f"{name} at work", flush=True)
time.sleep(float(seconds))
open(f"{folder}/order", "a").write(f"-{name}")
sys.exit(int(status))
"""


class Silent:
    """An observer that notes how many jobs ran side by side."""

    def __init__(self):
        self.most = 0

    def started(self, job):
        pass

    def ended(self, ending):
        pass

    def tick(self, running):
        self.most = max(self.most, len(running))


def job(folder, name, seconds=0.0, status=0, **options):
    command = (sys.executable, "-c", WORKER, str(folder), name, str(seconds), str(status))
    return Job(name, "work", command, Path(folder) / name / "compare.log", **options)
