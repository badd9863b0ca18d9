"""Ids that a log writes in two ways, `7` and `7.0`: counted, with a warning, or an error if most events have such ids.

Some table tools write `7.0` for an integer in a column with missing values, perhaps in some files of a log only. The
two spellings stay two ids, because nothing in the log shows that they mean the same.
"""

import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.logs.log_files import Log
from beam_jobs.packing import unpack
from tfdnc.contracts.errors import UserError

_log = logging.getLogger(__name__)

_WITH_POINT, _POINT = r"^-?[0-9]+\.0+$", r"\.0+$"
_TWINS, _EVENTS = "twin ids: ", "events of twin ids: "  # prefixes of counts
_MOST = 0.5  # largest allowed share of events with such ids


def without_point(ids: pa.Array) -> pa.Array:
    """Returns the ids `[U]` with `7` for `7.0`, and every other id unchanged."""
    pointed = pc.match_substring_regex(ids, _WITH_POINT)
    if not pc.any(pointed, min_count=0).as_py():
        return ids
    return pc.if_else(pointed, pc.replace_substring_regex(ids, _POINT, ""), ids)


def count_twins(kind: str, ids: pa.Array, events: np.ndarray) -> dict[str, int]:
    """Returns the number of ids that are written in two ways, and of their events; empty if there are none.

    Args:
        kind: "users" or "items".
        ids: `[U]`, distinct.
        events: `[U]` number of events of each id.
    """
    plain = without_point(ids)
    written_twice = pc.and_(pc.not_equal(plain, ids), pc.is_in(plain, value_set=ids))
    twins = pc.unique(plain.filter(written_twice))
    if not len(twins):
        return {}
    concerned = pc.is_in(plain, value_set=twins).to_numpy(zero_copy_only=False)
    return {_TWINS + kind: len(twins), _EVENTS + kind: int(events[concerned].sum())}


def count_twin_items(packed_counts: bytes) -> dict[str, int]:
    """Returns `count_twins` of the packed (item id, events) of a log."""
    counts = unpack(packed_counts)
    return count_twins("items", counts["item_id"], counts["events"].to_numpy())


def twins_of(result: dict[str, Any]) -> dict[str, int]:
    """Returns the number of items and of users whose ids are written in two ways, from the sum of all counts."""
    return {kind: result.get(_TWINS + kind, 0) for kind in ("items", "users")}


def refuse_twins(result: dict[str, Any], figures: dict[str, Any], log: Log) -> None:
    """Logs a warning if ids are written in two ways; raises a `UserError` if most events have such ids."""
    rows = figures["rows_read"] - sum(figures["rows_malformed"].values())
    rows -= sum(figures["rows_filtered"][rule] for rule in log.rules)
    for kind, twins in twins_of(result).items():
        if not twins:
            continue
        events = result[_EVENTS + kind]
        finding = f"{twins} {kind} are written in two ways, as 7 and 7.0, and count as two each"
        finding += f"; {events} of {rows} events of the log are of them"
        advice = (
            "Write the ids as integers: a table tool has made numbers with a point of them, as pandas does in a column "
            "with missing values (there: astype('Int64'))."
        )
        if events > _MOST * rows:
            raise UserError(f"Expected one way to write an id, found that {finding}. {advice}")
        _log.warning("%s. %s", finding[0].upper() + finding[1:], advice)
