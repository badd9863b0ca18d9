"""Rules that leave out events of a bucket before they become sequences, in the order in which they apply.

1. `until`: events before this time stay.
2. `duplicates`: the first of all events with the same user, item and time stays.
3. `max_events_per_user`: the latest events of a user stay.
4. `session_gap`: a user is cut into sessions; from here on "user" means session, also in the filters.
5. `repeats`: the first of consecutive events of one item stays.
6. `filter_rounds` times: events of items with fewer than `min_item_events` are left out; then new repeats; then users
   with fewer than `min_user_events`.

Events of one user and one time always keep the order of the log.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.features import TIME, Feature

UNTIL, DUPLICATES, CAP, REPEATS = "until", "duplicates", "max_events_per_user", "repeats"
RARE_ITEM, SHORT_USER = "min_item_events", "min_user_events"
FILTERED, ROUND = "filtered: ", "filter round "
"""Prefixes of the counts of events left out, by rule and by round."""


class Events(NamedTuple):
    """E events of one bucket."""

    user_ids: pa.StringArray  # [U] of users, or of sessions
    user: np.ndarray  # [E] int32 positions in `user_ids`
    item_ids: pa.StringArray  # [I]
    item: np.ndarray  # [E] int32 positions in `item_ids`
    features: dict[Feature, np.ndarray]  # [E] of every input that the log has, its times first; codes of categories
    texts: dict[Feature, pa.StringArray] = {}  # noqa: RUF012 - never changed; categories by code
    row: np.ndarray | None = None  # [E] positions among all rows of the bucket, of a log with exposures

    @property
    def time(self) -> np.ndarray:
        """Times of the events `[E]` int64."""
        return self.features[TIME]

    def take(self, rows: np.ndarray) -> "Events":
        """Returns the events at these positions, or those of a mask."""
        if rows.dtype == bool and rows.all():
            return self
        features = {feature: values[rows] for feature, values in self.features.items()}
        row = None if self.row is None else self.row[rows]
        return self._replace(user=self.user[rows], item=self.item[rows], features=features, row=row)


def events_of(table: pa.Table, features: Sequence[Feature] = (TIME,)) -> Events:
    """Returns the events of a table with the `event_schema` of a log with these inputs, its times first."""
    table = table.unify_dictionaries().combine_chunks()
    user, item = (_single_chunk(table[name]) for name in ("user", "item"))
    columns = {feature: _single_chunk(table[feature.event_column]) for feature in features}
    values = {one: (of.indices if one.form.is_category else of).to_numpy() for one, of in columns.items()}
    texts = {one: of.dictionary for one, of in columns.items() if one.form.is_category}
    return Events(user.dictionary, user.indices.to_numpy(), item.dictionary, item.indices.to_numpy(), values, texts)


def _single_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def rules_of(config: DataConfig) -> tuple[str, ...]:
    """Returns the names of the rules that the config switches on, in their order."""
    optional = {
        UNTIL: config.until is not None,
        DUPLICATES: config.duplicates == "drop",
        CAP: config.max_events_per_user is not None,
        REPEATS: config.repeats == "collapse",
    }
    return (*(rule for rule, in_force in optional.items() if in_force), RARE_ITEM, SHORT_USER)


def cuts_before_counting(config: DataConfig) -> bool:
    """Returns whether a rule leaves out events before items are counted for the first time."""
    return rules_of(config)[0] != RARE_ITEM


def apply_rules(events: Events, config: DataConfig, frequent: Sequence[pa.Array]) -> tuple[Events, dict[str, int]]:
    """Applies the rules to the events of one bucket.

    Args:
        events: in the order of the log.
        config: holds the rules.
        frequent: ids of the items to keep, for each of the first rounds; empty: no round.

    Returns:
        The remaining events, and the number that each rule and each round left out.
    """
    left_out: Counter[str] = Counter()

    def take(rows: np.ndarray, rule: str) -> None:
        nonlocal events
        left_out[FILTERED + rule] += len(rows) - int(rows.sum())
        events = events.take(rows)

    if config.end is not None:
        take(events.time < config.end, UNTIL)
    if cuts_before_counting(config) or config.session_gap is not None:
        events = events.take(np.lexsort((events.time, events.user)))
    if config.duplicates == "drop":
        take(~equals_an_earlier(events.user, events.item, events.time), DUPLICATES)
    if config.max_events_per_user is not None:
        take(_latest(events, config.max_events_per_user), CAP)
    if config.session_gap is not None:
        events = _cut_into_sessions(events, int(config.session_gap * config.ticks_per_second))
    if config.repeats == "collapse":
        take(_first_of_each_run(events), REPEATS)
    for number, item_ids in enumerate(frequent, 1):
        before = len(events.user)
        take(_is_in(events, item_ids), RARE_ITEM)
        if config.repeats == "collapse":
            take(_first_of_each_run(events), REPEATS)
        take(_user_lengths(events)[events.user] >= config.min_user_events, SHORT_USER)
        left_out[f"{ROUND}{number}"] = before - len(events.user)
    return events, dict(left_out)


def _user_lengths(events: Events) -> np.ndarray:
    """Returns the number of events `[U]` of every user."""
    return np.bincount(events.user, minlength=len(events.user_ids))


def equals_an_earlier(user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Returns the mask `[E]` of events with the user, item and time of an earlier one.

    Args:
        user: `[E]`; events are ordered by user and time.
        item: `[E]`.
        time: `[E]`.
    """
    apart = _differs(user) | _differs(time)
    # Only events that share user and time with the event before or after can be equal to another one.
    rows = np.flatnonzero(~(apart & np.append(apart[1:], True)))
    moment, items = np.cumsum(apart)[rows], item[rows]
    order = np.lexsort((items, moment))  # stable: equal events stay in the order of the log
    equal = np.zeros(len(user), bool)
    equal[rows[order]] = ~(_differs(moment[order]) | _differs(items[order]))
    return equal


def _latest(events: Events, most: int) -> np.ndarray:
    """Returns the mask `[E]` of the `most` latest events of every user; events are ordered by user and time."""
    ends = np.cumsum(_user_lengths(events))
    return np.arange(len(events.user)) >= ends[events.user] - most


def _first_of_each_run(events: Events) -> np.ndarray:
    """Returns the mask `[E]` of events that do not repeat the item of the one before, ordered by user and time."""
    return _differs(events.user) | _differs(events.item)


def _cut_into_sessions(events: Events, gap: int) -> Events:
    """Makes every session a user of its own: the first session of user "u" becomes "u:1".

    Args:
        events: ordered by user and time.
        gap: longest pause inside a session, in the unit of the log.
    """
    if not len(events.user):
        return events
    # Unsigned, because the difference of two times may exceed an int64, and is never negative inside a user.
    pauses = np.diff(events.time.view(np.uint64), prepend=events.time[:1].view(np.uint64))
    new_user = _differs(events.user)
    starts = np.flatnonzero(new_user | (pauses > np.uint64(gap)))
    users = events.user[starts]
    first_session = np.searchsorted(users, users)
    numbers = pa.array(np.arange(1, len(starts) + 1) - first_session).cast(pa.string())
    sessions = np.repeat(np.arange(len(starts), dtype=np.int32), np.diff(starts, append=len(events.user)))
    ids = pc.binary_join_element_wise(events.user_ids.take(pa.array(users)), numbers, ":")
    return events._replace(user_ids=ids, user=sessions)


def _differs(values: np.ndarray) -> np.ndarray:
    """Returns the mask of values that differ from the one before; the first value always does."""
    differs = np.ones(len(values), bool)
    differs[1:] = values[1:] != values[:-1]
    return differs


def _is_in(events: Events, item_ids: pa.Array) -> np.ndarray:
    """Returns the mask `[E]` of events of these items."""
    known = pc.is_in(events.item_ids, value_set=item_ids).to_numpy(zero_copy_only=False)
    return known[events.item]
