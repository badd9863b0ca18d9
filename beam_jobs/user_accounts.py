"""Accounts of a file of users: its rows, the users of the log that it describes, warnings and refusals."""

import logging
from typing import Any

from beam_jobs.row_accounts import refuse_too_many_malformed
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError

_log = logging.getLogger(__name__)

MALFORMED = "malformed user rows: "
VALUES = "sequences with the user's "
ROWS, USERS, DESCRIBED, REPEATED = "user rows", "users of the log", "users of the log described", "user rows repeated"
"""Names, and prefixes of names, of the counts of a file of users."""

DEAD_LETTERS = "user file"
"""Name, without the suffix, of the file of dead letters."""


def user_figures(result: dict[str, Any], file: str) -> dict[str, Any]:
    """Returns the figures of a file of users from the counts of a job.

    Returns:
        - `file`: name of the file.
        - `rows`: rows of the file; `malformed`: those that cannot be read, by reason.
        - `repeated`: rows of a user that an earlier row describes.
        - `users`: users of the log; `described`: those that the file describes.
        - `with`: by feature, the sequences whose user has a value of it.
    """

    def by_name(prefix: str) -> dict[str, int]:
        return {name.removeprefix(prefix): n for name, n in result.items() if name.startswith(prefix)}

    names = {"rows": ROWS, "repeated": REPEATED, "users": USERS, "described": DESCRIBED}
    counts = {key: result.get(name, 0) for key, name in names.items()}
    return {"file": file, **counts, "malformed": by_name(MALFORMED), "with": by_name(VALUES)}


def refuse_bad_users(figures: dict[str, Any], config: DataConfig, dead_letters: list[str]) -> None:
    """Raises a `UserError` if too many rows are malformed, or the file describes no user of the log.

    Args:
        figures: result of `user_figures`.
        config: holds the allowed share.
        dead_letters: the first malformed rows, as JSON lines.
    """
    counted = figures["file"], figures["malformed"], figures["rows"]
    advice = "Mend the file of users, check data.users"
    refuse_too_many_malformed(*counted, config, advice, "data.users.quotes", dead_letters)
    if figures["users"] and not figures["described"]:
        raise UserError(
            f"Expected users of the log in {figures['file']}, found none of {figures['users']}; set data.users.user to "
            "the column of their ids, or data.users.path to the file of this log."
        )


def warn_of_unknown_users(figures: dict[str, Any]) -> None:
    """Logs a warning for every kind of gap in the file: users, values or rows that do not count."""
    file, users, described = figures["file"], figures["users"], figures["described"]
    if described < users:
        _log.warning("Only %d of the %d users of the log are described in %s.", described, users, file)
    if figures["repeated"]:
        _log.warning("%d rows of %s repeat a user: the first row counts.", figures["repeated"], file)
    if blank := [name for name, count in figures["with"].items() if not count]:
        _log.warning("No user of the log has a value in %s of %s.", ", ".join(blank), file)
    if malformed := sum(figures["malformed"].values()):
        _log.warning("%d rows of %s are malformed; they stand among the dead letters.", malformed, file)
