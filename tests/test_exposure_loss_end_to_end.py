"""End to end with a loss that reads exposures, on a log whose events are few and whose exposures say what is alike.

100 items are in ten groups, and a user stays in one. Four events each do not tell the groups, five exposures after
every event do. Neither model reads exposures as an input.
"""

import json

import numpy as np
import pytest
import yaml

from tfdnc.cli.main import main
from tfdnc.training.checkpoint import read_checkpoint

CONFIG = {
    "name": "loss",
    "data": {"exposures": {"action": ["impression"]}, "num_shards": 1, "min_item_events": 1, "min_user_events": 3},
    "cluster": {"method": "random", "num_clusters": 2},
    "model": {"dim": 16, "blocks": 1, "max_length": 4, "encoder": "transformer", "dropout": 0.0},
    "train": {
        "loss": "in_cluster_exposure_softmax",
        "exposure_weight": 0.5,
        "epochs": 20,
        "learning_rate": 0.01,
        "warmup_steps": 5,
        "batch_tokens": 40,
        "validate_every": 20,
    },
    "evaluate": {"candidates": [10], "within_cluster": [5], "alphas": [1], "joint_alphas": [1], "floors": [1]},
}


def write_log(file, users=200, events=4, groups=10, size=10):
    rng = np.random.default_rng(1)
    rows = ["user_id,item_id,timestamp,action"]
    for user in range(users):
        group, at = rng.integers(groups), 0
        for item in rng.permutation(size)[:events]:
            rows.append(f"{user},i{size * group + item},{at},click")
            rows += [f"{user},i{size * group + rng.integers(size)},{at + 1},impression" for _ in range(5)]
            at += 2
    file.write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loss")
    write_log(folder / "log.csv")
    config = CONFIG | {"data": CONFIG["data"] | {"path": str(folder / "log.csv")}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["evaluate", str(folder / "config.yaml"), "--runs", str(folder / "runs")]) == 0
    return folder / "runs" / "loss"


def test_the_loss_learns_from_what_was_passed_over(run):
    report = json.loads((run / "evaluate" / "report.json").read_text())
    # `in_cluster_sampled_softmax` has .605: the same model without exposures.
    assert report["merge"]["recall@10"] > 0.8


def test_requests_do_not_know_of_it(run):
    assert not [name for name in read_checkpoint(run / "train").variables if name.startswith("inputs/")]
