"""Events that a version has learned already, among those that two versions are compared on."""

from collections.abc import Mapping
from typing import Any

from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.times import Instant, first_time_from, shown_time
from tfdnc.pipeline.learned import LAST_LEARNED

_COUNTS = "its recall here counts only on later events"


def learned_note(manifest: Mapping[str, Any], data: DataConfig, since: Instant | None) -> str | None:
    """Returns the end of a sentence about a version that has learned some of the next events, None if it has not.

    Args:
        manifest: of the version.
        data: of the version's config.
        since: time of the first next event; None for the last event of each user, which a split by
            `leave_last_two` holds out.
    """
    last = manifest.get(LAST_LEARNED)  # earlier exports, and logs without times, do not have it
    trained_on_all = data.split == "none" or bool(manifest.get("epochs_from"))
    if since is None or last is None:
        if trained_on_all:
            until = "" if last is None else f", up to {shown_time(last, data.ticks_per_second)}"
            return f"was trained on every event of its own log{until}: {_COUNTS}"
        if data.split == "time" and since is None:
            return f"has learned every event before data.validation_from, {data.validation_from}: {_COUNTS}"
        return None
    if last < first_time_from(since, data.ticks_per_second):
        return None
    but = ", all but the last two of a user" if data.split == "leave_last_two" else ""
    return (
        f"has learned events up to {shown_time(last, data.ticks_per_second)}{but}: {_COUNTS}, and --since {since} is "
        "not after them"
    )
