"""Seconds until a recall: of a file of epochs, and of a run that validates now and then."""

import json
import math

from developer_benchmarks.peers import curves, table


def test_curves_of_a_file_have_a_point_for_every_epoch_of_every_model(tmp_path):
    rows = [
        {"name": "a", "epoch": 1, "cpu_seconds": 5.0, "recall@10": 0.1},
        {"name": "b", "epoch": 1, "cpu_seconds": 7.0, "recall@10": 0.2},
        {"name": "a", "epoch": 2, "cpu_seconds": 10.0, "recall@10": 0.3},
    ]
    file = tmp_path / "peer.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert curves(file) == {"a": [(5.0, 0.1), (10.0, 0.3)], "b": [(7.0, 0.2)]}


def test_seconds_of_a_run_are_summed_up_over_epochs_without_a_validation(tmp_path):
    epochs = [{"cpu_seconds": 2.0}, {"cpu_seconds": 3.0, "val_recall@10": 0.25}]
    (tmp_path / "mine" / "train").mkdir(parents=True)
    (tmp_path / "mine" / "train" / "history.json").write_text(json.dumps(epochs))
    [(name, points)] = curves(tmp_path / "mine").items()
    assert name == "mine"
    assert points[1] == (5.0, 0.25)
    assert points[0][0] == 2.0
    assert math.isnan(points[0][1])


def test_a_recall_that_is_not_reached_has_an_empty_cell():
    lines = table({"mine": [(2.0, math.nan), (5.0, 0.26)]})
    assert lines[0] == "| model | epochs | CPU s per epoch | R@10 0.20 | R@10 0.25 | R@10 0.28 | R@10 0.30 |"
    assert lines[2] == "| mine | 2 | 2.5 | 5 | 5 |  |  |"
