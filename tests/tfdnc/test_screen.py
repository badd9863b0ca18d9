"""What the command line shows."""

import pytest

from tfdnc.cli import screen
from tfdnc.stations import Outcome, Station


def test_ids_and_titles_are_shown_as_they_are_whatever_brackets_they_hold():
    with screen.console.capture() as shown:
        made = screen.table("User [/x] 3", "item", "cluster")
        made.add_row("[/nope] [rec]", "[red]a")
        screen.console.print(made)
    for text in ("User [/x] 3", "[/nope] [rec]", "[red]a"):
        assert text in shown.get()


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome({}, 1.25, skipped=False), "1.2 s  done"),
        (Outcome({}, 1.25, skipped=True), "unchanged  done"),
        (Outcome({}, 1.25, skipped=True, adopted="other"), "adopted from other  done"),
    ],
)
def test_a_station_says_how_long_it_ran_or_why_it_did_not(outcome, expected):
    station = Station("x", "x", (), settings=dict, work=dict, headline=lambda figures: "done")
    with screen.console.capture() as shown:
        screen.station_ended(station, outcome)
    assert shown.get().strip() == expected
