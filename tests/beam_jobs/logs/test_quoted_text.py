"""Strict reader of quoted text: a malformed line costs itself only, and no line is lost."""

import io
import itertools
import re

import numpy as np
import pytest
from row_oracle import quoted_records

from beam_jobs.logs import quoted_text
from beam_jobs.logs.quoted_text import (
    AMBIGUOUS,
    BACKSLASH,
    NEVER_CLOSES,
    QUOTE_INSIDE,
    TEXT_AFTER_QUOTE,
    WRONG_COLUMNS,
    QuotedText,
    advice_on,
    read_records,
    split_line,
)


def read(text, num_columns, quotes="doubled", is_row=None):
    """Returns the fields of every record, or the line and its fault; checks offsets and texts."""
    layout = QuotedText(b",", num_columns, tuple(range(num_columns)), quotes)
    records = list(read_records(io.BytesIO(text), 0, layout, is_row))
    assert all(text[record.offset :].startswith(record.text) for record in records)
    between = [text[a.offset + len(a.text) : b.offset] for a, b in itertools.pairwise(records)]
    assert all(re.fullmatch(rb"(\r?\n)*", left_out) for left_out in between)
    return [record.fields if record.fault is None else (record.text, record.fault) for record in records]


@pytest.mark.parametrize(
    ("text", "records"),
    [
        (b'a,"b",1\n\r\n"c,d","e ""x""\nf","2"\r\ng,h,3', [[b"a", b"b", b"1"], [b"c,d", b'e "x"\nf', b"2"], None]),
        (b'"","",""\n"""",""",",""""""\n', [[b"", b"", b""], [b'"', b'",', b'""']]),
        (b'"a\r\n\r\nb",c,\n', [[b"a\r\n\r\nb", b"c", b""]]),
        (b'a\rb,"c\rd",\xff\r', [[b"a b", b"c\rd", b"\xff"]]),  # as in a log without quotes
        (b'"a\\",b,c\n', [[b"a\\", b"b", b"c"]]),
    ],
)
def test_sound_records(text, records):
    assert read(text, 3) == [[b"g", b"h", b"3"] if record is None else record for record in records]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'a,"b"c,1\n', TEXT_AFTER_QUOTE),
        (b'a,"b" ,1\n', TEXT_AFTER_QUOTE),
        (b'a,"b"\r,1\n', TEXT_AFTER_QUOTE),
        (b'a, "b",1\n', QUOTE_INSIDE),
        (b'a,5" disk,1\n', QUOTE_INSIDE),
        (b'a,"5" disk",1\n', TEXT_AFTER_QUOTE),
        (b'a,b,"1\n', NEVER_CLOSES),
        (b'a,"b""\n', NEVER_CLOSES),
        (b'a,"say \\"no\\"",1\n', BACKSLASH),
        (b'a,"5\\"",1\n', BACKSLASH),
        (b'a,"b"\n', WRONG_COLUMNS),
        (b'a,"b",1,\n', WRONG_COLUMNS),
    ],
)
@pytest.mark.parametrize("good", [b"u,i,1\n", b'"u","i","1"\n', b'u,",i",1\r\n'])
def test_a_malformed_line_costs_no_other(line, fault, good):
    """Regression: Python's csv module made one record of all lines between two single quotes."""
    sound = read(good, 3)
    assert read(good + line + good + line + good, 3) == [*sound, (line, fault), *sound, (line, fault), *sound]


def test_a_record_of_several_lines_with_other_columns_costs_each_of_its_lines():
    text = b'"a\n\nb,c,1\n",d\nu,i,1\n'
    lines = text.splitlines(keepends=True)[:4]
    assert read(text, 3) == [*((line, WRONG_COLUMNS) for line in lines), [b"u", b"i", b"1"]]


def test_a_quoted_field_that_holds_a_row_is_malformed():
    text = b'u,i,1,"Rome\nu,j,2,Bonn\nv,i,3,3.5"\n'  # either one text, "Rome ... 3.5", or three rows
    assert len(read(text, 4)) == 1
    lines = text.splitlines(keepends=True)
    assert read(text, 4, is_row=lines[1].__eq__) == [(line, AMBIGUOUS) for line in lines]
    assert len(read(text, 4, is_row=lines[0].__eq__)) == 1  # the first line is where the record begins


def test_quotes_escaped_by_a_backslash():
    text = b'a,"say \\"no\\", twice\n","C:\\\\dir\\"\nb,c\\d,"\\x"\n'
    lines = text.splitlines(keepends=True)
    assert read(text, 3, "escaped") == [(lines[0], NEVER_CLOSES), (lines[1], TEXT_AFTER_QUOTE), [b"b", b"c\\d", b"\\x"]]
    text = text.replace(b'dir\\"', b'dir"')
    assert read(text, 3, "escaped") == [[b"a", b'say "no", twice\n', b"C:\\dir"], [b"b", b"c\\d", b"\\x"]]
    doubled = b'a,"b ""c""",1\n'
    assert read(doubled, 3, "escaped") == [(doubled, TEXT_AFTER_QUOTE)]


def test_quotes_that_are_ordinary_characters():
    assert read(b'a,3.5" disk,"\n"b,c,d\n', 3, "none") == [[b"a", b'3.5" disk', b'"'], [b'"b', b"c", b"d"]]


def test_a_field_may_be_long_but_the_search_for_a_closing_quote_ends(monkeypatch):
    assert read(b'a,"' + b"z" * 140_000 + b'"\n', 2) == [[b"a", b"z" * 140_000]]
    monkeypatch.setattr(quoted_text, "LONGEST_RECORD", 1000)
    rows = b"u,1\n" * 1000
    assert read(b'a,"b\n' + rows + b'c"\n', 2) == [
        (b'a,"b\n', NEVER_CLOSES),
        *[[b"u", b"1"]] * 1000,
        (b'c"\n', QUOTE_INSIDE),
    ]


def test_only_the_named_columns_are_returned_in_their_order():
    layout = QuotedText(b"\t", 3, (2, 0))
    records = read_records(io.BytesIO(b'a\t"x"\tb\nc\tx\td\n"c\n"\tx\t"d"\n'), 7, layout)
    assert [(record.offset, record.fields) for record in records] == [
        (7, [b"b", b"a"]),
        (15, [b"d", b"c"]),
        (21, [b"d", b"c\n"]),
    ]


def test_a_header_is_split_by_the_same_rules():
    assert split_line(b'a,"b, ""c""",d\r\n', b",") == [b"a", b'b, "c"', b"d"]
    assert split_line(b'a,"b\n', b",") is None
    assert split_line(b'a;"b\\"";"c"', b";", "escaped") == [b"a", b'b"', b"c"]
    assert split_line(b'a,"b\n', b",", "none") == [b"a", b'"b']


ALPHABET = [b'"', b'"', b'"', b",", b",", b"\n", b"\n", b"\r\n", b"\r", b"\\", b"a", b"\xff", b'"b"', b",c\n", b'""']


@pytest.mark.parametrize("quotes", ["doubled", "escaped"])
@pytest.mark.parametrize("num_columns", [1, 2, 3])
def test_random_text_is_read_as_by_the_oracle_character_by_character(quotes, num_columns):
    rng = np.random.default_rng(num_columns)
    faults = set()
    for _ in range(1500):
        text = b"".join(ALPHABET[place] for place in rng.integers(len(ALPHABET), size=rng.integers(1, 30)))
        expected = []
        for _, fields, lines, fault in quoted_records(text, ",", num_columns, quotes):
            expected += [(line, fault) for line in lines] if fault else [fields]
        found = read(text, num_columns, quotes)
        assert found == expected, text
        faults |= {fault for record in found if isinstance(record, tuple) for fault in record[1:]}
    assert len(faults) >= 4


def test_advice_names_the_key():
    assert advice_on([BACKSLASH, WRONG_COLUMNS], "data.quotes").endswith("need data.quotes: escaped.")
    assert advice_on([NEVER_CLOSES], "data.items.quotes").endswith("set data.items.quotes: none.")
    assert advice_on([WRONG_COLUMNS], "data.quotes") == ""
