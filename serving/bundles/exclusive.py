"""Locks on files, by which one command at a time changes versions or labels."""

import fcntl
from typing import TextIO

from tfdnc.contracts.errors import UserError


def hold(stream: TextIO, busy: str) -> None:
    """Locks an open file for this process; the operating system releases the lock when the file is closed.

    Raises:
        UserError: Another process holds the lock; `busy` is the message.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(busy) from error
