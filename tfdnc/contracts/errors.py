"""The one exception whose message is meant for the person at the keyboard."""


class UserError(Exception):
    """Bad input: the message says what was expected, what came, and what to do.

    The command line prints the message alone, without a traceback, and exits with status 2.
    """
