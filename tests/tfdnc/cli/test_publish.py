"""Conditions on a publish, and the figures of `tfdnc diff`: words to the screen and to files."""

import json
from pathlib import Path

import pytest

from serving.bundles.answers import Answers
from serving.bundles.difference import difference
from serving.bundles.publications import read_history
from serving.bundles.questions import Questions
from tfdnc.cli import version_figures
from tfdnc.cli.main import main

QUESTIONS = Questions(histories=[["q"], ["q"]], targets=[["a"], ["d"]], known=[{}, {}], features=())
OLD = Answers(Path("1"), [["a", "b"], ["c", "d"]], [["x", "x"], ["y", "y"]], frozenset("abcd"), 2.0, 10.0)
NEW = Answers(Path("2"), [["b", "a"], ["c", "n"]], [["x", "x"], ["y", "y"]], frozenset("abcdn"), 3.0, 12.0)


@pytest.fixture
def compared(monkeypatch):
    """The versions that were compared; their figures are those of OLD and NEW."""
    asked = []

    def compare(old, new, arguments, cutoffs):
        asked.append((old, new, arguments.log, list(cutoffs)))
        return difference(QUESTIONS, OLD, NEW, cutoffs)

    monkeypatch.setattr(version_figures, "compare_versions", compare)
    monkeypatch.setattr("tfdnc.cli.verification.check_version", lambda name, path: None)
    return asked


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle" / "1"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text("graph")
    return folder.parent


def publish(bundle, *flags):
    return main(["publish", str(bundle), str(bundle.with_name("models")), *map(str, flags)])


def test_a_version_that_meets_its_conditions_is_published_with_their_figures(bundle, compared):
    assert publish(bundle) == 0
    conditions = [
        "--require",
        "recall@2 >= 0.5 * current",
        "--require",
        "latency_ms <= current + 1",
        "--log",
        "today.csv",
    ]
    assert publish(bundle, *conditions, "--reason", "daily") == 0
    models = bundle.with_name("models")
    assert compared == [(models / "1", bundle / "1", ["today.csv"], [2])]
    first, second = read_history(models)
    assert "conditions" not in first
    assert (second["compared_with"], second["reason"], second["source"]) == (1, "daily", str(bundle / "1"))
    assert second["conditions"] == [
        {"condition": "recall@2 >= 0.5 * current", "value": 0.5, "bound": 0.5},
        {"condition": "latency_ms <= current + 1", "value": 3.0, "bound": 3.0},
    ]


def test_a_version_that_fails_a_condition_is_not(bundle, compared, capsys):
    publish(bundle)
    assert publish(bundle, "--require", "recall@2 >= current", "--require", "overlap@2 > 0", "--log", "today.csv") == 2
    message = capsys.readouterr().err
    assert (
        "is not published, because these conditions do not hold: recall@2 >= current (it is 0.5, the bound 1)"
        in message
    )
    assert "overlap" not in message
    assert not (bundle.with_name("models") / "2").exists()


def test_the_first_version_has_nothing_to_be_compared_with(bundle, compared, capsys):
    assert publish(bundle, "--require", "recall@2 >= current", "--log", "today.csv") == 0
    assert "there is nothing to compare with" in capsys.readouterr().out
    assert compared == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--require", "recall@2 >= current"], "Expected --log or --requests with --require"),
        (["--require", "x"], "Expected a condition"),
    ],
)
def test_conditions_are_checked_before_anything_is_compared(bundle, compared, capsys, flags, message):
    publish(bundle)
    assert publish(bundle, *flags) == 2
    assert message in capsys.readouterr().err
    assert compared == []


def test_a_difference_is_a_table_and_a_file(bundle, compared, capsys, tmp_path):
    file = tmp_path / "diff.json"
    arguments = ["diff", str(bundle), str(bundle), "--log", "a.csv", "b.csv", "--cutoffs", "1", "2"]
    page = tmp_path / "diff.html"
    assert main([*arguments, "--output", str(file), "--page", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "2 users, 2 next events" in shown
    assert "recall@2" in shown
    content = json.loads(file.read_text())
    assert [row["recall"] for row in content["cutoffs"]] == [[[0.5, 0.5], [0.0, 0.0]], [[1.0, 0.0], [0.5, 0.5]]]
    assert content["cluster_shares"] == {"x": [0.5, 0.5], "y": [0.5, 0.5]}
    assert content["new"] == str(bundle / "1")
    text = page.read_text()
    assert "recall@2" in text
    assert "-0.5000" in text


def test_a_rollback_says_what_is_back(bundle, compared, capsys):
    publish(bundle)
    publish(bundle)
    assert main(["rollback", str(bundle.with_name("models")), "--reason", "empty lists"]) == 0
    assert "Version 1 is back as version 3" in capsys.readouterr().out.replace("\n", " ")
    assert read_history(bundle.with_name("models"))[-1]["reason"] == "empty lists"


def test_a_label_moves_with_a_version_and_back(bundle, compared, capsys):
    models, config = bundle.with_name("models"), bundle.with_name("models.config")
    config.write_text(
        f'model_config_list {{ config {{ name: "tfdnc" base_path: "{models}" model_platform: "tensorflow" '
        "model_version_policy { specific { versions: 1 } } } }"
    )
    labelled = ["--label", "stable", "--models-config", str(config), "--wait", "0"]
    assert publish(bundle) == 0
    assert publish(bundle, *labelled, "--keep", "1") == 0
    assert sorted(path.name for path in models.glob("[0-9]*")) == ["1", "2"]  # servers hold 1 until the label moves
    assert "stable is version 2; servers hold 2" in capsys.readouterr().out.replace("\n", " ")
    assert main(["rollback", str(models), *labelled]) == 0
    assert "stable is version 3; servers hold 3" in capsys.readouterr().out.replace("\n", " ")
    assert main(["label", str(config), "canary=2", "--wait", "0"]) == 0
    assert "canary is version 2; servers hold 2, 3" in capsys.readouterr().out.replace("\n", " ")


def test_a_label_without_a_file_is_refused_before_anything_is_published(bundle, compared, capsys):
    assert publish(bundle, "--label", "stable") == 2
    assert "Expected --models-config with --label" in capsys.readouterr().err
    assert not bundle.with_name("models").exists()
