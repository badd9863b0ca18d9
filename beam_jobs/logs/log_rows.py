"""Check of the rows of a log, in any format: each is an event, malformed, or left out by a rule."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.logs.feature_values import READERS
from beam_jobs.logs.log_times import complaint
from tfdnc.contracts.features import TIME, Feature

EVENT_SCHEMA = pa.schema(
    [
        ("user", pa.dictionary(pa.int32(), pa.string())),
        ("item", pa.dictionary(pa.int32(), pa.string())),
        (TIME.event_column, TIME.form.arrow),
    ]
)
"""Columns of the checked events of one block, in file order, of a log without inputs beside the time."""


def event_schema(features: Iterable[Feature]) -> pa.Schema:
    """Returns the columns of the events of a log with these inputs beside its times."""
    layout = EVENT_SCHEMA
    for feature in features:
        layout = layout.append(pa.field(feature.event_column, feature.form.block))
    return layout


EMPTY_USER, EMPTY_ITEM = "empty user id", "empty item id"
NOT_UTF8 = "id is not UTF-8"

_TEXT_LIMIT = 1000  # bytes of a malformed row that are kept

Malformed = tuple[int, bytes, str]
"""Offset, text and reason of a malformed row."""

Locate = Callable[[np.ndarray], Iterable[tuple[int, bytes]]]
"""Function from numbers of rows in a block to the offset and text of each."""


@dataclass(frozen=True)
class Wanted:
    """A value that a row must have to count; a well-formed row with another value is left out.

    Attributes:
        rule: name in the counts of the rows that are left out.
        column: position of the value.
        value: the value of rows that count.
        well_formed: regular expression of all well-formed values.
        complaint: reason reported for a row with any other value, which is malformed.
        others: further values of rows that count: of exposures.
    """

    rule: str
    column: int
    value: str
    well_formed: str
    complaint: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """Columns of one block, from any format, before the check.

    Attributes:
        user: `[R]` dictionary of bytes or text; an empty id is missing.
        item: `[R]`, the same.
        time: `[R]` int64, null where there is no time.
        time_unit: `data.time_unit`, for the reason reported for a missing time.
        values: `[R]` dictionary of bytes, one array per `wanted` of the format.
        wanted: the values that `values` must have for a row to count.
        features: the other inputs of events, `[R]` from `READERS`, null where a value is malformed.
        unreadable: (mask `[R]`, reason) of rows that could not be split into columns.
    """

    user: pa.DictionaryArray
    item: pa.DictionaryArray
    time: pa.Array
    time_unit: str
    values: tuple[pa.DictionaryArray, ...] = ()
    wanted: tuple[Wanted, ...] = ()
    features: Mapping[Feature, pa.Array] = field(default_factory=dict)
    unreadable: tuple[tuple[np.ndarray, str], ...] = ()


@dataclass(frozen=True)
class Rows:
    """Checked rows of one block.

    Attributes:
        offset: number of bytes of the (decompressed) file before the block; in Parquet, of rows.
        events: the well-formed rows that count, in the columns of `event_schema`.
        malformed: the malformed rows, in file order.
        filtered: number of well-formed rows that each rule left out.
        lines_joined: lines of text that continue a row inside quotes; every other line is a row, or blank.
    """

    offset: int
    events: pa.RecordBatch
    malformed: list[Malformed]
    filtered: dict[str, int]
    lines_joined: int = 0

    @property
    def num_rows(self) -> int:
        """Number of all rows of the block: events, malformed and filtered rows."""
        return self.events.num_rows + len(self.malformed) + sum(self.filtered.values())


def as_bytes(values: pa.Array) -> pa.Array:
    """Returns integers, decimals, text or bytes as bytes, which unlike text need not be UTF-8; a null stays null."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if any(test(values.type) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)):
        return values.cast(pa.binary())
    return values.cast(pa.string()).cast(pa.binary())


def encode_ids(ids: pa.Array) -> pa.DictionaryArray:
    """Returns ids `[R]`, of a type that `as_bytes` converts, as a dictionary of bytes; a null is an empty id."""
    encoded = ids if pa.types.is_dictionary(ids.type) else ids.dictionary_encode()
    distinct, codes = as_bytes(encoded.dictionary), encoded.indices.cast(pa.int32())
    if codes.null_count:
        codes = codes.fill_null(len(distinct))
        distinct = pa.concat_arrays([distinct, pa.array([b""], pa.binary())])
    return pa.DictionaryArray.from_arrays(codes, distinct)


def dead_letter(offset: int, text: bytes, reason: str) -> dict[str, Any]:
    """Returns the report of one malformed row, without the name of its file; a very long row is cut."""
    shown = text.rstrip(b"\r\n")[:_TEXT_LIMIT].decode("utf-8", "replace")
    return {"offset": offset, "text": shown, "reason": reason}


def dead_letter_line(file: str, letter: dict[str, Any]) -> str:
    """Returns the JSON line of the report of one malformed row."""
    return json.dumps({"file": file} | letter, ensure_ascii=False) + "\n"


def check(columns: Columns, offset: int, locate: Locate) -> Rows:
    """Returns the checked rows of one block; a malformed row is reported with its first reason.

    Args:
        columns: columns of the block.
        offset: offset of the block, see `Rows`.
        locate: gives the offset and text of malformed rows.
    """
    wanted, numbers = columns.wanted, [columns.time, *columns.features.values()]
    users, user_codes, user_complaints = _check_ids(columns.user, EMPTY_USER)
    items, item_codes, item_complaints = _check_ids(columns.item, EMPTY_ITEM)
    absent = [(_is_null(columns.time), complaint(columns.time_unit))]
    absent += [(_is_null(values), READERS[one.kind].complaint(one.name)) for one, values in columns.features.items()]
    checked = [_check_values(column, one) for column, one in zip(columns.values, wanted, strict=True)]
    complaints = [*columns.unreadable, *user_complaints, *item_complaints, *absent]
    complaints += [(malformed, one.complaint) for (malformed, _), one in zip(checked, wanted, strict=True)]
    bad = np.logical_or.reduce([mask for mask, _ in complaints])
    malformed: list[Malformed] = []
    if bad.any():
        rows = np.flatnonzero(bad)
        first = np.argmax([mask[rows] for mask, _ in complaints], axis=0)
        located = zip(locate(rows), first, strict=True)
        malformed = [(start, text, complaints[which][1]) for (start, text), which in located]
    kept = ~bad
    filtered: dict[str, int] = {}
    for (_, counts), one in zip(checked, wanted, strict=True):
        filtered[one.rule] = int((kept & ~counts).sum())
        kept &= counts
    if not kept.all():
        user_codes, item_codes = user_codes[kept], item_codes[kept]
        numbers = [column.filter(pa.array(kept)) for column in numbers]
    events = [
        pa.DictionaryArray.from_arrays(pa.array(user_codes), users),
        pa.DictionaryArray.from_arrays(pa.array(item_codes), items),
        *numbers,
    ]
    return Rows(offset, pa.RecordBatch.from_arrays(events, schema=event_schema(columns.features)), malformed, filtered)


def _is_null(column: pa.Array) -> np.ndarray:
    return column.is_null().to_numpy(zero_copy_only=False)


def _check_values(values: pa.DictionaryArray, wanted: Wanted) -> tuple[np.ndarray, np.ndarray]:
    """Returns two masks `[R]`: of rows with a malformed value, and of rows with the wanted value."""
    distinct, codes = values.dictionary, values.indices.to_numpy()
    well_formed = pc.match_substring_regex(distinct, wanted.well_formed).to_numpy(zero_copy_only=False)
    counting = pa.array([value.encode() for value in (wanted.value, *wanted.others)], pa.binary())
    counts = pc.is_in(distinct, value_set=counting).to_numpy(zero_copy_only=False)
    return ~well_formed[codes], counts[codes]


def _check_ids(ids: pa.DictionaryArray, empty: str) -> tuple[pa.Array, np.ndarray, list[tuple[np.ndarray, str]]]:
    """Returns the distinct ids as text, the codes `[R]`, and (mask `[R]`, reason) of malformed ids."""
    distinct, codes = ids.dictionary, ids.indices.to_numpy()
    complaints = []
    is_empty = pc.equal(pc.binary_length(distinct), 0).to_numpy(zero_copy_only=False)
    if is_empty.any():
        complaints.append((is_empty[codes], empty))
    try:
        return distinct.cast(pa.string()), codes, complaints
    except pa.ArrowInvalid:
        texts = [_decode(value) for value in distinct.to_pylist()]
        complaints.append((np.array([text is None for text in texts])[codes], NOT_UTF8))
        return pa.array([text or "" for text in texts], pa.string()), codes, complaints


def _decode(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
