"""The user of a query: a user of the log, or a history on the command line."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.dataset as ds

from tfdnc.cli import screen
from tfdnc.contracts import bundle, schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import TIME, Feature
from tfdnc.contracts.items import ItemTable
from tfdnc.pipeline import stations

_SHOWN_UNKNOWN = 8


class User(NamedTuple):
    """The user's history to send, and the test target."""

    name: str | None  # id in the log; None for a history on the command line
    history: list[str]  # item ids, oldest first; those on the command line may be unknown
    # Inputs of the model beside the history, by names of tensors. The request is made at the time of the held-out item,
    # else of the last item.
    known: dict[str, Any]
    held_out: str | None  # item id of the test target, which no model has seen; None if the user has none


def find_user(arguments: argparse.Namespace, run: Path, items: ItemTable, features: Sequence[Feature]) -> User:
    """Returns the user that the flags of `tfdnc query` name, or the first one of the run with a test target.

    Raises:
        UserError: flags that contradict each other or the bundle, or no such user.
    """
    if arguments.history is not None:
        return _typed(arguments, items, features)
    if arguments.history_times is not None or arguments.request_time is not None:
        raise UserError("Expected --history together with --history-times and --request-time, got these alone.")
    if arguments.user is not None:
        return _of_log(run, items, features, arguments.user)
    user = _first(run, items, features)
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
    if others := ", ".join(dict.fromkeys(feature.name for feature in features if feature != TIME)):
        screen.console.print(f"The model of this bundle reads {others} too, unknown of a --history.", soft_wrap=True)
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


def _of_log(run: Path, items: ItemTable, features: Sequence[Feature], user_id: str) -> User:
    folder = _sequences(run)
    found = ds.dataset(folder).to_table(columns=_columns(features), filter=ds.field("user_id") == user_id)
    if not len(found):
        raise UserError(f"Expected a user of the log, but {folder} has no user {user_id!r} (filtered out, or unknown).")
    [row] = found.to_pylist()
    return _read(row, items, features)


def _first(run: Path, items: ItemTable, features: Sequence[Feature]) -> User:
    sequences = ds.dataset(_sequences(run))
    for rows in (ds.field("test") > 0, None):  # a user with a history and a test target, else any user
        found = sequences.head(1, columns=_columns(features), filter=rows).to_pylist()
        if found:
            return _read(found[0], items, features)
    raise UserError(f"Expected users in {_sequences(run)}, found none: run `tfdnc prepare` again.")


def _sequences(run: Path) -> Path:
    return run / stations.PREPARE.folder / schema.SEQUENCES


def _columns(features: Sequence[Feature]) -> list[str]:
    return ["user_id", "items", "test", *(feature.column for feature in features)]


def _read(row: dict[str, Any], items: ItemTable, features: Sequence[Feature]) -> User:
    id_of = np.empty(len(items.item_ids) + 1, object)
    id_of[items.sequence_indices] = items.item_ids
    ids, test = id_of[np.array(row["items"])].tolist(), row["test"]
    length, held_out = (len(ids), None) if test < 0 else (test, ids[test])
    known: dict[str, Any] = {}
    for feature in features:
        known |= feature.asked_at(row[feature.column], length)
    return User(row["user_id"], ids[:length], known, held_out)
