"""The reason why a station works again."""

import pytest

from tfdnc.pipeline.changes import changes, in_a_line

BEFORE = {
    "tfdnc": "1",
    "format": 1,
    "seed": 7,
    "settings": {"train": {"epochs": 3, "loss": "bce"}, "candidates": [10]},
    "stations": {"examples": "aa"},
    "files": {"log.csv": "bb", "items.csv": "cc"},
}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({}, []),
        ({"settings": {"train": {"epochs": 3, "loss": "bce"}, "candidates": (10,)}}, []),  # JSON knows no tuples
        ({"settings": {"train": {"epochs": 5, "loss": "bce"}, "candidates": [10]}}, ["train.epochs is 5, was 3"]),
        (
            {"settings": {"train": {"epochs": 3}, "candidates": [10, 50]}},
            ["train.loss is unset, was bce", "candidates is [10, 50], was [10]"],
        ),
        ({"seed": 8, "stations": {"examples": "dd"}}, ["seed is 8, was 7"]),
        (
            {"files": {"log.csv": "ee", "new.csv": "ff"}},
            ["log.csv has changed", "items.csv is gone", "new.csv is new"],
        ),
        ({"plugins": {"mine.py": "aa"}}, ["the plug-in mine.py is new"]),
        ({"format": 2}, ["this version of tfdnc gives other results"]),
        ({"settings": BEFORE["settings"] | {"new": None}}, ["its settings have another form"]),  # no value changed
        ({"settings": BEFORE["settings"] | {"new": 1.0}}, ["new is 1.0, was unset"]),
        ({"stations": {"examples": "dd"}}, ["examples has another result"]),  # told only where nothing else is known
    ],
)
def test_every_input_that_differs_is_told(now, expected):
    assert changes(BEFORE, {**BEFORE, **now}) == expected


def test_values_that_look_alike_are_not_shown():
    """A change at the end of a long list was "is [1, 2, ..., was [1, 2, ...", the same twice."""
    long = list(range(20))
    before, now = ({**BEFORE, "settings": settings} for settings in ({"where": [*long, 7]}, {"where": [*long, 8]}))
    assert changes(before, now) == ["where has changed"]


def test_a_line_shows_the_first_changes():
    assert in_a_line(list("abcd")) == "a; b; c; d"
    assert in_a_line(list("abcdef")) == "a; b; c; d; and 2 more"
