"""The training benchmark: rates from recorded measurements by hand, its files, and the processes on a small log."""

import csv
import json

import pytest

from tfdnc.benchmark import pages
from tfdnc.benchmark.rates import find_baseline, rates, same_windows
from tfdnc.benchmark.training import Worker, measure
from tfdnc.cli.main import main
from tfdnc.contracts.config import parse_config
from tfdnc.contracts.errors import UserError


def make_method(name, encoder="transformer", loss="bce", clusters=1, seconds=(1.0, 2.0, 1.0), **others):
    """Rounds of 120 sequences with 600 trained positions, in these CPU seconds and twice the wall seconds."""
    rounds = [
        {"cpu_seconds": s, "wall_seconds": 2 * s, "sequences": 120, "positions": 600, "slots": 800} for s in seconds
    ]
    described = {"encoder": encoder, "loss": loss, "clusters": clusters, "max_length": 50, "windows": "a"}
    return {"name": name, **described, "intent": clusters > 1, "parameters": 9, "rounds": rounds} | others


@pytest.fixture
def measured():
    return [
        make_method("x-sasrec"),
        make_method("x-naive", clusters=4, seconds=(2.0, 2.0, 2.0)),
        make_method("x-mmoe", "mmoe", clusters=4, seconds=(4.0, 8.0, 5.0)),
        make_method("x-softmax", "hadamard_literal", "in_cluster_softmax", 4, seconds=(2.5, 4.0, 2.0), windows="b"),
    ]


def test_a_rate_is_the_median_and_a_ratio_that_of_the_ratios_inside_rounds(measured):
    sasrec, naive, mmoe, _ = rates(measured, "x-sasrec")
    # 120, 60, 120 sequences per second, and 600, 300, 600 positions.
    assert (sasrec["sequences"], sasrec["positions"]) == (120, 600)
    assert (sasrec["wall_sequences"], sasrec["wall_positions"]) == (60, 300)
    assert sasrec["sequences_ratio"] == sasrec["sequences_lowest"] == sasrec["sequences_highest"] == 1
    # 1/2, 2/2, 1/2 in the three rounds.
    assert (naive["sequences_lowest"], naive["sequences_ratio"], naive["sequences_highest"]) == (0.5, 0.5, 1)
    # 1/4, 2/8, 1/5.
    assert (mmoe["sequences"], mmoe["sequences_ratio"], mmoe["sequences_lowest"]) == (24, 0.25, 0.2)


def test_positions_without_a_loss_count_for_nothing(measured):
    for figures in measured[3]["rounds"]:
        figures["positions"] = 150
    row = rates(measured, "x-sasrec")[3]
    assert row["sequences_ratio"] == 0.5  # 1/2.5, 2/4, 1/2
    assert row["positions_ratio"] == 0.125


def test_the_plain_twin_differs_in_nothing_but_the_encoder(measured):
    twins = {row["method"]: (row["plain"], row["plain_ratio"]) for row in rates(measured, "x-sasrec")}
    assert twins == {
        "x-sasrec": (None, None),
        "x-naive": (None, None),
        "x-mmoe": ("x-naive", 0.4),  # 2/4, 2/8, 2/5
        "x-softmax": (None, None),
    }


def test_the_paper_is_quoted_for_its_own_setting_only(measured):
    measured.append(make_method("x-dnc", "hadamard_per_position", clusters=4))
    measured.append(make_method("x-state", "hadamard_state", clusters=4))  # its product is not the paper's
    quoted = {row["method"]: row["paper"] for row in rates(measured, "x-sasrec")}
    assert quoted == {"x-sasrec": 1, "x-naive": None, "x-mmoe": 0.288, "x-softmax": None, "x-dnc": 1, "x-state": None}


def test_batches_are_compared_by_length(measured):
    measured.append(make_method("x-short", max_length=20, windows="c"))
    groups = same_windows(measured)
    assert groups == {50: [["x-sasrec", "x-naive", "x-mmoe"], ["x-softmax"]], 20: [["x-short"]]}
    assert list(pages.contents(groups)) == [
        "Windows of up to 50: the batches differ, so ratios compare different work: "
        "x-sasrec, x-naive, x-mmoe; x-softmax.",
        "Windows of up to 20: all 1 methods trained on the same batches.",
    ]


def test_the_baseline_is_found_or_asked_for():
    names = ["a-sasrec", "a-sasrec_softmax", "a-dnc"]
    assert find_baseline(names, None) == "a-sasrec"
    assert find_baseline(names, "a-dnc") == "a-dnc"
    for names, wanted in [(["a-dnc"], None), (["a-sasrec", "b-sasrec"], None), (["a-dnc"], "a-sasrec")]:
        with pytest.raises(UserError, match="name the baseline with --baseline"):
            find_baseline(names, wanted)


def test_the_files_hold_the_table_and_every_measurement(measured, tmp_path):
    rows = rates(measured, "x-sasrec")
    pages.write_pages(tmp_path, pages.describe_machine("tfdnc benchmark training x"), measured, rows, ["Note."])
    page = (tmp_path / "training.md").read_text()
    assert "    tfdnc benchmark training x\n" in page
    assert "| x-mmoe | 24 | 0.25 | 0.20-0.25 | 120 | 0.25 | 0.40 | 0.29 |\n" in page
    assert "| x-naive | 60 | 0.50 | 0.50-1.00 | 300 | 0.50 |  |  |\n" in page
    assert page.endswith("\nNote.\n")
    values = json.loads((tmp_path / "training.json").read_text())
    assert values["measured"] == measured
    assert "tensorflow 2.20" in values["machine"]["versions"]
    with (tmp_path / "training.csv").open() as file:
        assert [row["sequences"] for row in csv.DictReader(file)] == ["120.0", "60.0", "24.0", "48.0"]


def test_configs_that_cannot_be_compared_are_refused(tmp_path):
    config = parse_config({"name": "x"})
    with pytest.raises(UserError, match="different names, got x, x"):
        measure([config, config], tmp_path, steps=1, rounds=1)
    with pytest.raises(UserError, match=r"x has train\.epochs 0: leave it out"):
        measure([parse_config({"name": "x", "train": {"epochs": 0}})], tmp_path, steps=1, rounds=1)


def test_a_method_that_refuses_says_why(tmp_path):
    with (
        pytest.raises(UserError, match="x: Expected an item table at"),
        Worker(parse_config({"name": "x"}), tmp_path, 1),
    ):
        pass


GENERATED = """
name: {name}
generate: {{users: 60, items: 40, groups: 3, mean_events: 12}}
data: {{num_shards: 1}}
cluster: {{method: {clusterer}, num_clusters: {clusters}, max_share: 0.9}}
model: {{encoder: {encoder}, dim: 8, blocks: 1, max_length: 10}}
train: {{loss: bce, batch_tokens: 200}}
"""


def test_the_command_measures_every_method_on_the_same_windows(tmp_path, capsys):
    methods = {"t-sasrec": ("single", 1, "transformer"), "t-literal": ("random", 2, "hadamard_literal")}
    for name, (clusterer, clusters, encoder) in methods.items():
        text = GENERATED.format(name=name, clusterer=clusterer, clusters=clusters, encoder=encoder)
        (tmp_path / f"{name}.yaml").write_text(text)
    paths = [str(tmp_path / f"{name}.yaml") for name in methods]
    folders = ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]
    assert main(["benchmark", "training", *paths, *folders, "--steps", "2", "--rounds", "2"]) == 0

    sasrec, literal = json.loads((tmp_path / "out" / "training.json").read_text())["measured"]
    assert len(sasrec["rounds"]) == len(literal["rounds"]) == 2
    assert sasrec["windows"] == literal["windows"]
    for one, other in zip(sasrec["rounds"], literal["rounds"], strict=True):
        assert one["cpu_seconds"] > 0
        assert one["sequences"] == other["sequences"] > 0
        assert one["slots"] == other["slots"] >= one["positions"]
        assert 0 < other["positions"] < one["positions"]  # those of one drawn cluster
    assert "all 2 methods trained on the same batches" in capsys.readouterr().out
