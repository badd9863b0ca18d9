"""The first job as a whole: from a log to sequences, a vocabulary, dead letters and figures."""

import hashlib
import json
from collections import Counter

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs import pipeline, sequences
from beam_jobs.logs.log_files import cut
from beam_jobs.logs.log_formats import find_log
from beam_jobs.packing import pack, unpack
from beam_jobs.sequence_steps import ReadPiece
from beam_jobs.vocabulary import AddItemCounts
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import ColumnMapping, DataConfig, ItemFile
from tfdnc.contracts.errors import UserError


def fn_api_pipeline():
    return test_pipeline.TestPipeline(runner="FnApiRunner", options=PipelineOptions([]))


def oracle(rows, min_item_events, min_user_events):
    """Returns (users, events filtered by item, events filtered by user), computed in simple Python."""
    items = Counter(item for _, item, _ in rows)
    frequent = [row for row in rows if items[row[1]] >= min_item_events]
    lengths = Counter(user for user, _, _ in frequent)
    kept = [row for row in frequent if lengths[row[0]] >= min_user_events]
    users = {}
    for user, item, time in sorted(kept, key=lambda row: row[2]):  # stable: ties keep file order
        users.setdefault(user, []).append((item, time))
    return users, len(rows) - len(frequent), len(frequent) - len(kept)


def oracle_sha256(users):
    ids = sorted(users, key=int) if all(user.isdigit() for user in users) else sorted(users)
    lines = "".join(f"{user} {users[user][-2][0]} {users[user][-1][0]}\n" for user in ids)
    return hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize("prefix", ["", "user-"])
def test_result_equals_the_plain_python_oracle(write_csv, prepare_log, read_users, prefix):
    rng = np.random.default_rng(1)
    items = rng.zipf(1.3, 3000) % 200
    # Few distinct times: most events are ties.
    rows = [
        (f"{prefix}{user}", str(item), int(time))
        for user, item, time in zip(rng.zipf(1.2, 3000) % 300, items, rng.integers(0, 6, 3000), strict=True)
    ]
    figures, prepared = prepare_log(write_csv(rows), min_item_events=5, min_user_events=4, num_shards=5)
    users, rare_items, short_users = oracle(rows, 5, 4)
    assert read_users(prepared) == users
    assert figures["split_sha256"] == oracle_sha256(users)
    assert figures["rows_filtered"] == {"min_item_events": rare_items, "min_user_events": short_users}
    vocabulary = pq.read_table(prepared / schema.VOCABULARY)
    assert vocabulary.schema == schema.VOCABULARY_SCHEMA
    events = Counter(item for sequence in users.values() for item, _ in sequence)
    assert vocabulary["item_id"].to_pylist() == sorted(events, key=int)
    assert vocabulary["events"].to_pylist() == [events[item] for item in sorted(events, key=int)]
    assert vocabulary["sequence_index"].to_pylist() == list(range(1, len(events) + 1))
    assert (figures["users"], figures["items"]) == (len(users), len(events))


def test_counts_add_up(tmp_path, prepare_log):
    rows = ["user_id,item_id,timestamp", *(f"{u},{i},{u + i}" for u in range(4) for i in range(4))]
    rows += ["0,rare,1", "9,1,1", "9,2,2", "", ",3,4", "broken", "1,2,soon"]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(rows))
    figures, _ = prepare_log(path, min_item_events=2)
    assert figures["rows_malformed"] == {
        "empty user id": 1,
        "time is not an integer": 1,
        "wrong number of columns": 1,
    }
    assert figures["rows_filtered"] == {"min_item_events": 1, "min_user_events": 2}
    assert figures["events"] == 16
    gone = sum(figures["rows_malformed"].values()) + sum(figures["rows_filtered"].values())
    assert figures["rows_read"] == figures["events"] + gone == 22
    assert json.loads(json.dumps(figures)) == figures


@pytest.mark.parametrize(
    ("unit", "days", "year"),
    [("ms", ["2000-04-25", "2003-02-28"], None), ("s", None, 35130), ("us", None, 1970)],
)
def test_the_figures_have_the_days_of_the_log_and_a_warning_suggests_another_unit(
    write_csv, prepare_log, caplog, unit, days, year
):
    rows = [(user, item, 956_703_932_000) for user in "abc" for item in "xyz"]
    rows += [("d", "x", 1_046_454_590_000), ("d", "x", 1_000_000_000_000), ("d", "y", 1_000_000_000_001)]
    rows += [("rare", "z", 1), ("rare", "y", 2**62)]  # dropped with their user
    figures, _ = prepare_log(write_csv(rows), num_shards=3, time_unit=unit)
    assert figures["times"] == [956_703_932_000, 1_046_454_590_000]
    assert figures["days"] == days
    question = f"reach the year {year}: are they in another unit than data.time_unit = {unit}?"
    answer = "In ms they would be 2000-04-25 to 2003-02-28: set data.time_unit: ms."
    assert (question in caplog.text and answer in caplog.text) if year else ("unit" not in caplog.text)


@pytest.mark.parametrize("unit", ["s", "ms"])
def test_a_clock_that_starts_with_the_log_gets_no_warning(write_csv, prepare_log, caplog, unit):
    """Regression: times 1 to 3 in seconds were taken for dates in ticks of 10^9 seconds, with the advice to set ms."""
    prepare_log(write_csv([(user, item, time) for user in "abc" for time, item in enumerate("xyz", 1)]), time_unit=unit)
    assert "unit" not in caplog.text


def test_timestamps_made_from_numbers_of_a_wrong_unit_get_a_warning(write_csv, prepare_log, caplog):
    rows = [(user, item, f"1970-01-19T{time}:00") for user in "abc" for time, item in enumerate("xyz", 10)]
    figures, _ = prepare_log(write_csv(rows), time_unit="iso")
    assert figures["days"] is None
    assert "Ticks 1000^1 times as long would make them 2020-06-03 to 2020-08-26." in caplog.text


def test_user_with_two_events_is_dropped_and_three_are_enough(write_csv, prepare_log, read_users):
    rows = [("two", "x", 1), ("two", "y", 2), ("three", "x", 3), ("three", "y", 1), ("three", "x", 2)]
    figures, prepared = prepare_log(write_csv(rows))
    assert read_users(prepared) == {"three": [("y", 1), ("x", 2), ("x", 3)]}
    assert figures["rows_filtered"]["min_user_events"] == 2


def test_item_without_a_kept_event_is_not_in_the_vocabulary(write_csv, prepare_log):
    rows = [("a", "x", 1), ("a", "y", 2), ("a", "z", 3), ("b", "only-b", 1), ("b", "only-b", 2)]
    figures, prepared = prepare_log(write_csv(rows))
    assert pq.read_table(prepared / schema.VOCABULARY)["item_id"].to_pylist() == ["x", "y", "z"]
    assert figures["items"] == 3


def test_files_are_named_and_typed_by_the_schema_even_if_empty(write_csv, prepare_log):
    _, prepared = prepare_log(write_csv([("a", "x", t) for t in range(3)]), num_shards=4)
    files = sorted((prepared / schema.SEQUENCES).iterdir())
    assert [path.name for path in files] == [schema.shard_name(shard, 4, "parquet") for shard in range(4)]
    assert all(pq.read_schema(path) == schema.SEQUENCE_SCHEMA for path in files)
    assert sum(pq.read_metadata(path).num_rows for path in files) == 1
    assert {path.name for path in prepared.iterdir()} == {schema.SEQUENCES, schema.VOCABULARY, schema.DEAD_LETTER}


def test_malformed_rows_reach_the_dead_letter_file_in_file_order(write_csv, prepare_log):
    rows = [("a", "x", 1), ("a", "", 2), ("b", "x", "?"), ("a", "y", 2), ("a", "z", 3)]
    _, prepared = prepare_log(write_csv(rows), ["--chunk_bytes=7"])
    (path,) = (prepared / schema.DEAD_LETTER).iterdir()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"file": "log.csv", "offset": 32, "text": "a,,2", "reason": "empty item id"},
        {"file": "log.csv", "offset": 37, "text": "b,x,?", "reason": "time is not an integer"},
    ]


def test_too_many_malformed_rows_fail_with_share_limit_and_examples(write_csv, prepare_log):
    rows = [("a", "x", t) for t in range(8)] + [("b", "x", "?"), ("c", "", 1)]
    with pytest.raises(UserError, match=r"at most 10.00% malformed rows .*, found 20.00% \(2 of 10;") as error:
        prepare_log(write_csv(rows), max_malformed_share=0.1)
    assert '"b,x,?"' in str(error.value)
    prepare_log(write_csv(rows), max_malformed_share=0.2, name="allowed")


@pytest.mark.parametrize("rows", [[], ["", ""]])
def test_empty_log_is_an_error(tmp_path, prepare_log, rows):
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    with pytest.raises(UserError, match=r"Expected events in .*log.csv, found no rows"):
        prepare_log(path)


def test_log_with_nothing_left_is_an_error_with_the_counts(write_csv, prepare_log):
    rows = [("a", "x", 1), ("a", "x", 2), ("a", "rare", 3), ("b", "x", 1)]
    with pytest.raises(UserError, match=r"4 rows read, 0 malformed, 1 of items with fewer .* 3 of users with fewer"):
        prepare_log(write_csv(rows), min_item_events=2)


def test_movielens_folder(tmp_path, prepare_log, read_users):
    (tmp_path / "ratings.dat").write_text("".join(f"1::{item}::5::978300019\n" for item in (30, 4, 30, 7)))
    (tmp_path / "movies.dat").write_bytes("4::Amélie (2001)::Comedy|Romance\n".encode("latin-1"))
    _, prepared = prepare_log(tmp_path, format="movielens")
    assert [item for item, _ in read_users(prepared)["1"]] == ["30", "4", "30", "7"]
    assert pq.read_table(prepared / schema.VOCABULARY).select(["item_id", "title", "categories"]).to_pylist() == [
        {"item_id": "4", "title": "Amélie (2001)", "categories": ["Comedy", "Romance"]},
        {"item_id": "7", "title": None, "categories": None},
        {"item_id": "30", "title": None, "categories": None},
    ]


def test_csv_with_mapped_columns_and_item_file(tmp_path, prepare_log, read_users):
    (tmp_path / "log.csv").write_text("t,extra,i,u\n3,_,b,U\n1,_,a,U\n2,_,b,U\n")
    (tmp_path / "items.csv").write_text("video,tags\nb,3;4\n")
    items = ItemFile(path=tmp_path / "items.csv", item="video", categories="tags", separator=";")
    _, prepared = prepare_log(tmp_path / "log.csv", columns=ColumnMapping(user="u", item="i", time="t"), items=items)
    assert read_users(prepared) == {"U": [("a", 1), ("b", 2), ("b", 3)]}
    assert pq.read_table(prepared / schema.VOCABULARY)["categories"].to_pylist() == [None, ["3", "4"]]


def test_a_workers_user_error_reaches_the_driver_as_one(tmp_path, write_csv, prepare_log):
    path = write_csv([("a", "x", t) for t in range(5)])
    items = tmp_path / "items.csv"
    items.write_text("item_id,price\nx,cheap\n")
    with pytest.raises(UserError, match=r"^Expected numbers in column 'price' of .*items.csv, found 'cheap'; set"):
        prepare_log(path, items=ItemFile(path=items, features={"price": "number"}))


@pytest.mark.parametrize("lost", ["rows_read", "written: files", "written: events", "users of the split"])
def test_a_runner_that_loses_data_is_found_out(write_csv, prepare_log, monkeypatch, lost):
    def lossy(build, output, options):
        result = pipeline.run(build, output, options)
        return {**result, lost: result[lost] + 1}

    monkeypatch.setattr(sequences, "run", lossy)
    with pytest.raises(RuntimeError, match=r"Expected \d+ .*, found \d+: the runner lost data"):
        prepare_log(write_csv([("a", "x", t) for t in range(4)]))


def test_read_piece_emits_packed_columns_per_bucket(write_csv):
    log = find_log(DataConfig(path=write_csv([("a", "x", 1), ("a", "y", 2), ("b", "x", 3), ("", "x", 4)])))
    with fn_api_pipeline() as graph:
        outputs = (
            graph
            | beam.Create(cut(log, 0, 1 << 20))
            | beam.ParDo(ReadPiece(log, num_buckets=1, chunk_bytes=1 << 20)).with_outputs()
        )
        sizes = outputs.events | beam.MapTuple(lambda bucket, piece: (bucket, piece[0], unpack(piece[1]).num_rows))
        assert_that(sizes, equal_to([(0, (0, log.files[0].data_start), 3)]), "events")
        counts = outputs.items | beam.Map(lambda packed: sorted(unpack(packed).to_pydict().items()))
        assert_that(counts, equal_to([[("events", [2, 1]), ("item_id", ["x", "y"])]]), "counts")
        assert_that(outputs.figures, equal_to([{"malformed: empty user id": 1, "rows_read": 4}]), "figures")
        offsets = outputs.malformed | beam.MapTuple(lambda name, block: (name, json.loads(block[1])["offset"]))
        assert_that(offsets, equal_to([("log.csv", log.files[0].data_start + 18)]), "malformed")


def test_item_counts_of_many_blocks_add_up():
    def packed(**counts):
        return pack(pa.record_batch({"item_id": list(counts), "events": pa.array(list(counts.values()), pa.int64())}))

    with fn_api_pipeline() as graph:
        total = (
            graph
            | beam.Create([packed(a=1, b=2)] * 40 + [packed(c=5)])
            | beam.CombineGlobally(AddItemCounts())
            | beam.Map(lambda result: sorted(map(tuple, (row.values() for row in unpack(result).to_pylist()))))
        )
        assert_that(total, equal_to([[("a", 40), ("b", 80), ("c", 5)]]))
