"""KuaiRand's folder of logs: the files and rows that are read, left out, or malformed."""

import json
from pathlib import Path

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs.item_details import find_details
from beam_jobs.logs.log_files import cut
from beam_jobs.logs.log_formats import find_log
from beam_jobs.packing import unpack
from beam_jobs.sequence_steps import ReadPiece
from tfdnc.contracts import schema
from tfdnc.contracts.config import load_config
from tfdnc.contracts.data_config import DataConfig, ItemFile
from tfdnc.contracts.errors import UserError

COLUMNS = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
EARLY, LATE = "log_standard_4_08_to_4_21_pure.csv", "log_standard_4_22_to_5_08_pure.csv"
VIDEOS = "video_features_basic_pure.csv"


def line(user, video, time, click=1, tab=1, long_view=0):
    """Returns one row of the 19 columns."""
    return f"{user},{video},20220422,1200,{time},{click},0,0,0,0,0,{long_view},5,9,0,0,0,0,{tab}"


@pytest.fixture
def kuairand(tmp_path):
    """Writes {file name: rows} as a folder of KuaiRand."""

    def write(**files):
        folder = tmp_path / "data"
        folder.mkdir()
        for name, rows in files.items():
            path = folder / {"early": EARLY, "late": LATE}.get(name, f"{name}.csv")
            path.write_text("\n".join([COLUMNS, *rows]) + "\n")
        return folder

    return write


@pytest.fixture
def prepare_kuairand(prepare_log):
    """Runs the job on a folder; options of the `kuairand` section go by name."""

    def run(folder, runner_args=(), name="prepared", min_user_events=3, **rows):
        return prepare_log(folder, runner_args, name, format="kuairand", kuairand=rows, min_user_events=min_user_events)

    return run


def test_rows_without_the_feedback_are_left_out_and_counted(kuairand, prepare_kuairand, read_users):
    rows = [line(7, 10, 1), line(7, 11, 2, click=0), line(7, 12, 3), line(7, 13, 4, click=""), line(7, 14, 5)]
    figures, prepared = prepare_kuairand(kuairand(early=rows))
    assert read_users(prepared) == {"7": [("10", 1), ("12", 3), ("14", 5)]}
    assert figures["rows_filtered"] == {"feedback": 2, "min_item_events": 0, "min_user_events": 0}
    assert figures["rows_malformed"] == {}  # blank is unknown, and an unknown click is none
    assert figures["rows_read"] == 5
    assert pq.read_table(prepared / schema.VOCABULARY)["item_id"].to_pylist() == ["10", "12", "14"]


def test_any_feedback_column_may_be_the_one_that_counts(kuairand, prepare_kuairand, read_users):
    rows = [line(7, video, video, click=0, long_view=video % 2) for video in range(1, 7)]
    _, prepared = prepare_kuairand(kuairand(early=rows), feedback="long_view")
    assert read_users(prepared) == {"7": [("1", 1), ("3", 3), ("5", 5)]}


def test_only_rows_of_the_tab_count_and_a_row_is_counted_under_the_first_rule(kuairand, prepare_kuairand, read_users):
    rows = [line(7, video, video, tab=1) for video in (1, 2, 3)]
    rows += [line(7, 4, 4, tab=0), line(7, 5, 5, tab=11), line(7, 6, 6, tab=""), line(7, 7, 7, click=0, tab=0)]
    folder = kuairand(early=rows)
    figures, prepared = prepare_kuairand(folder, tab=1)
    assert read_users(prepared) == {"7": [("1", 1), ("2", 2), ("3", 3)]}
    assert figures["rows_filtered"] == {"feedback": 1, "tab": 3, "min_item_events": 0, "min_user_events": 0}
    figures, _ = prepare_kuairand(folder, name="all tabs")
    assert figures["events"] == 6


def test_other_values_of_feedback_and_tab_are_malformed(kuairand, prepare_kuairand):
    bad = [line(7, 4, 4, click=2), line(7, 4, 4, click="1.0"), line(7, 4, 4, click=0, tab="x"), line(7, 4, "", click=2)]
    figures, prepared = prepare_kuairand(kuairand(early=[*(line(7, video, 1) for video in range(9)), *bad]), tab=1)
    assert figures["rows_malformed"] == {
        "is_click is neither blank, 0 nor 1": 2,
        "tab is neither blank nor a plain integer": 1,
        "time is not an integer": 1,
    }
    assert figures["rows_filtered"]["feedback"] == 0  # a malformed row is counted once
    letters = [json.loads(text) for text in (prepared / schema.DEAD_LETTER / f"{EARLY}.jsonl").read_text().splitlines()]
    assert [letter["text"] for letter in letters] == bad


def test_the_tab_is_not_read_without_the_setting(kuairand, prepare_kuairand):
    figures, _ = prepare_kuairand(kuairand(early=[line(7, video, video, tab="x") for video in range(3)]))
    assert figures["rows_malformed"] == {}


def test_all_standard_logs_are_read_and_no_random_one(kuairand, prepare_kuairand, read_users):
    folder = kuairand(
        late=[line(7, 1, 30), line(7, 2, 5)], early=[line(7, 3, 10)], log_random_4_22_to_5_08_pure=[line(7, 9, 1)]
    )
    figures, prepared = prepare_kuairand(folder)
    assert read_users(prepared) == {"7": [("2", 5), ("3", 10), ("1", 30)]}  # by time, across the files
    assert figures["rows_read"] == 3


@pytest.mark.parametrize(
    "names",
    [
        ["log_standard_4_08_to_4_21_pure.csv", "log_standard_4_22_to_5_08_pure.csv"],
        ["log_standard_4_08_to_4_21_1k.csv", "log_standard_4_22_to_5_08_1k.csv"],
        [f"log_standard_{days}_27k_part{part}.csv" for days in ("4_08_to_4_21", "4_22_to_5_08") for part in (1, 2)],
    ],
)
def test_the_files_of_every_release_are_read_in_order(kuairand, prepare_kuairand, read_users, names):
    release = names[0].removesuffix(".csv").split("_")[6]
    folder = kuairand(
        **{name.removesuffix(".csv"): [line(7, video, 5) for video in (n, n + 10)] for n, name in enumerate(names)},
        **{f"log_random_4_22_to_5_08_{release}": [line(7, 99, 5)]},
    )
    (folder / f"video_features_basic_{release}.csv").write_text("video_id,tag\n0,39\n")
    (folder / f"video_features_statistic_{release}.csv").write_text("video_id,counts\n0,5\n")
    (folder / f"user_features_{release}.csv").write_text("user_id\n7\n")
    _, prepared = prepare_kuairand(folder)
    in_order = [str(video) for n in range(len(names)) for video in (n, n + 10)]
    assert [video for video, _ in read_users(prepared)["7"]] == in_order
    assert pq.read_table(prepared / schema.VOCABULARY)["categories"].to_pylist()[0] == ["39"]


def test_the_config_of_the_paper_has_its_filters():
    data = load_config(Path(__file__).parents[3] / "configs/kuairand27k/dnc.yaml").data
    assert (data.kuairand.feedback, data.kuairand.tab) == ("is_click", 1)
    assert (data.min_item_events, data.min_user_events) == (70, 10)


def test_equal_times_keep_the_order_of_the_file_names_and_duplicates_stay(kuairand, prepare_kuairand, read_users):
    # The rows of the late file have smaller offsets: the order is by file, then by offset.
    early = [line(8, 1, 1)] * 20 + [line(7, video, 5) for video in (3, 1, 1, 2)]
    late = [line(7, video, 5) for video in (9, 1)]
    _, prepared = prepare_kuairand(kuairand(late=late, early=early), ["--chunk_bytes=200"])
    assert [video for video, _ in read_users(prepared)["7"]] == ["3", "1", "1", "2", "9", "1"]


def test_columns_are_found_in_every_file_by_name(kuairand, prepare_kuairand, read_users):
    folder = kuairand(early=[line(7, video, video) for video in (1, 2)])
    (folder / LATE).write_text("time_ms,is_click,video_id,user_id\n3,1,5,7\n4,0,6,7\n")
    _, prepared = prepare_kuairand(folder)
    assert read_users(prepared) == {"7": [("1", 1), ("2", 2), ("5", 3)]}


def test_users_and_videos_are_sorted_as_numbers(kuairand, prepare_kuairand, read_users):
    rows = [line(user, video, user) for user in (10, 9, 2, 100) for video in (30, 4, 7)]
    _, prepared = prepare_kuairand(kuairand(early=rows))
    files = [pq.read_table(path)["user_id"].to_pylist() for path in sorted((prepared / schema.SEQUENCES).iterdir())]
    assert {user for users in files for user in users} == {"2", "9", "10", "100"}
    assert all(users == sorted(users, key=int) for users in files)
    assert pq.read_table(prepared / schema.VOCABULARY)["item_id"].to_pylist() == ["4", "7", "30"]


def test_categories_are_the_tags_and_the_first_one_stays_first(kuairand, prepare_kuairand):
    folder = kuairand(early=[line(7, video, video) for video in (1, 2, 3, 4)])
    (folder / VIDEOS).write_text('video_id,author_id,tag\n1,5,39\n2,5,"12,3"\n3,5,\n')
    _, prepared = prepare_kuairand(folder)
    assert pq.read_table(prepared / schema.VOCABULARY).select(["title", "categories"]).to_pylist() == [
        {"title": None, "categories": ["39"]},
        {"title": None, "categories": ["12", "3"]},
        {"title": None, "categories": []},
        {"title": None, "categories": None},
    ]


def test_video_features_are_optional_one_file_and_give_way_to_the_config(kuairand, tmp_path):
    folder = kuairand(early=[])
    config = DataConfig(format="kuairand", path=folder)
    assert find_details(config) is None
    (folder / VIDEOS).write_text("video_id,tag\n")
    assert find_details(config).file.path == str(folder / VIDEOS)
    own = tmp_path / "own.csv"
    own.write_text("item_id,title\n")
    assert find_details(config.model_copy(update={"items": ItemFile(path=own, title="title")})).file.path == str(own)
    (folder / "video_features_basic_1k.csv").write_text("video_id,tag\n")
    with pytest.raises(UserError, match=r"Expected one video_features_basic\*.csv in .*set data.items to choose"):
        find_details(config)


MODES = {
    "a_byte": ["--chunk_bytes=1"],
    "small_chunks": ["--chunk_bytes=499"],
    "multi_threading": ["--direct_running_mode=multi_threading", "--direct_num_workers=2", "--chunk_bytes=2000"],
    "multi_processing": ["--direct_running_mode=multi_processing", "--direct_num_workers=2", "--chunk_bytes=2000"],
}


@pytest.mark.parametrize("mode", MODES)
def test_the_same_bytes_for_every_chunk_size_and_mode_of_the_runner(kuairand, prepare_kuairand, bytes_of, mode):
    clicks = ["2" if n % 40 == 7 else ("1", "1", "", "1", "0")[n % 5] for n in range(150)]
    rows = [line(n % 13, n * 7 % 17, n % 3, click=click) for n, click in enumerate(clicks)]  # many equal times
    folder = kuairand(early=rows[:100], late=rows[100:])
    expected, prepared = prepare_kuairand(folder, name="expected")
    figures, again = prepare_kuairand(folder, MODES[mode], name="again")
    assert figures == expected
    assert bytes_of(again) == bytes_of(prepared)
    assert {path.name for path in (prepared / schema.DEAD_LETTER).iterdir()} == {f"{EARLY}.jsonl", f"{LATE}.jsonl"}


def test_read_piece_counts_every_row_once_and_numbers_blocks_by_file(kuairand):
    folder = kuairand(
        early=[line(7, 1, 1), line(7, 2, 2, click=0), line(7, 3, "?")], late=[line(7, 4, 1), line(7, 5, 2, tab=0)]
    )
    log = find_log(DataConfig(format="kuairand", path=folder, kuairand={"tab": 1}))
    start = len(COLUMNS) + 1
    with test_pipeline.TestPipeline(runner="FnApiRunner", options=PipelineOptions([])) as graph:
        outputs = (
            graph
            | beam.Create([0, 1])
            | beam.FlatMap(lambda number: cut(log, number, 1 << 20))
            | beam.ParDo(ReadPiece(log, num_buckets=1, chunk_bytes=1 << 20)).with_outputs()
        )
        blocks = outputs.events | beam.MapTuple(lambda bucket, piece: (piece[0], unpack(piece[1])["item"].to_pylist()))
        assert_that(blocks, equal_to([((0, start), ["1"]), ((1, start), ["4"])]), "events")
        counts = outputs.items | beam.Map(lambda packed: unpack(packed)["item_id"].to_pylist())
        assert_that(counts, equal_to([["1"], ["4"]]), "counts")
        expected = [
            {"filtered: feedback": 1, "filtered: tab": 0, "malformed: time is not an integer": 1, "rows_read": 3},
            {"filtered: feedback": 0, "filtered: tab": 1, "rows_read": 2},
        ]
        assert_that(outputs.figures, equal_to(expected), "figures")
        names = outputs.malformed | beam.MapTuple(lambda name, block: (name, json.loads(block[1])["text"][:3]))
        assert_that(names, equal_to([(EARLY, "7,3")]), "malformed")


def test_errors_name_the_expected_content(kuairand, prepare_kuairand, tmp_path):
    folder = kuairand()
    with pytest.raises(
        UserError, match=r"Expected log_standard_\*.csv in folder .*data, found none there; set data.pa"
    ):
        find_log(DataConfig(format="kuairand", path=folder))
    (folder / EARLY).write_text("user_id,video_id,time_ms\n")
    with pytest.raises(
        UserError, match=r"Expected column 'is_click' in .*log_standard.* found user_id, video_id, time"
    ):
        find_log(DataConfig(format="kuairand", path=folder))
    (folder / EARLY).write_text(f"{COLUMNS}\n")
    with pytest.raises(
        UserError, match=r"Expected events in .*data \(log_standard_4_08_to_4_21_pure.csv\), found no ro"
    ):
        prepare_kuairand(folder, name="no rows")
    (folder / EARLY).write_text("\n".join([COLUMNS, line(7, 1, 1, click=0), line(7, 1, 1, tab=3), line(7, 1, 1)]))
    with pytest.raises(
        UserError, match=r"3 rows read, 0 malformed, 1 left out by data.kuairand.feedback, 1 left out by"
    ):
        prepare_kuairand(folder, name="nothing left", tab=1)
    (folder / LATE).write_text("\n".join([COLUMNS, *[line(7, 1, "soon", click="?")] * 4]))
    with pytest.raises(UserError, match=r"57.14% \(4 of 7; time is not an integer: 4\).*\n.*soon(.*\n.*){2}$"):
        prepare_kuairand(folder, name="malformed")
