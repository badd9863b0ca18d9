"""Packed content of one block of a log: its events by bucket of users, item counts, dead letters and figures."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from beam_jobs.exposures import exposed_rows
from beam_jobs.logs.log_rows import Rows, dead_letter
from beam_jobs.row_accounts import count_rows
from beam_jobs.user_buckets import split_by_bucket
from beam_jobs.vocabulary import count_items

NONE: Mapping[str, tuple[str, ...]] = MappingProxyType({})
"""No exposures."""


class Block(NamedTuple):
    """One block of a file of the log.

    Attributes:
        offset: see `log_rows.Rows`.
        num_events: number of its events, and of its exposures.
        events: (bucket, packed events of the bucket's users in file order).
        items: packed (item id, events), none in a block without events; exposures are not counted.
        malformed: dead letters, in file order, without the name of the file.
        figures: counts of its rows.
    """

    offset: int
    num_events: int
    events: list[tuple[int, bytes]]
    items: list[bytes]
    malformed: list[dict[str, Any]]
    figures: dict[str, int]


def block_of(rows: Rows, num_buckets: int, exposures: Mapping[str, tuple[str, ...]] = NONE) -> Block:
    """Returns the block of checked rows; `exposures` names the column and the values of rows that are no events."""
    items = rows.events["item"]
    codes = items.indices.to_numpy()
    if exposures:
        codes = codes[~exposed_rows(rows.events, exposures)]
    return Block(
        offset=rows.offset,
        num_events=rows.events.num_rows,
        events=list(split_by_bucket(rows.events, num_buckets)),
        items=[count_items(items.dictionary, codes)] if rows.events.num_rows else [],
        malformed=[dead_letter(*row) for row in rows.malformed],
        figures=count_rows(rows),
    )
