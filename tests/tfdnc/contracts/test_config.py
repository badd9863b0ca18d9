"""The experiment config."""

from pathlib import Path

import pytest

from tfdnc.contracts.config import dump_config, load_config, parse_config
from tfdnc.contracts.errors import UserError


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text("name: x\nmodel:\n  dim: 32\n")
    return path


def test_a_section_keeps_its_defaults_beside_what_the_file_says(config_file):
    config = load_config(config_file)
    assert config.model.dim == 32
    assert config.model.blocks == 2


def test_overrides_are_yaml_and_reach_sections_the_file_does_not_have(config_file):
    config = load_config(config_file, ["model.dim=16", "evaluate.candidates=[1, 5]", "train.learning_rate=0.01"])
    assert (config.model.dim, config.evaluate.candidates, config.train.learning_rate) == (16, (1, 5), 0.01)


def test_the_resolved_config_reads_back_equal(config_file, tmp_path):
    config = load_config(config_file, ["generate.users=10"])
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_config(config))
    assert load_config(copy) == config


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"modle": {}}, r"unknown key 'modle'; known here: .*model"),
        ({"model": {"dmi": 3}}, r"unknown key 'model.dmi'; known here: .*dim, distance_bias, dropout"),
        ({"generate": {"people": 3}}, r"unknown key 'generate.people'; known here: .*users"),
        ({"model": {"inputs": "stars"}}, "model.inputs: input should be a list, got 'stars'"),
        ({"data": {"events": "stars"}}, "data.events: input should be a mapping"),
        ({"train": {"initial": 5}}, "train.initial: input should be a path, got 5"),
        ({"model": {"inputs": ["stars"]}}, "got stars; these declare nothing. Add stars to one of them"),
        ({"train": {"epochs": "many"}}, r"train.epochs: input should be a valid integer.*'many'"),
        (
            {"data": {"kuairand": {"feedback": "clicks"}}},
            r"data.kuairand.feedback: .*'is_click', 'long_view'.*'clicks'",
        ),
        ({"data": {"kuairand": {"label": 1}}}, r"unknown key 'data.kuairand.label'; known here: feedback, tab"),
        ({"data": {"columns": {"time": "user_id"}}}, "expected another column for time than for user, .* 'user_id'"),
        ({"data": {"columns": {"weight": "timestamp"}}}, "expected another column for weight than for time"),
        ({"model": {"dim": 10, "heads": 4}}, "multiple of heads, not 10 of 4"),
        ({"export": {"num_candidates": 20, "max_candidates": 10}}, "at most max_candidates, not 20 > 10"),
        ({"evaluate": {"candidates": []}}, "evaluate.candidates: .*at least 1 item"),
        ({"evaluate": {"alphas": [float("inf")]}}, "evaluate.alphas.0: .*finite"),
        ({"merge": {"diversity": float("inf")}}, "merge.diversity: .*finite"),
        ({"train": {"learning_rate": float("inf")}}, "train.learning_rate: .*finite"),
        ({"train": {"learning_rate": 0}}, "train.learning_rate: .*greater than 0"),
        ({"train": {"hidden_items": 1}}, "train.hidden_items: .*less than 1"),
        ({"export": {"warmup_batch_sizes": [1, 1025]}}, "export.warmup_batch_sizes.1: .*less than or equal to 1024"),
        ({"data": {"columns": {"user": "ID", "item": "ID"}}}, "^config: data.columns: expected .*, both are 'ID'$"),
        ({"train": 3}, "^config: train: expected a section with keys, got 3$"),
        (
            {"train": {"batch_tokens": "x"}},
            "^config: train.batch_tokens: .* integer.* or input should be 'auto', got 'x'$",
        ),
        (
            {"data": {"validation_from": "may"}},
            "^config: data.validation_from: expected a time in ISO 8601.*, got 'may'$",
        ),
        ({"seed": -1}, "seed: .*greater than or equal to 0"),
        ({"seed": 2**31}, "seed: .*less than 2147483648"),
        ({"name": "../x"}, "name: string should match"),
        ({"train": {"epochs": -1}}, r"train.epochs: input should be greater than or equal to 0"),
    ],
)
def test_a_wrong_key_or_value_is_named(values, complaint):
    with pytest.raises(UserError, match=complaint):
        parse_config({"name": "x", **values})


def test_a_missing_key_is_named_without_all_others():
    with pytest.raises(UserError, match=r"^config: name: field required$"):
        parse_config({"seed": 3})


def test_every_wrong_key_is_named_at_once():
    with pytest.raises(UserError, match=r"'model.dmi'.*'foo'"):
        parse_config({"name": "x", "model": {"dmi": 3}, "foo": 1})


@pytest.mark.parametrize("key", ["examples.popularity_exponent", "train.negative_exponent"])
@pytest.mark.parametrize("value", ["1e308", "-11", ".inf", ".nan"])
def test_an_exponent_that_counts_cannot_bear_is_refused(config_file, key, value):
    with pytest.raises(UserError, match=f"{key}: input should be (greater|less) than or equal to -?10, got"):
        load_config(config_file, [f"{key}={float(value.replace('.', '') if value[0] == '.' else value)!r}"])


def test_a_missing_file_says_where_it_was_expected(tmp_path):
    with pytest.raises(UserError, match=r"Expected a YAML config at .*absent.yaml, found no file there"):
        load_config(tmp_path / "absent.yaml")


@pytest.mark.parametrize("override", ["model.dim", "=3", "name.first=3", "evaluate.candidates=[1"])
def test_a_malformed_override_is_refused(config_file, override):
    with pytest.raises(UserError, match="--set"):
        load_config(config_file, [override])


def test_a_file_that_is_not_utf_8_is_refused(config_file):
    config_file.write_bytes("name: é".encode("latin-1"))
    with pytest.raises(UserError, match="Expected YAML in UTF-8"):
        load_config(config_file)


@pytest.mark.parametrize(
    ("path", "locations"),
    [
        (None, ()),
        ("a.csv", ("a.csv",)),
        (Path("a/b.csv"), ("a/b.csv",)),
        (["gs://bucket/a-*.csv", Path("b.csv")], ("gs://bucket/a-*.csv", "b.csv")),
    ],
)
def test_a_log_is_a_path_a_glob_a_url_or_several_and_is_dumped_as_it_was_given(path, locations, tmp_path):
    config = parse_config({"name": "x", "data": {"path": path}})
    assert config.data.locations == locations
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize("path", [[], [3], 3, {"a": 1}, ""])
def test_what_names_no_log_is_refused(path):
    with pytest.raises(UserError, match=r"config: data.path: expected a path or a list of paths, got"):
        parse_config({"name": "x", "data": {"path": path}})


@pytest.mark.parametrize(
    ("data", "ticks"),
    [
        ({}, 1),
        ({"time_unit": "ms"}, 1000),
        ({"time_unit": "iso"}, 1_000_000),
        ({"format": "kuairand"}, 1000),
        ({"format": "movielens", "time_unit": "ms"}, 1),
    ],
)
def test_seconds_can_be_told_in_the_unit_of_the_log(data, ticks):
    assert parse_config({"name": "x", "data": data}).data.ticks_per_second == ticks


def test_every_config_in_the_repository_loads():
    files = sorted(Path(__file__).parents[3].glob("configs/*/*.yaml"))
    assert files
    for file in files:
        config = load_config(file)
        assert f"{file.parent.name}-{file.stem}" == config.name


def test_a_config_holds_only_what_differs_from_the_one_it_extends(tmp_path):
    (tmp_path / "base.yaml").write_text("model: {dim: 32, blocks: 1}\nevaluate: {candidates: [5, 10]}\nseed: 3\n")
    (tmp_path / "middle.yaml").write_text("extends: base.yaml\nmodel: {dim: 16}\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "top.yaml").write_text("extends: ../middle.yaml\nname: top\nevaluate: {candidates: [7]}\n")
    config = load_config(tmp_path / "sub" / "top.yaml", ["model.heads=2"])
    assert (config.model.dim, config.model.blocks, config.model.heads, config.seed) == (16, 1, 2, 3)
    assert config.evaluate.candidates == (7,)


@pytest.mark.parametrize(
    ("base", "complaint"),
    [("absent.yaml", "Expected a YAML config at .*absent.yaml"), ("x.yaml", "name another"), ("3", "name another")],
)
def test_an_unusable_base_is_refused(tmp_path, base, complaint):
    (tmp_path / "x.yaml").write_text(f"extends: {base}\nname: x\n")
    with pytest.raises(UserError, match=complaint):
        load_config(tmp_path / "x.yaml")


def test_configs_that_extend_each_other_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(UserError, match=r"b.yaml: expected `extends` to name another config.*'a.yaml'"):
        load_config(tmp_path / "a.yaml")


def test_yaml_dates_are_times_and_read_back(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text("name: x\ndata: {split: time, validation_from: 2022-05-01, test_from: 2022-05-08 12:00:00}\n")
    config = load_config(path)
    assert (config.data.validation_from, config.data.test_from) == ("2022-05-01", "2022-05-08T12:00:00")
    path.write_text(dump_config(config))
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"min_user_events": 2}, "min_user_events of at least 3"),
        ({"max_events_per_user": 4}, "max_events_per_user of at least min_user_events"),
        ({"split": "time", "test_from": 5}, "validation_from and test_from with split: time"),
        ({"validation_from": 5, "test_from": 6}, "with split: time, and with no other"),
        ({"split": "time", "validation_from": 6, "test_from": 6}, "validation_from before test_from"),
        ({"split": "time", "validation_from": "may", "test_from": 6}, "time in ISO 8601"),
        ({"split": "random"}, "'leave_last_two', 'time' or 'none'"),
        ({"session_gap": 0}, "greater than 0"),
        ({"train_from": 5, "columns": {"time": None}}, "columns.time to name a column with train_from"),
    ],
)
def test_a_split_or_a_rule_that_cannot_be_is_refused(data, complaint):
    with pytest.raises(UserError, match=complaint):
        parse_config({"name": "x", "data": data})


def test_item_features_need_columns_that_say_them(tmp_path):
    values = {"name": "x", "model": {"item_features": True}}
    items = {"path": str(tmp_path / "items.csv"), "features": {"brand": "value"}}
    complaint = r"^config: expected columns in data.items.features for model.item_features$"
    for data in ({}, {"items": items | {"features": {}}}, {"format": "movielens", "items": items | {"features": {}}}):
        with pytest.raises(UserError, match=complaint):
            parse_config(values | {"data": data})
    for data in ({"items": items}, {"format": "movielens"}, {"format": "kuairand"}):
        assert parse_config(values | {"data": data}).model.item_features
    assert parse_config(values | {"generate": {}}).model.item_features


def test_a_control_character_is_no_yaml(tmp_path):
    """The reader refuses it before it parses anything, which ended in a traceback."""
    (tmp_path / "x.yaml").write_text('name: x\nmodel: {encoder: "a\x01b"}\n')
    with pytest.raises(UserError, match=r"^Expected YAML in .*x\.yaml: unacceptable character #x0001"):
        load_config(tmp_path / "x.yaml")


class TestRepeatedKeys:
    """YAML libraries keep the last of two equal keys: a section `train` written twice lost its first half."""

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("name: x\ntrain:\n  epochs: 2\ntrain:\n  beta_2: 0.9\n", "found 'train' in line 4 after line 2"),
            ("name: x\nevaluate:\n  judge: {dim: 3, dim: 4}\n", "found 'evaluate.judge.dim' in line 3 after line 3"),
            ("name: x\nname: x\n", "found 'name' in line 2 after line 1"),
            ("name: x\nmodel:\n  - {dim: 1}\n  - {dim: 1, dim: 1}\n", "found 'model.1.dim' in line 4"),
            ("name: x\nmodel: {8: 1, 0x8: 2}\n", "found 'model.0x8' in line 2"),
            ("name: x\nmodel: &m {dim: 8}\ntrain: {<<: *m, <<: *m}\n", "found 'train.<<' in line 3"),
            ('name: x\nmodel: {"dim": 8, dim: 16}\n', "found 'model.dim' in line 2"),
        ],
    )
    def test_are_refused_with_key_and_line_at_any_depth(self, text, complaint, tmp_path):
        (tmp_path / "base.yaml").write_text(text)
        with pytest.raises(UserError, match=rf"every key once in .*base\.yaml, {complaint}"):
            load_config(tmp_path / "base.yaml")
        (tmp_path / "top.yaml").write_text("extends: base.yaml\nname: top\n")
        with pytest.raises(UserError, match=complaint):
            load_config(tmp_path / "top.yaml")

    def test_of_a_merge_key_the_own_ones_count(self, tmp_path):
        shared = "&c {method: random, num_clusters: 3}"
        text = f"name: x\ncluster: {shared}\nevaluate:\n  judge: {{<<: *c, num_clusters: 5}}\n"
        (tmp_path / "x.yaml").write_text(text)
        config = load_config(tmp_path / "x.yaml")
        assert (config.evaluate.judge.method, config.evaluate.judge.num_clusters) == ("random", 5)

    def test_an_override_reaches_one_of_two_sections_that_share_their_values(self, tmp_path):
        # They are one object in memory, and the judge had three clusters too.
        (tmp_path / "x.yaml").write_text("name: x\ncluster: &c {num_clusters: 5}\nevaluate: {judge: *c}\n")
        config = load_config(tmp_path / "x.yaml", ["cluster.num_clusters=3"])
        assert (config.cluster.num_clusters, config.evaluate.judge.num_clusters) == (3, 5)

    @pytest.mark.parametrize(
        ("overrides", "complaint"),
        [
            (["model={dim: 8, dim: 16}"], "every key once in --set model=.*found 'dim' in line 1"),
            (["model.dim=8", "model.dim=16"], r"one value for model.dim, got --set model.dim=8 and --set model.dim=16"),
            (["model.dim=8", "model={blocks: 1}"], r"one value for model, got --set model.dim=8 and --set model={bl"),
            (["model={dim: 8}", "model.dim=16"], r"one value for model, got --set model={dim: 8} and --set model.d"),
            (["evaluate.judge=null", "evaluate.judge.method=random"], "one value for evaluate.judge, got"),
        ],
    )
    def test_of_overrides_are_refused_where_the_later_one_would_undo_the_earlier(
        self, overrides, complaint, config_file
    ):
        with pytest.raises(UserError, match=complaint):
            load_config(config_file, overrides)

    def test_overrides_that_agree_or_complete_each_other_are_applied_in_order(self, config_file):
        config = load_config(config_file, ["model={dim: 8}", "model.heads=2", "model.dim=8", "model.heads=2"])
        assert (config.model.dim, config.model.heads) == (8, 2)


def test_a_date_that_does_not_exist_is_no_yaml(config_file):
    config_file.write_text("name: 2026-13-01\n")
    with pytest.raises(UserError, match=r"Expected YAML in .*experiment\.yaml"):
        load_config(config_file)


class TestNegativeSets:
    """A loss that samples met one and the same negative of a position in every epoch, unless told otherwise."""

    @pytest.mark.parametrize(
        ("train", "sets"),
        [
            ({"loss": "bce"}, 0),
            ({"loss": "bce", "negatives": "records"}, 1),
            ({"loss": "bce", "negatives": "rotating"}, 10),
            ({"loss": "in_cluster_softmax", "negatives": "records"}, 0),
            ({}, 0),
        ],
    )
    def test_records_hold_as_many_as_the_training_reads(self, train, sets):
        config = parse_config({"name": "x", "train": train})
        assert (config.examples.negative_sets, config.examples.recorded_negatives) == (sets, sets)

    def test_bce_draws_its_negatives_anew_by_default(self):
        assert parse_config({"name": "x"}).train.negatives == "online"

    def test_a_number_in_the_config_counts_and_null_is_none(self):
        def recorded(sets):
            examples = {"negative_sets": sets, "num_negatives": 3}
            return parse_config({"name": "x", "examples": examples, "train": {"loss": "bce", "negatives": "rotating"}})

        assert recorded(2).examples.recorded_negatives == 6
        assert recorded(None).examples.recorded_negatives == 30

    def test_records_without_what_is_read_are_refused_before_a_station_works(self):
        values = {"examples": {"negative_sets": 0}, "train": {"loss": "bce", "negatives": "records"}}
        with pytest.raises(UserError, match=r"negative_sets of 1 or more, train\.negatives records reads them"):
            parse_config({"name": "x", **values})

    def test_what_a_run_was_made_with_takes_another_source_on_top(self, tmp_path):
        """The resolved config said `negative_sets: 0`, which no source that reads the records goes with."""
        config = parse_config({"name": "x", "train": {"loss": "bce"}})
        (tmp_path / "config.yaml").write_text(dump_config(config))
        assert load_config(tmp_path / "config.yaml") == config
        assert load_config(tmp_path / "config.yaml", ["train.negatives=records"]).examples.negative_sets == 1
