"""What the command line shows."""

from tfdnc.cli import screen


def test_ids_and_titles_are_shown_as_they_are_whatever_brackets_they_hold():
    with screen.console.capture() as shown:
        made = screen.table("User [/x] 3", "item", "cluster")
        made.add_row("[/nope] [rec]", "[red]a")
        screen.console.print(made)
    for text in ("User [/x] 3", "[/nope] [rec]", "[red]a"):
        assert text in shown.get()
