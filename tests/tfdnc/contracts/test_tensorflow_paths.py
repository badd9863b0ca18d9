"""Paths that TensorFlow reads as patterns: in `runs [v2]` a training ended, and its weights were never found again."""

import pytest

from serving.bundles import bundle
from tfdnc.backend import tf
from tfdnc.cli.station_runs import run_stations
from tfdnc.comparison.grid import expand, variants_of
from tfdnc.comparison.work import check
from tfdnc.contracts.config import load_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.tensorflow_paths import tensorflow_path
from tfdnc.pipeline import stations

HOSTILE = ["[v2]", "v\\2", "v*", "v?"]


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("name: x\n")
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_a_character_of_a_pattern_is_refused_by_name_before_a_station_works(name, tmp_path, config_file):
    runs, character = tmp_path / name, next(c for c in name if c in "[\\*?")
    with pytest.raises(UserError) as refused:
        run_stations(load_config(config_file), runs / "x")
    assert f"a path without {character}, which TensorFlow reads as part of a pattern" in str(refused.value)
    with pytest.raises(UserError, match="TensorFlow reads as part of a pattern"):
        check(expand(variants_of([config_file], []), [1]), runs, stations.stations_of)
    with pytest.raises(UserError, match="TensorFlow reads as part of a pattern"):
        bundle.check(runs / "1")
    assert not runs.exists()


@pytest.mark.parametrize("name", ["a b", "{a,b}", "a]", "Größe", "100%", "$HOME", "a'b", "#1"])
def test_other_characters_are_nothing_to_tensorflow(name, tmp_path):
    write_and_read(tmp_path / name)


def test_below_the_working_folder_it_does_not_matter_what_that_is_called(tmp_path, monkeypatch):
    (tmp_path / "[v2]").mkdir()
    monkeypatch.chdir(tmp_path / "[v2]")
    write_and_read(tmp_path / "[v2]" / "runs")
    # Or there would be nothing to mend.
    with pytest.raises(tf.errors.NotFoundError):
        tf.train.load_checkpoint(str(tmp_path / "[v2]" / "runs" / "weights"))


def write_and_read(folder):
    """A checkpoint as the train station writes it."""
    checkpoint = tf.train.Checkpoint(variable=tf.Variable([1.0]))
    checkpoint.write(tensorflow_path(folder / "weights"))
    assert tf.train.load_checkpoint(tensorflow_path(folder / "weights")).get_variable_to_shape_map()
    manager = tf.train.CheckpointManager(checkpoint, tensorflow_path(folder / "checkpoints"), max_to_keep=1)
    manager.save()
    latest = manager.save()
    assert tf.train.get_checkpoint_state(tensorflow_path(folder / "checkpoints")).model_checkpoint_path == latest
    checkpoint.restore(latest).assert_existing_objects_matched()
    assert len(list((folder / "checkpoints").iterdir())) == 3  # the earlier one is gone
