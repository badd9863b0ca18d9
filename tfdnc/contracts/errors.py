"""Exception whose message is written for the user."""


class UserError(Exception):
    """Bad input: the message says what was expected, what came, and what to do.

    The command line prints the message alone, without a traceback, and exits with status 2.
    """
