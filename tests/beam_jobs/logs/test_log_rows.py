"""Well-formed rows of text, and the reasons reported for malformed ones."""

import dataclasses
import io
import json

import pytest

from beam_jobs.logs.csv_rows import HAS_NUL, RowFormat, parse_block, parse_quoted
from beam_jobs.logs.log_rows import EMPTY_ITEM, EMPTY_USER, NOT_UTF8, Wanted, dead_letter, dead_letter_line
from beam_jobs.logs.log_times import BAD_TIME
from beam_jobs.logs.quoted_text import AMBIGUOUS, NEVER_CLOSES, WRONG_COLUMNS

CSV = RowFormat(b",", quotes="doubled", num_columns=3, user=0, item=1, time=2)
RATINGS = RowFormat(b"::", quotes="none", num_columns=4, user=0, item=1, time=3)

LIKED = Wanted("liked", 3, "1", r"^[01]?$", "bad like")
LIKES = RowFormat(
    b",", quotes="doubled", num_columns=5, user=0, item=1, time=2, wanted=(LIKED, Wanted("x", 4, "x", "", ""))
)


def events(rows):
    columns = (rows.events["user"].cast("string"), rows.events["item"].cast("string"), rows.events["time"])
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def quoted(text, row_format=CSV, offset=0):
    """Returns (events, malformed) of all blocks of the parser of quoted text."""
    blocks = list(parse_quoted(io.BytesIO(text), offset, row_format))
    return [e for rows in blocks for e in events(rows)], [m for rows in blocks for m in rows.malformed]


def test_columns_are_taken_by_position_and_ids_stay_text():
    rows = parse_block(b"7,x,007,99\n8,y,a b,-5\n", 0, RowFormat(b",", "doubled", 4, user=2, item=0, time=3))
    assert events(rows) == [("007", "7", 99), ("a b", "8", -5)]
    assert rows.malformed == []


def test_movielens_rows_are_split_at_double_colons_only():
    rows = parse_block(b"1::10::5::100\nu:v::11::5::101\n", 0, RATINGS)
    assert events(rows) == [("1", "10", 100), ("u:v", "11", 101)]


@pytest.mark.parametrize("text", [b"a,b,1\r\nc,d,2\r\n", b"a,b,1\n\n\r\nc,d,2", b"\n\na,b,1\nc,d,2\r\n\n"])
def test_line_ends_and_blank_lines_do_not_matter(text):
    rows = parse_block(text, 0, CSV)
    assert events(rows) == [("a", "b", 1), ("c", "d", 2)]
    assert rows.malformed == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a,b", WRONG_COLUMNS),
        (b"a,b,1,2", WRONG_COLUMNS),
        (b",b,1", EMPTY_USER),
        (b"a,,1", EMPTY_ITEM),
        (b"a,b,", BAD_TIME),
        (b"a,b,1.5", BAD_TIME),
        (b"a,b,yesterday", BAD_TIME),
        (b"a,b,12345678901234567890", BAD_TIME),
        (b"a\xff,b,1", NOT_UTF8),
        (b",,x", EMPTY_USER),
    ],
)
@pytest.mark.parametrize("before", [b"", b"u,i,1\n", b"u,i,1\r\n\r\nu,j,2\r\n"])
def test_malformed_row_is_reported_with_its_offset_text_and_first_reason(line, reason, before):
    rows = parse_block(before + line + b"\nu,k,3\n", 1000, CSV)
    assert rows.malformed == [(1000 + len(before), line, reason)]
    assert len(events(rows)) == before.count(b"u,") + 1


def test_malformed_rows_of_several_kinds_are_reported_in_file_order():
    text = b"a,b\na,b,x\na,b,1\n\nonly\n,b,2\n"
    rows = parse_block(text, 0, CSV)
    assert [(text[o : o + len(t)], t, reason) for o, t, reason in rows.malformed] == [
        (b"a,b", b"a,b", WRONG_COLUMNS),
        (b"a,b,x", b"a,b,x", BAD_TIME),
        (b"only", b"only", WRONG_COLUMNS),
        (b",b,2", b",b,2", EMPTY_USER),
    ]


def test_offsets_count_the_bytes_of_the_file_also_if_separators_are_replaced():
    text = b"1::2::3::4\nbroken\n1::2::3::x\n"
    assert parse_block(text, 0, RATINGS).malformed == [
        (11, b"broken", WRONG_COLUMNS),
        (18, b"1::2::3::x", BAD_TIME),
    ]


def test_a_lone_carriage_return_does_not_end_a_row():
    rows = parse_block(b"a,b\rc,1\nd,e,2\n", 0, CSV)
    assert events(rows) == [("a", "b c", 1), ("d", "e", 2)]


def test_quoted_fields_may_hold_separators_quotes_and_line_ends():
    text = b'"a","b",1\n"c,d","e ""x""\nf","2"\n\ng,h,3\n'
    assert quoted(text) == ([("a", "b", 1), ("c,d", 'e "x"\nf', 2), ("g", "h", 3)], [])


def test_quoted_parser_reports_every_line_of_a_malformed_record_at_its_offset():
    text = b'"a\nb",c,1\n"d\ne",f\nh,i,no\n'
    good, malformed = quoted(text, offset=5)
    assert good == [("a\nb", "c", 1)]
    assert malformed == [(15, b'"d\n', WRONG_COLUMNS), (18, b'e",f\n', WRONG_COLUMNS), (23, b"h,i,no\n", BAD_TIME)]


def test_a_quote_that_never_ends_costs_its_line():
    good, malformed = quoted(b'a,"b,1\n' + b"u,i,1\n" * 60_000)
    assert malformed == [(0, b'a,"b,1\n', NEVER_CLOSES)]
    assert good == [("u", "i", 1)] * 60_000


def test_lines_that_continue_a_row_are_counted():
    blocks = list(parse_quoted(io.BytesIO(b'"a\n\nb",c,1\n\nd,e,2\nf,"\n",3'), 0, CSV))
    assert [(rows.num_rows, rows.lines_joined) for rows in blocks] == [(3, 3)]


@pytest.mark.parametrize(
    ("row_format", "line"),
    [(CSV, b"v,j,2"), (CSV, b"v,j,007"), (dataclasses.replace(CSV, time_unit="iso"), b"v,j,2026-01-02")],
)
def test_an_event_inside_quotes_makes_its_record_malformed(row_format, line):
    """Two quotes by mistake, one opening and one closing, would hide all events between them."""
    first = line.replace(b"j", b'"j')
    good, malformed = quoted(b"\n".join([first, line, line.replace(b"j", b'j"')]), row_format)
    assert good == []
    assert [reason for _, _, reason in malformed] == [AMBIGUOUS] * 3


def test_the_end_of_a_quoted_text_is_no_event():
    text = b'"all that I want\nis a text, one\nof, some, lines\nto the end",item,7\n'
    assert quoted(text) == ([("all that I want\nis a text, one\nof, some, lines\nto the end", "item", 7)], [])


def test_both_parsers_agree_on_rows_without_quotes():
    text = b"a,b,1\n\nc,d\n,d,2\ne,f,x\ng,h,3\r\n\xff,i,4\n"
    fast = parse_block(text, 0, CSV)
    good, malformed = quoted(text)
    assert good == events(fast)
    assert [(o, t.rstrip(b"\r\n"), r) for o, t, r in malformed] == fast.malformed


def test_rows_without_the_wanted_values_are_counted_by_the_first_rule_that_leaves_them_out():
    text = b"a,i,1,1,x\nb,i,1,0,x\nc,i,1,,y\nd,i,1,1,y\ne,i,1,2,y\n,i,1,0,y\n"
    rows = parse_block(text, 0, LIKES)
    assert events(rows) == [("a", "i", 1)]
    assert rows.filtered == {"liked": 2, "x": 1}
    assert [(text, reason) for _, text, reason in rows.malformed] == [
        (b"e,i,1,2,y", "bad like"),
        (b",i,1,0,y", EMPTY_USER),
    ]
    assert rows.num_rows == 6
    (slow,) = parse_quoted(io.BytesIO(text), 0, LIKES)
    assert (events(slow), slow.filtered, len(slow.malformed)) == (events(rows), rows.filtered, 2)


def test_dead_letter_is_one_json_line_and_long_rows_are_cut():
    line = dead_letter_line("log.csv", dead_letter(12, b"a\xff,\xc3\xa9" + b"x" * 5000 + b"\n", BAD_TIME))
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "file": "log.csv",
        "offset": 12,
        "text": "a�,é" + "x" * 995,
        "reason": BAD_TIME,
    }


@pytest.mark.parametrize("row_format", [CSV, RATINGS])
def test_a_nul_costs_its_own_row_and_no_other(row_format):
    """Regression: pyarrow joins a row with a NUL to the next one, if long fields make it use vector instructions."""
    long, short = (
        row_format.separator.join([user, item, b"5", b"1"][-row_format.num_columns :])
        for user, item in ((b"user" * 30, b"item" * 9), (b"5", b"\0"))
    )
    rows = parse_block(b"\n".join([long] * 30_000 + [short, long] * 3), 0, row_format)
    assert [(text, reason) for _, text, reason in rows.malformed] == [(short, HAS_NUL)] * 3
    assert rows.events.num_rows == 30_003


def test_a_row_that_is_not_utf_8_may_have_the_wrong_number_of_columns_too():
    rows = parse_block(b"a,b,1\n\xff,b\nc,d,2\n", 0, CSV)
    assert (events(rows), rows.malformed) == ([("a", "b", 1), ("c", "d", 2)], [(6, b"\xff,b", WRONG_COLUMNS)])
