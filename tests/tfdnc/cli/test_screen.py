"""Output of the command line on the screen."""

import io
import logging
import threading
from pathlib import Path

import pytest
from rich.console import Console

from beam_jobs.progress import progress, steps
from tfdnc.cli import screen
from tfdnc.contracts.narrow import drop_columns
from tfdnc.pipeline import working
from tfdnc.pipeline.engine import Outcome, Station

SIZES = (10, 20, 50, 100)


def test_ids_and_titles_with_brackets_are_shown_unchanged():
    with screen.console.capture() as shown:
        made = screen.table("User [/x] 3", "item", "cluster")
        made.add_row("[/nope] [rec]", "[red]a")
        screen.console.print(made)
    for text in ("User [/x] 3", "[/nope] [rec]", "[red]a"):
        assert text in shown.get()


def make_figures(*names):
    return {f"{name}@{m}": 0.25 for name in names for m in SIZES}


def make_report(clusters=True, categories=True):
    names = ["recall", "ndcg", *(["coverage", "entropy"] if clusters else []), "gini", "item_coverage"]
    figures = make_figures(*names, *(["ild"] if categories else []))
    row = {"cluster": 0, "name": "A rather long name of a cluster, as titles make them (1999)", "targets": 6040}
    tuned = {"alpha": 1.25, "objective": "recall@20", "validation": 0.5, "figures": figures}
    intent = dict.fromkeys(["intent_accuracy", "intent_nll", "intent_nll_prior", "intent_nll_history"], 0.5)
    return {
        "users": 6040,
        "seen": "exclude",
        "seen_targets": 0.125,
        "new_targets": {"targets": 5285, **make_figures("recall")},
        "repeated_targets": {"targets": 755, **make_figures("recall")},
        "judged_by": "own clusters" if clusters else None,
        "merge_method": "joint",
        "merge": figures,
        "without_times": figures,
        "alpha_curve": [{"alpha": alpha, **figures} for alpha in (0, 0.25)] if clusters else [],
        "joint_curve": [{"alpha": 0.5, **figures}] if clusters else [],
        "tuned": tuned if clusters else None,
        "within_cluster": make_figures("recall"),
        "within_cluster_by_cluster": [row | make_figures("recall")],
        "intent": intent,
        "calibration": {"bins": [], "ece": 0.5} if clusters else None,
        "popularity": figures,
        "cold_targets": {"targets": 1234, **make_figures("recall"), "within_cluster": make_figures("recall")},
    }


def shown(report, monkeypatch, width=100, curves=None):
    output = io.StringIO()
    monkeypatch.setattr(screen, "console", Console(file=output, width=width, highlight=False, markup=False))
    screen.show_report(report, Path("runs/x/evaluate/report.json"), curves)
    return output.getvalue()


def test_a_report_fits_in_100_columns(monkeypatch):
    text = shown(make_report(), monkeypatch)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "…" not in text  # nothing was cut off
    for heading in ("R@100", "NDCG@10", "cover", "entropy", "gini", "ild"):
        assert heading in text
    assert "quota*: alpha 1.25, picked by recall@20 on validation, 0.5000." in text
    assert "12.5% of the targets" in text
    assert "joint, no times sent" in text
    assert "1,234 targets are cold items" in text
    assert "too narrow" not in text


def test_in_80_columns_names_stay_whole_and_the_last_columns_go(monkeypatch):
    """Names were broken off letter by letter to make room for figures."""
    text = shown(make_report(), monkeypatch, width=80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith(" joint, no times sent  0.2500  0.2500") for line in lines)
    assert "80 columns are too narrow for gini, ild; runs/x/evaluate/report.json has all." in " ".join(text.split())


def test_a_name_longer_than_half_the_screen_goes_on_in_a_next_line():
    console = Console(file=io.StringIO(), width=40)
    made = screen.table_of_figures("x", "cluster", "R@5", "R@20", "R@50", "R@100")
    name = "Films about trains (1999) + and other ones"
    made.add_row(name, *["0.2500"] * 4)
    assert drop_columns(made, console) == ["R@50", "R@100"]
    console.print(made)
    assert name in " ".join(
        " ".join(line.replace("0.2500", "").split()) for line in console.file.getvalue().splitlines()
    )


def test_the_first_table_has_the_lists_that_matter_and_says_where_the_others_are(monkeypatch):
    text = shown(make_report(), monkeypatch, curves="tfdnc evaluate runs/x/config.yaml")
    rows = [line.split("  ")[0].strip() for line in text.splitlines() if line.startswith(" ")]
    assert [row for row in rows if row.startswith(("alpha", "joint,"))] == ["joint, no times sent"]
    assert {"popularity", "joint", "quota*", "oracle intent"} <= set(rows)
    assert "3 more lists, with other values of alpha: tfdnc evaluate runs/x/config.yaml" in text
    assert "alpha 0.25" in shown(make_report(), monkeypatch)


def test_an_intent_that_knows_too_little_is_followed_by_its_advice(monkeypatch):
    advice = "The intent model (head) is no better than ... Set model.intent: partition."
    assert advice in shown(make_report() | {"intent_check": {"advice": advice}}, monkeypatch)
    choice = {"text": "the learned intent (head) makes no better lists"}
    assert "The learned intent (head) makes no better lists." in shown(
        make_report() | {"intent_check": choice}, monkeypatch
    )
    for check in (None, {"advice": None}, {"text": None}):
        assert shown(make_report() | {"intent_check": check}, monkeypatch) == shown(make_report(), monkeypatch)


def test_cold_targets_are_not_mentioned_where_there_are_none(monkeypatch):
    assert "cold" not in shown(make_report() | {"cold_targets": None}, monkeypatch)


@pytest.mark.parametrize("missing", ["clusters", "categories"])
def test_a_report_shows_no_column_for_missing_figures(missing, monkeypatch):
    header = shown(make_report(**{missing: False}), monkeypatch).splitlines()[3]
    assert ("cover" in header) == (missing != "clusters")
    assert ("ild" in header) == (missing != "categories")
    assert "gini" in header


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


@pytest.fixture
def watched(monkeypatch):
    """The line that stands on a terminal while something works: text, parts done, parts in all."""
    shown = []

    class Progress(working.Progress):
        def __init__(self, *columns, **options):
            super().__init__(*columns, **options)
            shown.append(self)

    monkeypatch.setattr(working, "Progress", Progress)
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100, markup=False)
    monkeypatch.setattr("rich.get_console", lambda: terminal)
    with working.last_log_line("prepare"):

        def line():
            [task] = shown[-1].tasks
            return task.description, task.completed, task.total

        yield line


def test_a_log_line_stands_on_the_screen_until_the_next(watched):
    assert watched() == ("prepare ...", 0, None)
    log = logging.getLogger("beam_jobs.sequences")
    log.info("Reading %s", "log.csv [1]")
    assert watched() == ("Reading log.csv [1]", 0, None)


def test_parts_of_a_step_add_up_beside_what_was_announced(watched):
    log = logging.getLogger("beam_jobs.sequences")
    for pieces in (1, 2):
        log.info("a file", extra=steps(reading=pieces))
    log.info("all files", extra=steps(sorting=2))
    for done in (0, 1, 1):
        log.info("a block", extra=progress("reading", done, rows=1500, malformed=0))
    assert watched() == ("reading 2 of 3, 4,500 rows", 2, 3)
    log.info("a bucket", extra=progress("sorting", users=7))
    assert watched() == ("sorting 1 of 2, 7 users", 1, 2)
    log.info("done")
    assert watched() == ("done", 0, None)


@pytest.mark.parametrize(("pause", "lines"), [(0, ["reading 0 of 2", "reading 2 of 2, 7 rows", "done"]), (60, [])])
def test_without_a_terminal_a_job_leaves_a_line_now_and_then(monkeypatch, pause, lines):
    """A cron job showed nothing but empty lines until a station was done."""
    output = io.StringIO()
    file = Console(file=output, width=100)
    monkeypatch.setattr("rich.get_console", lambda: file)
    monkeypatch.setattr(working, "LINE_SECONDS", pause)
    monkeypatch.setattr(working, "_SHORTEST_WAIT", 60)  # no line of the clock
    log = logging.getLogger("beam_jobs.sequences")
    with working.last_log_line("prepare"):
        log.info("a file", extra=steps(reading=2) | progress("reading", 0))
        log.info("two blocks", extra=progress("reading", 2, rows=7))
        log.info("done")
    assert [line.strip() for line in output.getvalue().splitlines()] == lines


def test_without_records_the_last_line_is_repeated(monkeypatch):
    """A refresh was silent for two minutes, as if it hung."""
    repeated = threading.Event()

    class File(io.StringIO):
        def write(self, text):
            if "so far" in text and "Saving" in text:
                repeated.set()
            return super().write(text)

    output = File()
    file = Console(file=output, width=100)
    monkeypatch.setattr("rich.get_console", lambda: file)
    monkeypatch.setattr(working, "LINE_SECONDS", 0.01)
    with working.last_log_line("refresh"):
        logging.getLogger("tfdnc.export").info("Saving")
        assert repeated.wait(60)
    assert "    Saving (0 s so far)" in output.getvalue()
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]
