"""A log as questions: the history up to a time, and what came next."""

import pytest

from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.operations.next_events import read_questions

LOG = """user_id,item_id,timestamp
ann,tea,10
ann,rice,20
ann,tea,30
ann,salt,30
bob,tea,5
bob,salt,6
cid,rice,40
dan,salt,1
dan,salt,50
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "today.csv"
    path.write_text(LOG)
    return path


def asked(questions):
    """Rows in order of the histories, because users are drawn."""
    times = ([known["history_times"], known["request_time"]] for known in questions.known)
    rows = zip(questions.histories, questions.targets, times, strict=True)
    return sorted((history, targets, *when) for history, targets, when in rows)


def test_without_a_time_the_last_event_of_a_user_comes_next(log):
    """Without cid, who has no history, and dan, whose last item is not new. Limits of the config are for training."""
    questions = read_questions(DataConfig(min_item_events=5, min_user_events=5), [str(log)], None, 10)
    assert asked(questions) == [
        (["tea"], ["salt"], [5], 6),
        (["tea", "rice", "tea"], ["salt"], [10, 20, 30], 30),
    ]


def test_events_from_a_time_on_come_next_but_those_of_items_seen_before(log):
    questions = read_questions(DataConfig(), [str(log)], 20, 10)
    assert asked(questions) == [(["tea"], ["rice", "salt"], [10], 20)]


def test_items_seen_before_come_next_where_lists_may_hold_them(log):
    questions = read_questions(DataConfig(seen="allow"), [str(log)], 20, 10)
    assert asked(questions) == [(["salt"], ["salt"], [1], 50), (["tea"], ["rice", "tea", "salt"], [10], 20)]


def test_the_same_users_are_drawn_every_time(log):
    one, again = (read_questions(DataConfig(), [str(log)], None, 1) for _ in range(2))
    assert len(one.histories) == 1
    assert one == again


def test_a_log_without_times_has_an_order_only(log):
    config = DataConfig(columns={"time": None})
    questions = read_questions(config, [str(log)], None, 10)
    assert questions.features == ()
    assert set(map(len, questions.known)) == {0}
    with pytest.raises(UserError, match=r"Expected a log with times"):
        read_questions(config, [str(log)], 20, 10)


def test_a_log_without_next_events_is_refused(log):
    with pytest.raises(UserError, match="with a history and with new items from 60 on, found none"):
        read_questions(DataConfig(), [str(log)], 60, 10)


def test_numbers_of_events_are_asked_with_the_history(log, tmp_path):
    """Only of the history: those of the next event are not known when the request is made. Empty is unknown."""
    path = tmp_path / "dwell.csv"
    rows = [f"{row},{dwell}" for row, dwell in zip(LOG.splitlines()[1:], [3, "", 5, 6, 7, 8, 9, 1, 2], strict=True)]
    path.write_text("\n".join(["user_id,item_id,timestamp,dwell", *rows]))
    questions = read_questions(DataConfig(events={"dwell": "number"}), [str(path)], 30, 10)
    assert [feature.name for feature in questions.features] == ["time", "dwell"]
    [(history, known)] = zip(questions.histories, questions.known, strict=True)
    assert (history, known["history_dwell"]) == (["tea", "rice"], [3.0, pytest.approx(-1e30)])


def test_only_events_of_the_kinds_of_targets_come_next(tmp_path):
    """The request is made at the first of them, and asks for its kind; views before it are history."""
    rows = ["ann,tea,1,view", "ann,rice,20,view", "ann,salt,21,buy", "ann,oil,22,view", "ann,egg,23,buy"]
    rows += ["bob,tea,1,buy", "bob,salt,30,view"]
    file = tmp_path / "log.csv"
    file.write_text("\n".join(["user_id,item_id,timestamp,action", *rows, ""]))
    data = DataConfig(events={"action": "value"}, targets={"action": ["buy"]})
    since = read_questions(data, [str(file)], 10, 10)
    assert (since.histories, since.targets) == ([["tea", "rice"]], [["salt", "egg"]])
    [known] = since.known
    assert (known["history_action"], known["request_action"]) == (["view", "view"], "buy")
    assert known["request_time"] == 21
    last = read_questions(data, [str(file)], None, 10)
    assert (last.histories, last.targets) == ([["tea", "rice", "salt", "oil"]], [["egg"]])
