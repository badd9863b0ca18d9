"""What must become of every row of a log, by the plainest Python there is: one row after the other."""

import csv
import io
import json
import re
from collections import Counter
from dataclasses import dataclass, field

_MARK = b"\xef\xbb\xbf"  # before the first row: how the file is written, and no part of an id
_STAND_IN = b"\x1f"  # what the job puts in the place of "::"; a row that holds one itself is refused


@dataclass(frozen=True)
class Layout:
    """How the rows of a file are written.

    Attributes:
        columns: name of every column.
        roles: names of the columns of user, item and time.
        wanted: (rule, column, wanted value, pattern of a well-formed value, complaint about any other).
        separator: of the columns.
        quotes: whether fields may be quoted.
        header: whether the first line names the columns.
    """

    columns: tuple[str, ...] = ("user_id", "item_id", "timestamp")
    roles: tuple[str, str, str] = ("user_id", "item_id", "timestamp")
    wanted: tuple[tuple[str, str, str, str, str], ...] = ()
    separator: str = ","
    quotes: bool = True
    header: bool = True


@dataclass
class Accounts:
    """Where the rows went.

    Attributes:
        kept: (user, item, time) of the well-formed rows that count, in the order of the log.
        filtered: rows left out, by rule.
        letters: the dead letters of every file, by its name.
    """

    kept: list[tuple[str, str, int]] = field(default_factory=list)
    filtered: Counter = field(default_factory=Counter)
    letters: dict[str, list[dict]] = field(default_factory=dict)

    @property
    def reasons(self) -> dict[str, int]:
        """Malformed rows by reason."""
        return dict(Counter(letter["reason"] for letters in self.letters.values() for letter in letters))

    @property
    def num_rows(self) -> int:
        """All rows."""
        return len(self.kept) + self.filtered.total() + sum(self.reasons.values())


def account(files: dict[str, bytes], layout: Layout) -> Accounts:
    """Returns what becomes of the rows of these files (name -> decompressed bytes), in this order."""
    accounts = Accounts()
    for name, data in files.items():
        start = data.index(b"\n") + 1 if layout.header else len(_MARK) if data.startswith(_MARK) else 0
        for offset, fields, lines in _records(io.BytesIO(data[start:]), start, layout):
            row = None if fields is None else dict(zip(layout.columns, fields, strict=False))
            text = b"".join(lines)
            reason = "NUL byte" if b"\0" in text else _complaint(row, fields, layout)
            # A record of the right shape is one row; what a stray quote swallowed costs each of its lines.
            whole = row and len(fields) == len(layout.columns) and b"\0" not in text
            for line in [text] if whole or not reason else lines:
                _enter(accounts, name, offset, line, row, reason, layout)
                offset += len(line)
    return accounts


def account_json_lines(name: str, data: bytes) -> Accounts:
    """Returns what becomes of the lines of a file, which are JSON objects with the columns of `Layout()`."""
    accounts, offset = Accounts(), 0
    for line in io.BytesIO(data):
        text = line.removesuffix(b"\n").removesuffix(b"\r")
        if text:
            row, reason = _json_row(text)
            _enter(accounts, name, offset, text, row, reason or _complaint(row, list(row), Layout()), Layout())
        offset += len(line)
    return accounts


def account_table(name: str, rows: list[dict[str, bytes | None]]) -> Accounts:
    """Returns what becomes of the rows of a Parquet file with the columns of `Layout()`."""
    accounts = Accounts()
    for number, values in enumerate(rows):
        row = {column: value or b"" for column, value in values.items()}
        shown = {
            column: value if value is None else value.decode("utf-8", "replace") for column, value in values.items()
        }
        text = json.dumps(shown, ensure_ascii=False).encode()
        _enter(accounts, name, number, text, row, _complaint(row, list(row), Layout()), Layout())
    return accounts


def filter_users(
    kept: list[tuple[str, str, int]],
    min_item_events: int,
    min_user_events: int,
    max_events_per_user: int | None = None,
    repeats: str = "keep",
    filter_rounds: int = 1,
) -> tuple[dict, Counter]:
    """Returns {user: [(item, time), ...]} in order of time, and how many rows each rule left out."""
    users, gone = {}, Counter()
    for user, item, time in sorted(kept, key=lambda row: row[2]):  # stable: ties keep the order of the log
        users.setdefault(user, []).append((item, time))

    def leave(rule, choose):
        for user, events in list(users.items()):
            users[user] = choose(events)
            gone[rule] += len(events) - len(users[user])

    def first_of_each_run(events):
        return [event for number, event in enumerate(events) if number == 0 or event[0] != events[number - 1][0]]

    if max_events_per_user:
        leave("max_events_per_user", lambda events: events[-max_events_per_user:])
    if repeats == "collapse":
        leave("repeats", first_of_each_run)
    for _ in range(filter_rounds):
        counts = Counter(item for events in users.values() for item, _ in events)
        frequent = {item for item, count in counts.items() if count >= min_item_events}
        leave("min_item_events", lambda events, frequent=frequent: [event for event in events if event[0] in frequent])
        if repeats == "collapse":
            leave("repeats", first_of_each_run)
        leave("min_user_events", lambda events: events if len(events) >= min_user_events else [])
    return {user: events for user, events in users.items() if events}, gone


def _enter(accounts, name, offset, text, row, reason, layout):
    """Puts one row where it belongs."""
    if reason:
        shown = text.rstrip(b"\r\n")[:1000].decode("utf-8", "replace")
        letter = {"file": name, "offset": offset, "text": shown, "reason": reason}
        accounts.letters.setdefault(name, []).append(letter)
    elif rule := _rule_against(row, layout):
        accounts.filtered[rule] += 1
    else:
        user, item, time = (row[role] for role in layout.roles)
        accounts.kept.append((user.decode(), item.decode(), int(time)))


def _json_row(text):
    """Returns {column: bytes} of a line and None, or why there is no such row."""
    try:
        found = json.loads(text.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return {}, "not one JSON object"
    user, item, time = (found.get(role) for role in Layout().roles)
    if not all(value is None or type(value) in (int, str) for value in (user, item)):
        return {}, "id is neither text nor an integer"
    values = (value if type(value) in (int, str) else "" for value in (user, item, time))
    encoded = (str(value).encode("utf-8", "surrogateescape") for value in values)
    return dict(zip(Layout().roles, encoded, strict=True)), None


def _records(lines, offset, layout):
    """Yields (offset, fields or None if unreadable, lines) of every record that is not a blank line."""
    for first in lines:
        record = [first]
        if layout.quotes and b'"' in first:
            fields = _csv_fields(record, lines)
        else:
            text = first.removesuffix(b"\n").removesuffix(b"\r").replace(b"\r", b" ")
            fields = text.split(layout.separator.encode()) if text else []
            if len(layout.separator) > 1 and _STAND_IN in text:
                fields = [text]
        if fields != []:
            yield offset, fields, record
        offset += sum(map(len, record))


def _csv_fields(record, lines):
    """Returns the fields of the record that begins with the line in `record`; appends the lines that it goes on in."""

    def text():
        yield record[0].decode("utf-8", "surrogateescape")
        for line in lines:
            record.append(line)
            yield line.decode("utf-8", "surrogateescape")

    try:
        return [value.encode("utf-8", "surrogateescape") for value in next(csv.reader(text()))]
    except csv.Error:
        return None


def _complaint(row, fields, layout):
    """Returns why a row is malformed, or None."""
    if fields is None:
        return "not readable as CSV (a quote that never ends?)"
    if len(fields) != len(layout.columns):
        return "wrong number of columns"
    user, item, time = (row[role] for role in layout.roles)
    for value, empty in ((user, "empty user id"), (item, "empty item id")):
        if not value:
            return empty
        try:
            value.decode()
        except UnicodeDecodeError:
            return "id is not UTF-8"
    if not re.fullmatch(rb"-?[0-9]{1,19}", time) or not -(2**63) <= int(time) < 2**63:
        return "time is not an integer"
    for _, column, _, pattern, complaint in layout.wanted:
        if not re.fullmatch(pattern.encode(), row[column]):
            return complaint
    return None


def _rule_against(row, layout):
    """Returns the first rule that leaves a well-formed row out, or None."""
    return next((rule for rule, column, value, _, _ in layout.wanted if row[column] != value.encode()), None)


MOVIELENS = Layout(("user", "item", "rating", "time"), ("user", "item", "time"), (), "::", False, False)
KUAIRAND = Layout(
    ("user_id", "video_id", "time_ms", "tab", "is_click"),
    ("user_id", "video_id", "time_ms"),
    (
        ("feedback", "is_click", "1", "[01]?", "is_click is neither blank, 0 nor 1"),
        ("tab", "tab", "1", "(0|[1-9][0-9]*)?", "tab is neither blank nor a plain integer"),
    ),
    quotes=False,
)
