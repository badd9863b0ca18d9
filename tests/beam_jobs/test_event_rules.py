"""Rules that leave out events of a user: each alone, and all of them against plain Python."""

import itertools
import logging
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs.event_rules import apply_rules, events_of
from beam_jobs.logs.log_rows import EVENT_SCHEMA
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError

EVERYTHING = {"min_item_events": 1, "min_user_events": 3}


def left_of(rows, frequent=(), **config):
    """Returns the (user, item, time) rows that the rules leave, and the counts above 0 of events that they left out."""
    user, item, time = zip(*rows, strict=True) if rows else ((), (), ())
    columns = [pa.array(user, pa.string()), pa.array(item, pa.string()), pa.array(time, pa.int64())]
    encoded = [columns[0].dictionary_encode(), columns[1].dictionary_encode(), columns[2]]
    table = pa.Table.from_arrays(encoded, schema=EVENT_SCHEMA)
    events, left_out = apply_rules(events_of(table), DataConfig(**EVERYTHING | config), [pa.array(f) for f in frequent])
    users = events.user_ids.take(pa.array(events.user)).to_pylist()
    items = events.item_ids.take(pa.array(events.item)).to_pylist()
    rows = list(zip(users, items, events.time.tolist(), strict=True))
    return rows, {name: count for name, count in left_out.items() if count}


def of_user(user, *items_and_times):
    return [(user, item, time) for item, time in items_and_times]


def test_the_cap_keeps_the_latest_events_and_the_later_rows_at_equal_times():
    rows = of_user("a", ("u", 9), ("v", 1), ("w", 5), ("x", 5), ("y", 5)) + of_user("b", ("u", 1))
    left, left_out = left_of(rows, max_events_per_user=3)
    assert left == of_user("a", ("x", 5), ("y", 5), ("u", 9)) + of_user("b", ("u", 1))
    assert left_out == {"filtered: max_events_per_user": 2}


def test_a_log_ends_before_a_time_for_all_other_rules():
    rows = of_user("a", ("u", 9), ("v", 1), ("w", 5), ("x", 8)) + of_user("b", ("u", 1), ("u", 8))
    left, left_out = left_of(rows, until=8, max_events_per_user=3)
    assert sorted(left) == sorted(of_user("a", ("v", 1), ("w", 5)) + of_user("b", ("u", 1)))
    assert left_out == {"filtered: until": 3}


def test_a_log_that_ends_before_a_time_gives_the_bytes_of_a_shorter_log(write_csv, prepare_log):
    rows = [(f"u{user}", f"i{(user + day) % 7}", day) for user in range(9) for day in range(12)]
    shorter = write_csv([row for row in rows if row[2] < 8], "shorter.csv")
    figures, one = prepare_log(write_csv(rows), until=8, name="cut")
    assert figures["rows_filtered"]["until"] == 9 * 4
    assert figures["rows_read"] == figures["events"] + 9 * 4
    _, other = prepare_log(shorter, name="shorter")
    files = sorted(path.relative_to(one) for path in one.rglob("*.parquet"))
    assert files
    assert all((one / file).read_bytes() == (other / file).read_bytes() for file in files)


def test_the_first_of_equal_events_stays():
    rows = (
        of_user("a", ("x", 1), ("y", 1), ("x", 2)) + of_user("b", ("x", 1)) + of_user("a", ("y", 1), ("x", 1), ("z", 1))
    )
    left, left_out = left_of(rows, duplicates="drop")
    assert left == of_user("a", ("x", 1), ("y", 1), ("z", 1), ("x", 2)) + of_user("b", ("x", 1))
    assert left_out == {"filtered: duplicates": 2}
    assert left_of(rows, duplicates="keep") == (rows, {})
    # Duplicates are dropped before the cap, which is for users that are machines.
    left, left_out = left_of(rows, duplicates="drop", max_events_per_user=3)
    assert left == of_user("a", ("y", 1), ("z", 1), ("x", 2)) + of_user("b", ("x", 1))
    assert left_out == {"filtered: duplicates": 2, "filtered: max_events_per_user": 1}


def test_collapsing_keeps_the_first_of_equal_items_in_a_row():
    rows = of_user("a", ("x", 1), ("x", 2), ("y", 3), ("x", 4), ("x", 4)) + of_user("b", ("x", 5), ("x", 6))
    left, left_out = left_of(rows, repeats="collapse")
    assert left == of_user("a", ("x", 1), ("y", 3), ("x", 4)) + of_user("b", ("x", 5))
    assert left_out == {"filtered: repeats": 3}
    assert left_of(rows, repeats="keep") == (rows, {})


def test_events_that_become_neighbours_by_the_item_filter_are_repeats_too():
    rows = of_user("a", ("x", 1), ("rare", 2), ("x", 3), ("y", 4), ("x", 5))
    left, left_out = left_of(rows, [["x", "y"]], repeats="collapse")
    assert left == of_user("a", ("x", 1), ("y", 4), ("x", 5))
    assert left_out == {"filtered: repeats": 1, "filtered: min_item_events": 1, "filter round 1": 2}


def test_a_pause_longer_than_the_gap_begins_a_session():
    rows = of_user("b", ("x", 100), ("y", 160), ("z", 221), ("x", 500)) + of_user("a", ("x", 0))
    left, left_out = left_of(rows, session_gap=60)
    assert left == [("b:1", "x", 100), ("b:1", "y", 160), ("b:2", "z", 221), ("b:3", "x", 500), ("a:1", "x", 0)]
    assert left_out == {}


def test_the_gap_is_in_seconds_for_every_unit_of_the_log():
    rows = of_user("a", ("x", 0), ("y", 1500), ("z", 3001))
    assert [user for user, _, _ in left_of(rows, session_gap=1.5, time_unit="ms")[0]] == ["a:1", "a:1", "a:2"]
    assert [user for user, _, _ in left_of(rows, session_gap=1.5)[0]] == ["a:1", "a:2", "a:3"]


def test_times_at_both_ends_of_an_int64_are_a_pause_apart():
    ends = np.iinfo(np.int64)
    rows = of_user("a", ("x", ends.min), ("y", ends.min + 1), ("z", ends.max))
    assert [user for user, _, _ in left_of(rows, session_gap=1)[0]] == ["a:1", "a:1", "a:2"]


def test_equal_items_in_two_sessions_are_no_repeat_and_each_session_needs_its_events():
    rows = of_user("a", ("x", 1), ("y", 2), ("z", 3), ("z", 100), ("z", 101), ("y", 102))
    left, left_out = left_of(rows, [["x", "y", "z"]], session_gap=10, repeats="collapse")
    assert left == of_user("a:1", ("x", 1), ("y", 2), ("z", 3))
    assert left_out == {"filtered: repeats": 1, "filtered: min_user_events": 2, "filter round 1": 2}


def test_the_cap_is_on_users_and_counts_repeats():
    rows = of_user("a", *((item, time) for time, item in enumerate("uvwxxx")))
    left, _ = left_of(rows, max_events_per_user=4, repeats="collapse")
    assert left == of_user("a", ("w", 2), ("x", 3))


@pytest.mark.parametrize(
    "config",
    [{}, {"max_events_per_user": 3}, {"session_gap": 5}, {"repeats": "collapse"}],
)
def test_no_events_are_left_of_none(config):
    assert left_of([], [["x"]], **config) == ([], {})


def plain(rows, config):
    """Returns ({user: [(item, time), ...]}, {rule: events left out}) by the rules in simple Python."""
    users, left_out = {}, Counter()
    for user, item, time in sorted(rows, key=lambda row: row[2]):  # stable: ties keep file order
        users.setdefault(user, []).append((item, time))

    def replace(kept, rule):
        nonlocal users
        left_out[rule] += sum(map(len, users.values())) - sum(map(len, kept.values()))
        users = kept

    def collapse():
        if config.repeats == "collapse":
            runs = {user: itertools.groupby(events, key=lambda event: event[0]) for user, events in users.items()}
            replace({user: [next(run) for _, run in of_user] for user, of_user in runs.items()}, "repeats")

    if config.duplicates == "drop":
        replace({user: list(dict.fromkeys(events)) for user, events in users.items()}, "duplicates")
    if config.max_events_per_user:
        replace({u: events[-config.max_events_per_user :] for u, events in users.items()}, "max_events_per_user")
    if config.session_gap:
        sessions = {}
        for user, events in users.items():
            number, before = 1, events[0][1]
            for item, time in events:
                number, before = number + (time - before > config.session_gap), time
                sessions.setdefault(f"{user}:{number}", []).append((item, time))
        users = sessions
    collapse()
    for _ in range(config.filter_rounds):
        counts = Counter(item for events in users.values() for item, _ in events)
        frequent = {item for item, count in counts.items() if count >= config.min_item_events}
        replace({u: [e for e in events if e[0] in frequent] for u, events in users.items()}, "min_item_events")
        collapse()
        replace({u: e for u, e in users.items() if len(e) >= config.min_user_events}, "min_user_events")
    return users, left_out


@pytest.fixture
def random_rows():
    rng = np.random.default_rng(5)
    columns = rng.zipf(1.3, 2500) % 150, rng.zipf(1.4, 2500) % 60, np.sort(rng.integers(0, 400, 2500))
    return [(f"u{user}", f"i{item}", int(time)) for user, item, time in zip(*columns, strict=True)]


RULES = [
    {"max_events_per_user": 20},
    {"duplicates": "drop"},
    {"repeats": "collapse"},
    {"session_gap": 3},
    {"filter_rounds": 3},
    {"duplicates": "drop", "max_events_per_user": 40, "repeats": "collapse", "session_gap": 9, "filter_rounds": 2},
]


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: "-".join(rules))
def test_the_job_equals_plain_python_and_accounts_for_every_row(random_rows, write_csv, prepare_log, read_users, rules):
    rules = {"min_item_events": 6, "min_user_events": 4, **rules}
    figures, prepared = prepare_log(write_csv(random_rows), ["--chunk_bytes=3000"], num_shards=3, **rules)
    users, left_out = plain(random_rows, DataConfig(**rules))
    assert read_users(prepared) == users
    assert figures["rows_filtered"] == {rule: left_out[rule] for rule in figures["rows_filtered"]}
    assert figures["rows_read"] == figures["events"] + sum(left_out.values())


def k_core(rows, min_item_events, min_user_events):
    """Returns the (user, item) numbers of `[E, 2]` in the k-core, and the number of rounds that changed something."""
    left = np.ones(len(rows), bool)
    for changed in itertools.count():
        before = left.sum()
        for column, least in ((1, min_item_events), (0, min_user_events)):
            left &= np.bincount(rows[left, column], minlength=rows.max() + 1)[rows[:, column]] >= least
        if left.sum() == before:
            return left, changed


@pytest.mark.parametrize("seed", [1, 3])
def test_enough_rounds_make_a_k_core(write_csv, prepare_log, read_users, seed):
    pairs = np.random.default_rng(seed).integers(0, (70, 60), (230, 2))
    left, changed = k_core(pairs, 3, 3)
    assert changed > 3  # otherwise few rounds would be enough
    rows = [(f"u{user}", f"i{item}", time) for time, (user, item) in enumerate(pairs)]
    figures, prepared = prepare_log(write_csv(rows), min_item_events=3, filter_rounds=12)
    expected = {}
    for user, item, time in itertools.compress(rows, left):
        expected.setdefault(user, []).append((item, time))
    assert read_users(prepared) == expected
    assert figures["filter_rounds"] == {"changed": changed, "converged": True}


@pytest.mark.parametrize(
    ("filter_rounds", "figures", "warned"),
    [
        (1, {"changed": 1, "converged": False}, False),  # the default: one round
        (2, {"changed": 2, "converged": False}, True),
        (3, {"changed": 3, "converged": True}, False),
        (9, {"changed": 3, "converged": True}, False),
    ],
)
def test_too_few_rounds_get_a_warning(write_csv, prepare_log, caplog, filter_rounds, figures, warned):
    # Without item a user 1 is too short, so round 2 leaves out b and user 2, and round 3 d.
    log = write_csv([(user, item, 0) for user, items in enumerate(["abf", "bdf", "dfff"], 1) for item in items])
    with caplog.at_level(logging.WARNING, "beam_jobs"):
        found, _ = prepare_log(log, min_item_events=2, filter_rounds=filter_rounds)
    assert found["filter_rounds"] == figures
    assert ["Raise data.filter_rounds" in message for message in caplog.messages] == [True] * warned


def test_a_refusal_counts_the_events_that_the_rules_left_out(write_csv, prepare_log):
    rows = of_user("a", *(("x", time) for time in range(9)))
    with pytest.raises(UserError, match=r"3 left out by data.max_events_per_user, 5 left out by data.repeats, 0 of"):
        prepare_log(write_csv(rows), max_events_per_user=6, repeats="collapse")


def test_no_chunk_size_and_no_worker_changes_a_byte(random_rows, write_csv, prepare_log, bytes_of):
    rules = {"min_item_events": 6, "min_user_events": 4, **RULES[-1]}
    log = write_csv(random_rows)
    figures, prepared = prepare_log(log, name="one", **rules)
    flags = ["--direct_running_mode=multi_threading", "--direct_num_workers=2", "--chunk_bytes=3000"]
    more_figures, more_prepared = prepare_log(log, flags, name="many", **rules)
    assert (figures, bytes_of(prepared)) == (more_figures, bytes_of(more_prepared))
