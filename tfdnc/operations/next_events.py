"""Questions from a log: for each user, the events before a time as the history, and the next events as targets."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from serving.bundles.questions import Questions
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import TIME, request_features
from tfdnc.contracts.times import Instant, first_time_from

_log = logging.getLogger(__name__)


def read_questions(data: DataConfig, log: Sequence[str], since: Instant | None, most_users: int) -> Questions:
    """Reads a log by the rules of a config, and returns histories with the next events.

    Items that a user has seen before count as history only, because no list holds them. Users without a history, or
    without new items afterwards, are left out.

    Args:
        data: Format, columns, unit and row filters of the log; limits of rare items and users are not applied.
        log: Paths, globs or URLs of its files.
        since: Time of the first next event; None for the last event of each user.
        most_users: Most users; from more of them a sample is drawn, the same in every call.

    Raises:
        UserError: The log cannot be read, has no times but `since` is given, or no user is left.
    """
    from beam_jobs.sequences import prepare

    if since is not None and not data.has_times:
        raise UserError(f"Expected a log with times, to take the events from {since} on; data.columns.time is null.")
    features = tuple(feature for feature in request_features(data) if feature != TIME or data.has_times)
    with tempfile.TemporaryDirectory(prefix="tfdnc-") as folder:
        prepare(_whole_log(data, log), folder)
        ids = pq.read_table(f"{folder}/{schema.VOCABULARY}", columns=["item_id"])["item_id"].to_pylist()
        files = sorted((Path(folder) / schema.SEQUENCES).glob("*.parquet"))
        columns = dict.fromkeys(["items", "times", *(feature.column for feature in features)])
        sequences = pa.concat_tables([pq.read_table(file, columns=list(columns)) for file in files])
    start = None if since is None else first_time_from(since, data.ticks_per_second)
    rows = np.flatnonzero(pc.list_value_length(sequences["items"]).to_numpy() > 1)
    rng = np.random.default_rng(0)
    found: list[tuple[list[int], list[int], dict[str, Any]]] = []
    for row in rng.permutation(rows):
        [event] = sequences.slice(int(row), 1).to_pylist()
        edge, targets = _cut(event["items"], event["times"], start)
        if targets:
            known: dict[str, Any] = {}
            for feature in features:
                known |= feature.asked_at(event[feature.column], edge)
            found.append((event["items"][:edge], targets, known))
        if len(found) == most_users:
            break
    if not found:
        raise UserError(
            f"Expected users in {', '.join(log)} with a history and with new items "
            f"{'at the end' if since is None else f'from {since} on'}, found none."
        )
    _log.info("%d users, %d next events", len(found), sum(len(targets) for _, targets, _ in found))
    return Questions(
        histories=[[ids[item - 1] for item in history] for history, _, _ in found],
        targets=[[ids[item - 1] for item in targets] for _, targets, _ in found],
        known=[known for _, _, known in found],
        features=features,
    )


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
        "num_shards": 1,
    }
    return DataConfig.model_validate(data.model_dump() | everything)


def _cut(items: list[int], times: list[int], start: int | None) -> tuple[int, list[int]]:
    """Returns the length of the history, and the targets: none without a history or without new items."""
    edge = len(items) - 1 if start is None else int(np.searchsorted(times, start))
    seen = set(items[:edge])
    return edge, [item for item in items[edge:] if item not in seen] if edge else []
