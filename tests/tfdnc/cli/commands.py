"""Starts the command line in a process of its own with a stand-in for the work of one command."""

import os
import subprocess
import sys

ASCII_ONLY = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
"""A terminal, or a cron job, that knows no letter but those of ASCII."""


def script(work, *flags):
    """Returns the words that run `tfdnc fetch`, with `work`, lines of Python, in the place of the download."""
    lines = "\n".join(f"    {line}" for line in work.strip().splitlines())
    code = f"""
import logging, os, sys, time, warnings
from tfdnc.cli import fetch, main, screen
from tfdnc.pipeline.working import last_log_line
def work(arguments):
{lines}
fetch.run = work
sys.argv = ["tfdnc", *{flags!r}, "fetch", "x"]
sys.exit(main.main())
"""
    return [sys.executable, "-c", code.encode("ascii", "backslashreplace").decode()]


def started(work, *flags, env=None, **options):
    """Runs it to its end; `stdout` and `stderr` are bytes."""
    options = {"capture_output": True} | options
    return subprocess.run(script(work, *flags), env={**os.environ, **(env or {})}, timeout=120, check=False, **options)
