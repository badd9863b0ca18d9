"""Expected accounts of the rows of a log, from simple Python code that reads row by row."""

import io
import json
import re
from collections import Counter
from dataclasses import dataclass, field

_MARK = b"\xef\xbb\xbf"  # before the first row it is no part of an id
_STAND_IN = b"\x1f"  # the job replaces "::" by it; a row that holds one itself is malformed


@dataclass(frozen=True)
class Layout:
    """Layout of the rows of a file.

    Attributes:
        columns: name of every column.
        roles: names of the columns of user, item and time.
        wanted: (rule, column, wanted value, pattern of a well-formed value, reason for any other).
        separator: separator of the columns.
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
    """Accounts of the rows.

    Attributes:
        kept: (user, item, time) of the well-formed rows that count, in the order of the log.
        filtered: rows left out, by rule.
        letters: the dead letters of every file, by its name.
        lines_joined: lines that continue a row inside quotes.
    """

    kept: list[tuple[str, str, int]] = field(default_factory=list)
    filtered: Counter = field(default_factory=Counter)
    letters: dict[str, list[dict]] = field(default_factory=dict)
    lines_joined: int = 0

    @property
    def reasons(self) -> dict[str, int]:
        """Malformed rows by reason."""
        return dict(Counter(letter["reason"] for letters in self.letters.values() for letter in letters))

    @property
    def num_rows(self) -> int:
        """Number of all rows."""
        return len(self.kept) + self.filtered.total() + sum(self.reasons.values())


def account(files: dict[str, bytes], layout: Layout) -> Accounts:
    """Returns the accounts of the rows of these files (name -> decompressed bytes), in this order."""
    accounts = Accounts()
    for name, data in files.items():
        start = data.index(b"\n") + 1 if layout.header else len(_MARK) if data.startswith(_MARK) else 0
        for offset, fields, lines, fault in _records(data[start:], start, layout):
            row, text = dict(zip(layout.columns, fields, strict=False)), b"".join(lines)
            if fault or b"\0" in text:  # then every line is a row of its own
                for line in lines:
                    reason = "NUL byte" if not fault or b"\0" in line else fault
                    _enter(accounts, name, offset, line, row, reason, layout)
                    offset += len(line)
            else:
                _enter(accounts, name, offset, text, row, _complaint(row, layout), layout)
                accounts.lines_joined += len(lines) - 1
    return accounts


def account_json_lines(name: str, data: bytes) -> Accounts:
    """Returns the accounts of the lines of a file, which are JSON objects with the columns of `Layout()`."""
    accounts, offset = Accounts(), 0
    for line in io.BytesIO(data):
        text = line.removesuffix(b"\n").removesuffix(b"\r")
        if text:
            row, reason = _json_row(text)
            _enter(accounts, name, offset, text, row, reason or _complaint(row, Layout()), Layout())
        offset += len(line)
    return accounts


def account_table(name: str, rows: list[dict[str, bytes | None]]) -> Accounts:
    """Returns the accounts of the rows of a Parquet file with the columns of `Layout()`."""
    accounts = Accounts()
    for number, values in enumerate(rows):
        row = {column: value or b"" for column, value in values.items()}
        shown = {
            column: value if value is None else value.decode("utf-8", "replace") for column, value in values.items()
        }
        text = json.dumps(shown, ensure_ascii=False).encode()
        _enter(accounts, name, number, text, row, _complaint(row, Layout()), Layout())
    return accounts


def filter_users(
    kept: list[tuple[str, str, int]],
    min_item_events: int,
    min_user_events: int,
    max_events_per_user: int | None = None,
    repeats: str = "keep",
    duplicates: str = "keep",
    filter_rounds: int = 1,
) -> tuple[dict, Counter]:
    """Returns {user: [(item, time), ...]} in order of time, and the number of rows that each rule left out."""
    users, gone = {}, Counter()
    for user, item, time in sorted(kept, key=lambda row: row[2]):  # stable: ties keep the order of the log
        users.setdefault(user, []).append((item, time))

    def leave(rule, choose):
        for user, events in list(users.items()):
            users[user] = choose(events)
            gone[rule] += len(events) - len(users[user])

    def first_of_each_run(events):
        return [event for number, event in enumerate(events) if number == 0 or event[0] != events[number - 1][0]]

    if duplicates == "drop":
        leave("duplicates", lambda events: list(dict.fromkeys(events)))
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
    """Adds one row to the accounts."""
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
    """Returns {column: bytes} of a line and None, or {} and the reason why it is malformed."""
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


def _records(data, offset, layout):
    """Yields (offset, fields, lines, fault or None) of every record that is not a blank line."""
    if layout.quotes:
        for place, *record in quoted_records(
            data, layout.separator, len(layout.columns), may_be_row=_may_be_row(layout)
        ):
            yield offset + place, *record
        return
    for line in io.BytesIO(data):
        text = line.removesuffix(b"\n").removesuffix(b"\r").replace(b"\r", b" ")
        fields = [text] if len(layout.separator) > 1 and _STAND_IN in text else text.split(layout.separator.encode())
        if text:
            fault = None if len(fields) == len(layout.columns) else "wrong number of columns"
            yield offset, fields, [line], fault
        offset += len(line)


def quoted_records(data, separator, num_columns, quotes="doubled", may_be_row=lambda line: False):
    """Yields (offset, fields, lines, fault or None) of every record and malformed line, by RFC 4180."""
    start = 0
    while start < len(data):
        fields, end, fault = _quoted_record(data, start, separator, quotes)
        lines = list(io.BytesIO(data[start:end]))
        if fault:
            # The fault is reported for the first line, and reading continues with the second.
            fault = "a quote that never closes" if len(lines) > 1 else fault
            lines = [next(io.BytesIO(data[start:]))]
            fault = "a quote after a backslash" if quotes == "doubled" and b'\\"' in lines[0] else fault
        elif any(map(may_be_row, lines[1:])):
            fault = "a quoted field that holds a whole row"
        elif len(fields) != num_columns:
            fault = "wrong number of columns"
        if lines[0] not in (b"\n", b"\r\n", b"\r"):
            yield start, fields, lines, fault
        start += sum(map(len, lines))


def _quoted_record(data, place, separator, quotes):
    """Returns the fields, the end and the fault of the record that begins at `place`; reads character by character."""
    text, separator, quote = data.decode("latin-1"), separator, '"'
    fields, field, state = [], "", "begin"

    def ends(at):
        return at >= len(text) or text[at] == "\n" or text[at:] == "\r" or text[at : at + 2] == "\r\n"

    def past_line_end(at):
        return at + len(re.match("\r?\n?", text[at:])[0])

    while True:
        character = text[place : place + 1]
        if state == "inside":
            if not character:
                return fields, place, "a quote that never closes"
            if quotes == "escaped" and character == "\\" and text[place + 1 : place + 2] in ("\\", quote):
                field, place = field + text[place + 1], place + 2
            elif quotes == "doubled" and text[place : place + 2] == quote * 2:
                field, place = field + quote, place + 2
            elif character == quote:
                state, place = "closed", place + 1
            else:
                field, place = field + character, place + 1
        elif ends(place):
            return [one.encode("latin-1") for one in [*fields, field]], past_line_end(place), None
        elif character == separator:
            fields, field, state, place = [*fields, field], "", "begin", place + 1
        elif state == "closed":
            return fields, place, "text after a closing quote"
        elif character == quote:
            if state == "plain":
                return fields, place, "a quote inside a field that does not begin with one"
            state, place = "inside", place + 1
        else:
            field, state, place = field + character.replace("\r", " "), "plain", place + 1


def _may_be_row(layout):
    """Returns a test of lines inside quotes: an event has all columns, and its time before the next quote."""
    at = layout.columns.index(layout.roles[2])

    def may_be(line):
        fields = line.removesuffix(b"\n").removesuffix(b"\r").split(layout.separator.encode())
        before_quotes = line.split(b'"')[0].count(layout.separator.encode())
        return len(fields) == len(layout.columns) and before_quotes >= at and _is_time(fields[at])

    return may_be


def _is_time(text):
    return bool(re.fullmatch(rb"-?[0-9]{1,19}", text)) and -(2**63) <= int(text) < 2**63


def _complaint(row, layout):
    """Returns the reason why a row is malformed, or None."""
    user, item, time = (row[role] for role in layout.roles)
    for value, empty in ((user, "empty user id"), (item, "empty item id")):
        if not value:
            return empty
        try:
            value.decode()
        except UnicodeDecodeError:
            return "id is not UTF-8"
    if not _is_time(time):
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
