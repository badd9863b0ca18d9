"""Exposures: rows that were shown and passed over are no events, and belong to the user's event before them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.sequences import prepare
from tfdnc.contracts import schema
from tfdnc.contracts.config import parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.item_lists import ended_lists, padded_lists

FEW = {"min_item_events": 1, "min_user_events": 1, "split": "none", "num_shards": 1}
KINDS = {"exposures": {"action": ["impression"]}}


def prepared(folder, rows, **data):
    """Returns user -> (item, items passed over after it) of a log of (user, item, time, action), and the figures."""
    lines = ["user_id,item_id,timestamp,action", *(",".join(map(str, row)) for row in rows)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    config = parse_config({"name": "x", "data": {"path": str(folder / "log.csv"), **FEW, **KINDS, **data}})
    figures = prepare(config.data, folder / "out")
    return read(folder / "out"), figures


def read(folder):
    ids = ["", *pq.read_table(folder / schema.VOCABULARY)["item_id"].to_pylist()]
    sequences = pq.read_table(folder / schema.SEQUENCES).to_pylist()
    return {
        user["user_id"]: [
            (ids[item], [ids[one] for one in shown])
            for item, shown in zip(user["items"], user["exposures"], strict=True)
        ]
        for user in sequences
    }


def shown(items, time):
    return [("u", item, time, "impression") for item in items]


def test_what_follows_an_event_belongs_to_it_and_nothing_else_does(tmp_path):
    rows = [*shown("b", 1), ("u", "a", 2, "click"), *shown("bc", 3), ("u", "b", 9, "view"), ("u", "c", 9, "click")]
    found, figures = prepared(tmp_path, [*rows, *shown("a", 9), ("v", "b", 1, "impression"), ("v", "c", 2, "click")])
    # b and c after a led to events before anything else was shown: they were not passed over.
    assert found == {"u": [("a", []), ("b", []), ("c", ["a"])], "v": [("c", [])]}
    left_out = {"no_event_before": 2, "acted_on": 2, "unknown_item": 0, "exposures_per_event": 0}
    assert figures["exposures"] == {"rows": 5, "kinds": {"impression": 5}, "kept": 1, "left_out": left_out}
    assert figures["events"] == 4
    assert figures["rows_read"] == 9


def test_what_led_to_an_event_after_something_else_was_shown_was_passed_over_before(tmp_path):
    rows = [("u", "a", 1, "click"), *shown("b", 2), ("u", "c", 3, "click"), *shown("a", 4), ("u", "b", 5, "click")]
    assert prepared(tmp_path, rows)[0]["u"] == [("a", ["b"]), ("c", ["a"]), ("b", [])]


def test_the_latest_ones_of_items_with_events_stay(tmp_path):
    rows = [("u", "a", 1, "click"), ("u", "b", 1, "click"), ("u", "c", 1, "click"), *shown("abncna", 2)]
    found, figures = prepared(tmp_path, rows, exposures_per_event=2)
    assert found["u"][-1] == ("c", ["c", "a"])
    assert (
        figures["exposures"]["left_out"] | {"unknown_item": 2, "exposures_per_event": 2}
        == (figures["exposures"]["left_out"])
    )
    assert figures["items"] == 3


def test_they_count_for_no_rule_and_their_events_may_be_left_out(tmp_path):
    rows = [*(("u", item, 1, "click") for item in "aabb"), ("u", "rare", 2, "click"), *shown(["a", "rare"], 3)]
    rows += [*(("v", "rare", time, "impression") for time in range(9)), ("v", "a", 9, "click")]
    limits = {"min_item_events": 2, "min_user_events": 3, "filter_rounds": 2}
    found, figures = prepared(tmp_path, rows, **limits)
    assert found == {"u": [("a", []), ("a", []), ("b", []), ("b", ["a"])]}
    assert figures["rows_filtered"] == {"min_item_events": 1, "min_user_events": 1}


def test_a_session_has_those_that_follow_its_events_within_the_gap(tmp_path):
    rows = [("u", "a", 0, "click"), *shown("b", 10), *shown("b", 101), ("u", "b", 500, "click"), *shown("a", 501)]
    rows += [("u", "a", 502, "view"), *shown("b", 503)]
    found, _ = prepared(tmp_path, rows, session_gap=100)
    # The last but one exposure led to an event, the one at 101 is too late for the first session.
    assert found == {"u:1": [("a", [])], "u:2": [("b", []), ("a", ["b"])]}


def test_rows_from_the_end_on_are_not_read(tmp_path):
    rows = [("u", "a", 1, "click"), ("u", "b", 2, "click"), *shown("a", 3), *shown("a", 4), ("u", "a", 5, "click")]
    found, figures = prepared(tmp_path, rows, until=4)
    assert found["u"] == [("a", []), ("b", ["a"])]
    assert figures["exposures"]["left_out"]["until"] == 1


def reference(rows, most, known):
    """Row by row: user -> (item, passed over) of rows in the order of the log, which is that of times."""
    found = {}
    for user in {user for user, *_ in rows}:
        own = [(item, kind) for one, item, _, kind in rows if one == user]
        events = []
        for place, (item, kind) in enumerate(own):
            if kind != "impression":
                events.append((item, []))
                continue
            rest = own[place:]
            first = next((n for n, (_, k) in enumerate(rest) if k != "impression"), len(rest))
            following = []
            for later, k in rest[first:]:
                if k == "impression":
                    break
                following.append(later)
            if events and item not in following and item in known:
                events[-1][1].append(item)
        if events:
            found[user] = [(item, of_event[-most:]) for item, of_event in events]
    return found


def test_random_logs_have_the_same_as_row_by_row_in_any_format_and_piece(tmp_path):
    rng = np.random.default_rng(7)
    times = np.sort(rng.integers(0, 60, 400)).tolist()
    rows = [
        (
            f"u{rng.integers(6)}",
            f"i{rng.integers(9)}",
            time,
            rng.choice(["impression", "click", "buy"], p=[0.6, 0.3, 0.1]),
        )
        for time in times
    ]
    known = {item for _, item, _, kind in rows if kind != "impression"}
    expected = reference(rows, 3, known)
    assert sum(len(shown) for events in expected.values() for _, shown in events) > 100
    found, _ = prepared(tmp_path, rows, exposures_per_event=3, num_shards=3)
    assert found == expected
    truth = [(user, item, time, kind == "impression") for user, item, time, kind in rows]
    names = ["user_id", "item_id", "timestamp", "passed"]
    pq.write_table(pa.table(dict(zip(names, zip(*truth, strict=True), strict=True))), tmp_path / "log.parquet")
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in truth))
    for format_ in ("parquet", "jsonl"):
        data = {"format": format_, "path": str(tmp_path / f"log.{format_}"), "exposures": {"passed": [True]}}
        config = parse_config({"name": "x", "data": {**FEW, **data, "exposures_per_event": 3}})
        prepare(config.data, tmp_path / format_, ["--chunk_bytes=900"])
        assert read(tmp_path / format_) == expected


def test_kuairand_has_them_in_the_column_of_its_feedback(tmp_path):
    head = "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view"
    lines = [f"{head},play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"]
    for video, long_view in [("a", 1), ("b", 0), ("b", 1), ("a", 0), ("a", ""), ("never", 0)]:
        lines.append(f"1,{video},20220408,900,{len(lines)},1,0,0,0,0,0,{long_view},0,0,0,0,0,0,1")
    (tmp_path / "log_standard_1.csv").write_text("\n".join(lines) + "\n")
    data = {"format": "kuairand", "path": str(tmp_path), "kuairand": {"feedback": "long_view"}, **FEW}
    config = parse_config({"name": "x", "data": data | {"exposures": {"long_view": [0]}}})
    figures = prepare(config.data, tmp_path / "out")
    assert read(tmp_path / "out") == {"1": [("a", []), ("b", ["a"])]}
    assert figures["rows_filtered"]["feedback"] == 1
    assert figures["exposures"]["rows"] == 3
    with pytest.raises(UserError, match=r"exposures of kuairand by its feedback, such as `long_view: \[0\]`, got tab"):
        parse_config({"name": "x", "data": data | {"exposures": {"tab": [0]}}})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"exposures": {"item_id": ["x"]}}, "not that of user, item or time, got item_id"),
        ({"events": {"dwell": "number"}, "exposures": {"dwell": [0]}}, "of kind value in exposures, got dwell of kind"),
        (
            {"events": {"action": "value"}, "targets": {"action": ["buy"]}, "exposures": {"action": ["buy", "seen"]}},
            "other values in exposures than in targets, found buy in both",
        ),
        ({"exposures": {"action": []}}, "exposures"),
    ],
)
def test_columns_that_cannot_tell_them_are_refused(data, message):
    with pytest.raises(UserError, match=message):
        parse_config({"name": "x", "data": data})


def test_a_model_or_a_loss_that_reads_them_needs_them():
    with pytest.raises(UserError, match=r"data\.exposures with exposures in model\.inputs, got none"):
        parse_config({"name": "x", "model": {"inputs": ["exposures"]}})
    with pytest.raises(UserError, match=r"data\.exposures with train\.loss exposure_softmax"):
        parse_config({"name": "x", "train": {"loss": "exposure_softmax"}})


def test_a_column_that_is_missing_is_told_with_its_key(tmp_path):
    with pytest.raises(UserError, match=r"Expected column 'kind' in .*; set data\.exposures"):
        prepared(tmp_path, [("u", "a", 1, "click")], exposures={"kind": ["impression"]})


def test_a_log_without_one_is_told(tmp_path, caplog):
    prepared(tmp_path, [("u", "a", 1, "click"), ("u", "b", 2, "click")])
    assert "Of 0 rows with a kind of data.exposures (action: impression) none counts" in caplog.text


def test_records_end_the_items_of_every_event():
    ended, edges = ended_lists(np.array([5, 6, 7]), np.array([2, 0, 1, 0]))
    assert ended.tolist() == [5, 6, 0, 0, 7, 0, 0]
    assert edges.tolist() == [0, 3, 4, 6, 7]
    assert padded_lists(ended).tolist() == [[5, 6], [0, 0], [7, 0], [0, 0]]
    assert padded_lists(ended[:0]).shape == (0, 1)


def test_a_kind_that_no_row_has_is_told(tmp_path, caplog):
    """It was silent beside a known one."""
    rows = [("u", "a", 1, "click"), *shown("b", 2), ("u", "c", 3, "click"), ("v", "b", 3, "click")]
    prepared(tmp_path, rows)
    assert not caplog.records
    _, figures = prepared(tmp_path, rows, exposures={"action": ["impression", "impresion"]})
    assert "No row of the log has action impresion of data.exposures. Is the spelling" in caplog.text
    assert figures["exposures"]["kinds"] == {"impression": 1, "impresion": 0}
