"""Questions from a log: for each user, the events before a time as the history, and the next events as targets."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from serving.bundles.questions import Questions
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import TIME, Feature, request_features
from tfdnc.contracts.times import Instant, first_time_from

_log = logging.getLogger(__name__)


class LogUsers(NamedTuple):
    """All users of a log, from which questions about any of its days are made.

    Attributes:
        data: Format, columns, unit and `seen` of the log.
        ids: Item ids, by index - 1.
        sequences: Items and inputs of the events of each user.
        features: Inputs of events, requests and users.
    """

    data: DataConfig
    ids: list[str]
    sequences: pa.Table
    features: tuple[Feature, ...]

    def questions(self, since: int | None, until: int | None, most_users: int) -> Questions | None:
        """Returns histories with the next events, None if no user has both.

        Items that a user has seen before count as history only, unless `data.seen` allows them in lists. Users without
        a history, or without next events, are left out. With `data.targets` only events of these kinds are next events,
        and the request is made at the first of them, as for held-out targets.

        Args:
            since: Time of the first next event; None for the last event of each user.
            until: Time after the last next event; None for the end of the log.
            most_users: Most users; from more of them a sample is drawn, the same in every call.
        """
        rows = np.flatnonzero(pc.list_value_length(self.sequences["items"]).to_numpy() > 1)
        order = np.random.default_rng(0).permutation(rows)
        found: list[tuple[list[int], list[int], dict[str, Any]]] = []
        id_of = ["", *self.ids]
        for row in order[self._have_events(since, until)[order]]:
            [event] = self.sequences.slice(int(row), 1).to_pylist()
            edge, targets = _cut(
                event["items"], event["times"], self._may_be_targets(event), since, until, self.data.allows_seen
            )
            if targets:
                known: dict[str, Any] = {}
                for feature in self.features:
                    known |= feature.asked_at(feature.with_ids(event[feature.column], id_of), edge)
                found.append((event["items"][:edge], targets, known))
            if len(found) == most_users:
                break
        if not found:
            return None
        _log.info("%d users, %d next events", len(found), sum(len(targets) for _, targets, _ in found))
        return Questions(
            histories=[[self.ids[item - 1] for item in history] for history, _, _ in found],
            targets=[[self.ids[item - 1] for item in targets] for _, targets, _ in found],
            known=[known for _, _, known in found],
            features=self.features,
        )

    def items_before(self, until: int) -> frozenset[str]:
        """Returns the ids of the items with an event before a time."""
        times, items = (self.sequences[name].combine_chunks().values.to_numpy() for name in ("times", "items"))
        return frozenset(self.ids[item - 1] for item in np.unique(items[times < until]))

    def _may_be_targets(self, user: Mapping[str, Any]) -> list[bool]:
        """Returns for each event of a user whether `data.targets` allows it as a target."""
        for name, weights in self.data.targets.items():
            [column] = {feature.column for feature in self.features if feature.name == name}
            return [value in weights for value in user[column]]
        return [True] * len(user["items"])

    def _have_events(self, since: int | None, until: int | None) -> np.ndarray:
        """Returns the mask `[S]` of sequences with events before `since` and from then on until `until`."""
        if since is None:
            return np.ones(len(self.sequences), bool)
        column = self.sequences["times"].combine_chunks()
        times, edges = column.values.to_numpy(), column.offsets.to_numpy()
        ends = np.inf if until is None else until
        before, after = (np.diff(np.append(0, np.cumsum(mask))[edges]) for mask in (times < since, times >= since))
        late = np.diff(np.append(0, np.cumsum(times >= ends))[edges])
        return (before > 0) & (after > late)


def read_questions(data: DataConfig, log: Sequence[str], since: Instant | None, most_users: int) -> Questions:
    """Reads a log by the rules of a config, and returns the questions of `LogUsers.questions`.

    Args:
        data: Format, columns, unit, row filters and `seen` of the log; limits of rare items and users are not applied.
        log: Paths, globs or URLs of its files.
        since: Time of the first next event; None for the last event of each user.
        most_users: Most users.

    Raises:
        UserError: The log cannot be read, has no times but `since` is given, or no user is left.
    """
    if since is not None and not data.has_times:
        raise UserError(f"Expected a log with times, to take the events from {since} on; data.columns.time is null.")
    start = None if since is None else first_time_from(since, data.ticks_per_second)
    questions = read_users(data, log).questions(start, None, most_users)
    if questions is None:
        wanted = "items" if data.allows_seen else "new items"
        raise UserError(
            f"Expected users in {', '.join(log)} with a history and with {wanted} "
            f"{'at the end' if since is None else f'from {since} on'}, found none."
        )
    return questions


def read_users(data: DataConfig, log: Sequence[str]) -> LogUsers:
    """Reads every event of a log; arguments and errors are those of `read_questions`."""
    from beam_jobs.sequences import prepare

    features = tuple(feature for feature in request_features(data) if feature != TIME or data.has_times)
    with tempfile.TemporaryDirectory(prefix="tfdnc-") as folder:
        prepare(_whole_log(data, log), folder)
        ids = pq.read_table(f"{folder}/{schema.VOCABULARY}", columns=["item_id"])["item_id"].to_pylist()
        files = sorted((Path(folder) / schema.SEQUENCES).glob("*.parquet"))
        columns = dict.fromkeys(["items", "times", *(feature.column for feature in features)])
        sequences = pa.concat_tables([pq.read_table(file, columns=list(columns)) for file in files])
    return LogUsers(data, ids, sequences.combine_chunks(), features)


def _whole_log(data: DataConfig, log: Sequence[str]) -> DataConfig:
    """Returns the config that keeps every event of the log."""
    everything = {
        "path": tuple(log),
        "items": None,
        "catalogue": "log",
        "min_item_events": 1,
        "min_user_events": 1,
        "max_events_per_user": None,
        "split": "none",
        "validation_from": None,
        "test_from": None,
        "train_from": None,
        "until": None,
        "num_shards": 1,
    }
    return DataConfig.model_validate(data.model_dump() | everything)


def _cut(
    items: list[int],
    times: list[int],
    may_be_targets: list[bool],
    start: int | None,
    stop: int | None,
    allows_seen: bool,
) -> tuple[int, list[int]]:
    """Returns the length of the history, and the targets: none without a history or without next items."""
    places = np.flatnonzero(may_be_targets)
    begin = places[-1:] if start is None else np.searchsorted(times, start)
    end = len(items) if stop is None else np.searchsorted(times, stop)
    found = places[(places >= begin) & (places < end)].tolist()
    edge = found[0] if found else 0
    seen = set() if allows_seen else set(items[:edge])
    return edge, [items[place] for place in found if items[place] not in seen] if edge else []
