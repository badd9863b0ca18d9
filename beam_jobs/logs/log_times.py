"""Times of a log -> int64 in one unit per log: integers unchanged, ISO 8601 text and timestamps as microseconds."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ISO = "iso"
NO_TIMES = ", or to null if the log has no times and its rows are in order"
"""Advice for a log without the column of `data.columns.time`."""
BAD_TIME, BAD_ISO_TIME = "time is not an integer", "time is not a date and time of ISO 8601"

_SHORT_INTEGER = r"^-?[0-9]{1,18}$"  # always fits an int64
_LONG_INTEGERS = ((r"^[0-9]{19}$", "9223372036854775807"), (r"^-[0-9]{19}$", "-9223372036854775808"))  # and the limits

# Only existing days match, because one other day would fail the cast of a whole block.
_LEAP_YEAR = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DATE = (
    r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    rf"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_OFFSET = r" ?(?:Z|UTC|GMT|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"  # " UTC": BigQuery; " +0000": Snowflake
_ISO = rf"^{_DATE}(?:[T ]{_CLOCK}(?::[0-5][0-9](?:\.[0-9]+)?)?{_OFFSET}?)?$"
_NAMED, _BLANK = r" ?(?:UTC|GMT)$", r"^(.{16}.*) "  # Arrow parses neither such a zone nor a blank before an offset
_WITH_OFFSET = r"^.{16}.*[Z+-]"  # after the minutes, because a date has hyphens too
_FINER, _MICROSECONDS = r"(\.[0-9]{6})[0-9]+", r"\1"


def complaint(unit: str) -> str:
    """Returns the reason reported for a row whose time cannot be read in this `data.time_unit`."""
    return BAD_ISO_TIME if unit == ISO else BAD_TIME


def no_times(num_rows: int) -> pa.Array:
    """Returns the times `[R]` of a log without times: all 0, because equal times keep the order of the log."""
    return pa.array(np.zeros(num_rows, np.int64))


def times_of_text(texts: pa.Array, unit: str) -> pa.Array:
    """Returns times that are written as text.

    An integer has digits only: "1600000000.5" is none. ISO text is a date, or a date and a time of day with "T" or a
    blank between them. It may end with an offset, Z, UTC or GMT, with or without a blank before it; without these it
    is UTC. Digits after the microseconds are cut off.

    Args:
        texts: `[R]` strings or bytes.
        unit: `data.time_unit`.

    Returns:
        int64 `[R]`, null where the text is no such time.
    """
    well_formed = pc.match_substring_regex(texts, _ISO) if unit == ISO else _are_integers(texts)
    if texts.null_count or not pc.all(well_formed, min_count=0).as_py():
        texts = pc.if_else(well_formed, texts, pa.scalar(None, texts.type))
    texts = texts.cast(pa.string())
    return _microseconds(texts) if unit == ISO else texts.cast(pa.int64())


def _are_integers(texts: pa.Array) -> pa.Array:
    """Returns the mask `[R]` of texts that are integers and fit an int64.

    Nanoseconds have 19 digits, as has the largest int64, so these are compared with it.
    """
    good = pc.match_substring_regex(texts, _SHORT_INTEGER)
    if not pc.all(good, min_count=0).as_py():
        for digits, end in _LONG_INTEGERS:
            within = pc.less_equal(texts, pa.scalar(end).cast(texts.type))  # texts of equal length sort like numbers
            good = pc.or_(good, pc.and_(pc.match_substring_regex(texts, digits), within))
    return good


def _microseconds(texts: pa.Array) -> pa.Array:
    """Returns the microseconds since 1970 UTC of well-formed ISO texts `[R]`, null for null."""
    if pc.any(pc.match_substring_regex(texts, _FINER)).as_py():
        texts = pc.replace_substring_regex(texts, _FINER, _MICROSECONDS)
    for pattern, plain in ((_NAMED, "Z"), (_BLANK, r"\1")):
        if pc.any(pc.match_substring_regex(texts, pattern)).as_py():
            texts = pc.replace_substring_regex(texts, pattern, plain)
    with_offset = pc.match_substring_regex(texts, _WITH_OFFSET)
    null = pa.scalar(None, pa.string())
    utc = pc.if_else(with_offset, texts, null).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    naive = pc.if_else(with_offset, null, texts).cast(pa.timestamp("us")).cast(pa.int64())
    return pc.coalesce(utc, naive)


def times_of_timestamps(column: pa.Array) -> pa.Array:
    """Returns Arrow timestamps or dates `[R]` as int64 microseconds since 1970 UTC, rounded down.

    Null for null, and where an int64 cannot hold the microseconds.
    """
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    ticks = column.cast(pa.int64()).fill_null(0).to_numpy()
    if column.type.unit == "ns":
        return pa.array(ticks // 1000, mask=column.is_null().to_numpy(zero_copy_only=False))
    factor = {"s": 1_000_000, "ms": 1_000, "us": 1}[column.type.unit]
    furthest = (2**63 - 1) // factor
    too_far = (ticks < -furthest) | (ticks > furthest)
    return pa.array(ticks * factor, mask=too_far | column.is_null().to_numpy(zero_copy_only=False))
