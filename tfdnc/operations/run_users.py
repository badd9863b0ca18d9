"""Users of a run's log as questions to its bundle: the history before the held-out item, and that item."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.dataset as ds

from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import Feature
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.station_names import StationName


class User(NamedTuple):
    """The user's history to send, and the test target."""

    name: str | None  # id in the log; None for a history on the command line
    history: list[str]  # item ids, oldest first; those on the command line may be unknown
    # Inputs of the model beside the history, by names of tensors. The request is made at the time of the held-out item,
    # else of the last item.
    known: dict[str, Any]
    held_out: str | None  # item id of the test target, which no model has seen; None if the user has none


def user_of_log(run: Path, items: ItemTable, features: Sequence[Feature], user_id: str) -> User:
    """Returns a user of the run.

    Raises:
        UserError: no such user.
    """
    folder = _sequences(run)
    is_user = ds.field("user_id") == user_id
    for shard in ds.dataset(folder).get_fragments():
        if shard.count_rows(filter=is_user):  # reads the ids alone; the lists of all users would take far longer
            [row] = shard.to_table(columns=_columns(features), filter=is_user).to_pylist()
            return _read(row, items, features)
    raise UserError(f"Expected a user of the log, but {folder} has no user {user_id!r} (filtered out, or unknown).")


def first_user(run: Path, items: ItemTable, features: Sequence[Feature]) -> User:
    """Returns the first user of the run with a history and a test target, or else any user."""
    found = tested_users(run, items, features, 1) or _first_users(run, items, features, 1, None)
    if not found:
        raise UserError(f"Expected users in {_sequences(run)}, found none: run `tfdnc prepare` again.")
    return found[0]


def tested_users(run: Path, items: ItemTable, features: Sequence[Feature], count: int) -> list[User]:
    """Returns the first users of the run with a history and a test target, `count` or as many as there are.

    Users are in order of a hash of their ids, so the first ones are a sample of all.
    """
    return _first_users(run, items, features, count, ds.field("test") > 0)


def user_ids(run: Path) -> list[str]:
    """Returns the ids of all users of the run; those with a test target and a history come first."""
    table = ds.dataset(_sequences(run)).to_table(columns=["user_id", "test"])
    tested = table["test"].to_numpy() > 0
    order = np.argsort(~tested, kind="stable")
    return table["user_id"].take(order).to_pylist()


def _first_users(
    run: Path, items: ItemTable, features: Sequence[Feature], count: int, rows: ds.Expression | None
) -> list[User]:
    found = ds.dataset(_sequences(run)).head(count, columns=_columns(features), filter=rows)
    return [_read(row, items, features) for row in found.to_pylist()]


def _sequences(run: Path) -> Path:
    return run / StationName.PREPARE.folder / schema.SEQUENCES


def _columns(features: Sequence[Feature]) -> list[str]:
    # The two inputs of a context have one column.
    return ["user_id", "items", "test", *dict.fromkeys(feature.column for feature in features)]


def _read(row: dict[str, Any], items: ItemTable, features: Sequence[Feature]) -> User:
    id_of = np.empty(len(items.item_ids) + 1, object)
    id_of[items.sequence_indices] = items.item_ids
    ids, test = id_of[np.array(row["items"])].tolist(), row["test"]
    length, held_out = (len(ids), None) if test < 0 else (test, ids[test])
    known: dict[str, Any] = {}
    for feature in features:
        known |= feature.asked_at(feature.with_ids(row[feature.column], id_of), length)
    return User(row["user_id"], ids[:length], known, held_out)
