"""Ids that a log writes in two ways, `7` and `7.0`: counted, warned of, and refused where most events are of such ids.

A table tool makes `7.0` of an integer in a column in which some values are missing, and does so file by file. The two
spellings stay two ids: a log says nothing else about what is the same.
"""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.logs.log_files import Log
from beam_jobs.packing import unpack
from tfdnc.contracts.errors import UserError

_log = logging.getLogger(__name__)

_WITH_POINT, _POINT = r"^-?[0-9]+\.0+$", r"\.0+$"
_TWINS, _EVENTS = "twin ids: ", "events of twin ids: "  # prefixes of counts
_MOST = 0.5  # of the events: with more of them the log has two ids for what it is about


def without_point(ids: pa.Array) -> pa.Array:
    """Returns `7` for `7.0`, and every other id as it is: `[U]`."""
    pointed = pc.match_substring_regex(ids, _WITH_POINT)
    if not pc.any(pointed, min_count=0).as_py():
        return ids
    return pc.if_else(pointed, pc.replace_substring_regex(ids, _POINT, ""), ids)


def count_twins(kind: str, ids: pa.Array, events: np.ndarray) -> dict[str, int]:
    """Returns how many ids are written in two ways, and the events of both; nothing where there are none.

    Args:
        kind: of the ids, "users" or "items".
        ids: `[U]` distinct ones.
        events: `[U]` their events.
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


def twins_of(result: dict) -> dict:
    """Returns the figures from the sum of all counts: ids that are written in two ways, of items and of users."""
    return {kind: result.get(_TWINS + kind, 0) for kind in ("items", "users")}


def refuse_twins(result: dict, figures: dict, log: Log) -> None:
    """Logs a warning of ids that are written in two ways; raises a `UserError` if most events are of such ids."""
    rows = figures["rows_read"] - sum(figures["rows_malformed"].values())
    rows -= sum(figures["rows_filtered"][rule] for rule in log.rules)
    for kind, twins in twins_of(result).items():
        if not twins:
            continue
        events = result[_EVENTS + kind]
        what = f"{twins} {kind} are written in two ways, as 7 and 7.0, and count as two each"
        what += f"; {events} of {rows} events of the log are of them"
        advice = (
            "Write the ids as integers: a table tool has made numbers with a point of them, as pandas does in a column "
            "with missing values (there: astype('Int64'))."
        )
        if events > _MOST * rows:
            raise UserError(f"Expected one way to write an id, found that {what}. {advice}")
        _log.warning("%s. %s", what[0].upper() + what[1:], advice)
