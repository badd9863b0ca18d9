"""The user of a query: a user of the log, or a history on the command line."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tfdnc.cli import screen
from tfdnc.cli.query_features import read_features, unknown_features
from tfdnc.contracts import bundle
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import TIME, Feature
from tfdnc.contracts.items import ItemTable
from tfdnc.operations.run_users import User, first_user, user_of_log

_SHOWN_UNKNOWN = 8


def find_user(arguments: argparse.Namespace, run: Path, items: ItemTable, features: Sequence[Feature]) -> User:
    """Returns the user that the flags of `tfdnc query` name, or the first one of the run with a test target.

    Inputs of `--features` replace those of the log.

    Raises:
        UserError: flags that contradict each other or the bundle, or no such user.
    """
    user = _find_user(arguments, run, items, features)
    given = read_features(arguments.features or (), features, len(user.history))
    user = user._replace(known=user.known | given)
    if unknown := ", ".join(unknown_features(user.known, features)):
        screen.console.print(
            f"The model of this bundle reads {unknown} too, unknown here: give --features.", soft_wrap=True
        )
    return user


def _find_user(arguments: argparse.Namespace, run: Path, items: ItemTable, features: Sequence[Feature]) -> User:
    if arguments.history is not None:
        return _typed(arguments, items, features)
    if arguments.history_times is not None or arguments.request_time is not None:
        raise UserError("Expected --history together with --history-times and --request-time, got these alone.")
    if arguments.user is not None:
        return user_of_log(run, items, features, arguments.user)
    user = first_user(run, items, features)
    screen.console.print(f"No --user and no --history: asking for user {user.name} of {run}.", soft_wrap=True)
    return user


def _typed(arguments: argparse.Namespace, items: ItemTable, features: Sequence[Feature]) -> User:
    history, times, reads_times = arguments.history, arguments.history_times, TIME in features
    if (times is None) != (arguments.request_time is None):
        raise UserError("Expected --history-times and --request-time, or neither, got one of them.")
    if times is not None and not reads_times:
        raise UserError("Expected no --history-times and --request-time: the model of this bundle reads no times.")
    if times is not None and len(times) != len(history):
        raise UserError(f"Expected a time for each of {len(history)} items in --history-times, got {len(times)}.")
    if times is None and reads_times and history:
        screen.console.print(
            "The model of this bundle reads times, and answers better with --history-times and --request-time.",
            soft_wrap=True,
        )
    unknown = sorted(set(history) - set(items.item_ids))
    if unknown:
        more = ", ..." if len(unknown) > _SHOWN_UNKNOWN else ""
        screen.console.print(
            f"{len(unknown)} of {len(set(history))} items are not among those of the run and say nothing about the "
            f"user: {', '.join(unknown[:_SHOWN_UNKNOWN])}{more}",
            soft_wrap=True,
        )
    known = {} if times is None else {bundle.HISTORY_TIMES: times, bundle.REQUEST_TIME: arguments.request_time}
    return User(None, history, known, held_out=None)
