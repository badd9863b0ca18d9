"""Waits for what a server does in the background."""

import time

SECONDS = 60


def until_available(server, name, version):
    """Returns once a version answers; fails after `SECONDS`."""
    deadline = time.monotonic() + SECONDS
    while version not in server.manager.available().get(name, []):
        assert time.monotonic() < deadline, server.manager.available()
        time.sleep(0.02)
