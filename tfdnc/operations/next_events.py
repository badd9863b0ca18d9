"""Questions from a log: for each user, the events before a time as the history, and the next events as targets."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from serving.bundles.questions import Questions
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
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
    with tempfile.TemporaryDirectory(prefix="tfdnc-") as folder:
        prepare(_whole_log(data, log), folder)
        ids = pq.read_table(f"{folder}/{schema.VOCABULARY}", columns=["item_id"])["item_id"].to_pylist()
        files = sorted((Path(folder) / schema.SEQUENCES).glob("*.parquet"))
        sequences = pa.concat_tables([pq.read_table(file, columns=["items", "times"]) for file in files])
    start = None if since is None else first_time_from(since, data.ticks_per_second)
    rows = [row for row in range(sequences.num_rows) if len(sequences["items"][row]) > 1]
    rng = np.random.default_rng(0)
    found = []
    for row in rng.permutation(rows):
        items, times = (sequences[name][int(row)].as_py() for name in ("items", "times"))
        asked = _cut(items, times, start)
        if asked:
            found.append(asked)
        if len(found) == most_users:
            break
    if not found:
        raise UserError(
            f"Expected users in {', '.join(log)} with a history and with new items "
            f"{'at the end' if since is None else f'from {since} on'}, found none."
        )
    _log.info("%d users, %d next events", len(found), sum(len(targets) for _, targets, _, _ in found))
    histories, targets, history_times, request_times = zip(*found, strict=True)
    return Questions(
        histories=[[ids[item - 1] for item in items] for items in histories],
        targets=[[ids[item - 1] for item in items] for items in targets],
        times=list(history_times) if data.has_times else None,
        request_times=list(request_times) if data.has_times else None,
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


def _cut(items: list[int], times: list[int], start: int | None) -> tuple[list[int], list[int], list[int], int] | None:
    """Returns history, targets, times of the history and time of the request; None without a history or targets."""
    edge = len(items) - 1 if start is None else int(np.searchsorted(times, start))
    seen = set(items[:edge])
    targets = [item for item in items[edge:] if item not in seen]
    if not edge or not targets:
        return None
    return items[:edge], targets, times[:edge], times[edge]
