"""JSON Lines: well-formed and malformed rows; a malformed line does not affect the lines around it."""

import json
import random

import pytest

from beam_jobs.logs.json_rows import BAD_ID, NOT_JSON, JsonFormat, numbers_in
from beam_jobs.logs.log_rows import EMPTY_ITEM, EMPTY_USER, NOT_UTF8
from beam_jobs.logs.log_times import BAD_ISO_TIME, BAD_TIME

TEXT = JsonFormat("u", "i", "t", numbers=frozenset("t"))
NUMBERS = JsonFormat("u", "i", "t", numbers=frozenset("uit"))


def events(rows):
    columns = (rows.events["user"].cast("string"), rows.events["item"].cast("string"), rows.events["time"])
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def outcome(rows):
    return events(rows), rows.malformed


@pytest.mark.parametrize("row_format", [TEXT, NUMBERS])
def test_ids_and_times_may_be_text_or_integers_and_other_fields_anything(row_format):
    lines = [
        b'{"u": "a", "i": 7, "t": 1, "more": {"u": [1, null, "x"]}}',
        b'{"t": "2", "i": "7", "u": 12345678901234567890}',
        b'{"i":"\\u00e9\\ud83d\\ude00","u":"\xc3\xa9","t":-3}',
    ]
    rows = row_format.parse(b"\n".join(lines), 0)
    assert outcome(rows) == ([("a", "7", 1), ("12345678901234567890", "7", 2), ("é", "é😀", -3)], [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a,b,1", NOT_JSON),
        (b'["a", "b", 1]', NOT_JSON),
        (b'{"u": "a", "i": "b", "t": 1', NOT_JSON),
        (b'{"u": "a", "i": "b", "t": 1}}', NOT_JSON),
        (b'{"u": "a", "i": "b", "t": 1},', NOT_JSON),
        (b'{"u": "a", "i": "b", "t": 1} {"u": "a", "i": "b", "t": 1}', NOT_JSON),
        (b'{"u": "a", "i": "b", "t": 1}\0}', NOT_JSON),
        (b"   ", NOT_JSON),
        (b"{}", EMPTY_USER),
        (b'{"u": "", "i": "b", "t": 1}', EMPTY_USER),
        (b'{"u": null, "i": "b", "t": 1}', EMPTY_USER),
        (b'{"u": "a", "t": 1}', EMPTY_ITEM),
        (b'{"u": 1.5, "i": "b", "t": 1}', BAD_ID),
        (b'{"u": "a", "i": true, "t": 1}', BAD_ID),
        (b'{"u": "a", "i": ["b"], "t": 1}', BAD_ID),
        (b'{"u": "a\xff", "i": "b", "t": 1}', NOT_UTF8),
        (b'{"u": "a\\ud800", "i": "b", "t": 1}', NOT_UTF8),
        (b'{"u": "a", "i": "b"}', BAD_TIME),
        (b'{"u": "a", "i": "b", "t": 1.0}', BAD_TIME),
        (b'{"u": "a", "i": "b", "t": "soon"}', BAD_TIME),
        (b'{"u": "a", "i": "b", "t": true}', BAD_TIME),
        (b'{"u": "a", "i": "b", "t": 9223372036854775808}', BAD_TIME),
    ],
)
@pytest.mark.parametrize("row_format", [TEXT, NUMBERS])
def test_a_malformed_row_is_reported_with_its_offset_text_and_reason(line, reason, row_format):
    before = b'{"u": "p", "i": "q", "t": 5}\r\n\r\n'
    rows = row_format.parse(before + line + b'\n{"u": 1, "i": 2, "t": 3}', 1000)
    assert outcome(rows) == ([("p", "q", 5), ("1", "2", 3)], [(1000 + len(before), line, reason)])


def test_an_object_over_two_lines_is_two_malformed_rows():
    rows = TEXT.parse(b'{"u": "a",\n"i": "b", "t": 1}\n{"u": "a", "i": "b", "t": 2}\n', 0)
    assert events(rows) == [("a", "b", 2)]
    assert [(offset, reason) for offset, _, reason in rows.malformed] == [(0, NOT_JSON), (11, NOT_JSON)]


def test_iso_times_are_text():
    row_format = JsonFormat("u", "i", "t", "iso")
    rows = row_format.parse(b'{"u":1,"i":2,"t":"1970-01-01T00:00:01Z"}\n{"u":1,"i":2,"t":1}', 0)
    assert events(rows) == [("1", "2", 1_000_000)]
    assert [reason for _, _, reason in rows.malformed] == [BAD_ISO_TIME]


@pytest.mark.parametrize("block", [b"\n", b"\r\n\n"])
def test_empty_lines_are_no_rows(block):
    assert TEXT.parse(block, 0).num_rows == 0


@pytest.mark.parametrize(
    "line",
    [
        b'{"u": "a", "i": "b", "t": 1, "x": Inf}',
        b'{"u": "a", "i": "b", "t": 1, "x": NaN}',
        b'{"u": "a", "i": "b", "t": 1, "x": "\xff"}',
        b'{"u": "a", "i": "b", "t": 1, "x": ' + b"9" * 5000 + b"}",
        b'{"u": "a", "i": "b", "t": 1, "x": ' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"u": "a", "i": "b", "t": 1, "u": "a"}',
        b'{"u": "a", "i": "b", "t": 1, "x": "\\ud800"}',
    ],
)
def test_a_line_is_the_same_row_beside_good_lines_and_beside_bad_ones(line):
    """Some of these are JSON only to pyarrow, some only to Python."""
    assert outcome(TEXT.parse(line, 0)) == outcome(TEXT.parse(line + b"\n\n", 0))
    assert events(TEXT.parse(line + b"\nbad", 0)) == events(TEXT.parse(line, 0)) == [("a", "b", 1)]


def mutated_lines(count, seed):
    """Returns rows: a third has a byte changed, inserted or removed, and some have fields of another type."""
    rng = random.Random(seed)
    for number in range(count):
        row = {"u": rng.choice([number % 7, f"u{number % 7}", "é"]), "i": number % 11, "t": number, "x": [{"y": None}]}
        line = bytearray(json.dumps(row, ensure_ascii=rng.random() < 0.5).encode())
        place = rng.randrange(len(line))
        change = rng.randrange(9)
        if change == 0:
            line[place] = rng.choice(b'{}[]",:\\x0\xff \t\x01-eIN')
        elif change == 1:
            line.insert(place, rng.choice(b'{}[]",:\\x0\xff \t\x01-eIN'))
        elif change == 2:
            del line[place:]
        yield bytes(line)


def test_mutated_rows_are_all_accounted_for_and_the_same_in_every_block():
    lines = list(mutated_lines(2000, seed=1))
    whole = NUMBERS.parse(b"\n".join(lines), 0)
    assert whole.num_rows == sum(line not in (b"", b"\r") for line in lines)
    assert 0.05 < len(whole.malformed) / len(lines) < 0.5
    for size in (1, 3, 70, 500):
        events_found, malformed, offset = [], [], 0
        for start in range(0, len(lines), size):
            block = b"\n".join(lines[start : start + size]) + b"\n"
            rows = NUMBERS.parse(block, offset)
            events_found += events(rows)
            malformed += rows.malformed
            offset += len(block)
        assert (events_found, malformed) == outcome(whole)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b'{"u": 1, "i": "2", "t": 3}\n{"u": "x"}', "ut"),
        (b'\nno JSON\n[1]\n{"u": true, "i": 2}\n', "i"),
        (b'{"u": null, "t": 5}\n{"u": 7}\n', "ut"),
        (b'{"u": 1, "i": 2', ""),
        (b"", ""),
    ],
)
def test_the_first_values_determine_the_fields_of_numbers(lines, expected):
    assert numbers_in(lines, ("u", "i", "t")) == frozenset(expected)
