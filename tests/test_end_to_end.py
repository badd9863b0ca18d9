"""End to end on a small log: from `tfdnc run` to an answer over gRPC, as a user runs it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from serving.bundles.in_process import load_bundle
from serving.client import RetrievalClient, RetrievalError
from serving.server import running
from tfdnc.api.report import Report
from tfdnc.cli.main import main
from tfdnc.contracts import bundle as contract

CONFIG = Path(__file__).parent / "data" / "small.yaml"
WITHOUT_ITEMS = ["--set", "generate=null", "--set", "export.attributes={}", "--set", "evaluate.where=[]"]
STATIONS = ["generate", "prepare", "cluster", "examples", "train", "evaluate", "bundle"]


def command(*arguments):
    return [sys.executable, "-m", "tfdnc.cli.main", *map(str, arguments)]


@pytest.fixture
def tfdnc(capsys):
    """Runs a command to its end, in this process, and returns what it printed."""

    def run(*arguments, expected_status=0):
        capsys.readouterr()
        status = main([*map(str, arguments)])
        screen = capsys.readouterr()
        assert status == expected_status, screen.out + screen.err
        return screen.out if expected_status == 0 else screen.err

    return run


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The process that made the runs, in a shell that knows ASCII only, with the log level of TensorFlow's default."""
    folder = tmp_path_factory.mktemp("all runs")  # a path to be quoted
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment |= {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    run = command("run", CONFIG, "--runs", folder)
    return subprocess.run(run, capture_output=True, text=True, timeout=300, check=False, env=environment)


@pytest.fixture(scope="module")
def runs(ran):
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return Path(ran.args[-1])


@pytest.fixture(scope="module")
def run(runs):
    return runs / "small"


@pytest.fixture(scope="module")
def report(run):
    return json.loads((run / "evaluate" / "report.json").read_text())


@pytest.fixture(scope="module")
def server(run):
    with running(run / "bundle") as server:
        yield server


def test_every_station_leaves_a_manifest_and_nothing_unfinished(run):
    for station in STATIONS:
        manifest = json.loads((run / station / "manifest.json").read_text())
        assert manifest["figures"]
        assert manifest["seconds"] > 0
    assert [path.name for path in run.glob(".*")] == [".lock"]
    assert "seed: 1" in (run / "config.yaml").read_text()


def test_the_screen_names_every_station_with_its_headline(ran):
    for station in ["generate", "prepare", "cluster", "examples", "train", "evaluate", "export"]:
        assert re.search(rf"^{station}$", ran.stdout, flags=re.MULTILINE)
    assert "popularity" in ran.stdout
    assert "oracle intent" in ran.stdout


def test_a_run_that_goes_well_says_nothing_on_stderr(ran):
    """Neither absl, MLIR, CUDA and oneDNN nor Beam, gensim and Keras."""
    assert ran.returncode == 0
    assert ran.stderr == ""


def test_without_a_terminal_every_epoch_has_a_line(ran):
    epochs = re.findall(r"^    epoch (\d+)/12  retrieval \d+\.\d+  intent \d+\.\d+", ran.stdout, flags=re.MULTILINE)
    assert list(map(int, epochs)) == list(range(1, 13))
    assert "\n\n\n" not in ran.stdout  # what a bar leaves where it cannot be drawn


def test_the_run_has_a_page(tfdnc, run, tmp_path):
    page = tmp_path / "report.html"
    assert "1 run" in tfdnc("report", run, "--output", page)
    for section in ("alpha", "lists", "spread", "clusters", "map", "training"):
        assert f'<section id="{section}">' in page.read_text(encoding="utf-8")


def test_the_trained_model_beats_popularity(report):
    assert report["merge"]["recall@10"] > 2 * report["popularity"]["recall@10"]
    assert report["intent"]["intent_accuracy"] > 0.5


def test_popular_items_are_what_popular_lists_are_made_of(report):
    assert report["popularity"]["gini@20"] > report["merge"]["gini@20"]
    assert report["popularity"]["item_coverage@20"] < report["merge"]["item_coverage@20"]
    assert 0 < report["merge"]["ild@20"] < 1  # generated items have categories


def test_the_intent_model_knows_more_than_prior_and_history(report):
    intent = report["intent"]
    assert intent["intent_nll"] < intent["intent_nll_history"] < intent["intent_nll_prior"]
    assert report["calibration"]["ece"] < 0.2
    check = report["intent_check"]
    assert (check["learned"], check["served"], check["text"]) == ("partition", "learned", None)
    assert all(check["figures"][kind]["difference"] < 0 for kind in ("history", "prior"))


def test_alpha_moves_the_spread_over_clusters(report):
    entropy = {point["alpha"]: point["entropy@20"] for point in report["alpha_curve"]}
    assert entropy[0] > entropy[1] > entropy[4]
    assert entropy[0] == pytest.approx(np.log(4), abs=0.01)


def test_a_second_run_skips_every_station(tfdnc, runs):
    screen = tfdnc("run", CONFIG, "--runs", runs)
    assert screen.count("unchanged") == len(STATIONS)


def test_the_server_answers_what_the_evaluation_measured(run, server, report):
    """Served lists of the test histories have the recall of the report, merge by merge."""
    from tfdnc.contracts.items import read_items
    from tfdnc.training.records import read_held_out

    items = read_items(run / "cluster")
    records = read_held_out(run / "examples" / "test")
    histories = [
        [items.item_ids[item - 1] for item in records.items[start:stop]]
        for start, stop in zip(records.splits, records.splits[1:], strict=False)
    ]
    with RetrievalClient(server.address) as client:
        for alpha, measured in [(None, report["merge"]), *((p["alpha"], p) for p in report["alpha_curve"])]:
            answers = client.retrieve(histories, num_candidates=20, alpha=alpha)
            hits = [
                items.item_ids[target - 1] in answer.item_ids
                for target, answer in zip(records.targets, answers, strict=True)
            ]
            assert np.mean(hits) == pytest.approx(measured["recall@20"], abs=0.5 / len(hits))


def test_a_bundle_in_process_answers_as_its_server(run, server, report):
    """One client asks both; only the way to the graph differs."""
    histories = [["5", "6", "7"], [], ["8"]] * 30  # in two parts
    asked = [
        {},
        {"num_candidates": 7, "alpha": 1.0},
        {"num_candidates": [7, 3, 9] * 30, "joint_alpha": 0.5, "exclude": [["9"], [], []] * 30},
        {"num_candidates": 8, "minimum": {0: 0.5}, "maximum": {1: 1}},
    ]
    with load_bundle(run / "bundle") as bundle, RetrievalClient(server.address) as client:
        for controls in asked:
            for own, served in zip(
                bundle.retrieve(histories, **controls), client.retrieve(histories, **controls), strict=True
            ):
                assert own.item_ids == served.item_ids
                np.testing.assert_array_equal(own.quotas, served.quotas)
                np.testing.assert_allclose(own.intent, served.intent, rtol=1e-5)
        assert bundle.cluster_names() == client.cluster_names() == bundle.manifest["cluster_names"]
        with pytest.raises(RetrievalError, match=r"Expected num_candidates in 1\.\.50") as refused:
            bundle.retrieve([["5"]], num_candidates=51)
        assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(RetrievalError, match="This model reads no times"):
            bundle.retrieve([["5"]], num_candidates=5, times=[[1]], request_time=2)
    assert set(report) == set(Report.__annotations__)


def test_seen_items_do_not_come_back_and_unknown_ones_are_ignored(server):
    with RetrievalClient(server.address) as client:
        [known] = client.retrieve([["5", "6", "7"]], num_candidates=50)
        [mixed] = client.retrieve([["no such item", "5", "6", "7"]], num_candidates=50)
    assert len(known.item_ids) == len(set(known.item_ids)) == 50
    assert not {"5", "6", "7"} & set(known.item_ids)
    assert known.item_ids == mixed.item_ids


def test_a_user_without_history_is_answered_from_the_prior(run, server):
    from tfdnc.contracts.items import read_items

    with RetrievalClient(server.address) as client:
        [cold] = client.retrieve([[]], num_candidates=20)
    np.testing.assert_allclose(cold.intent, read_items(run / "cluster").cluster_prior(), atol=1e-5)
    assert len(cold.item_ids) == 20


def test_a_request_that_cannot_be_answered_is_refused_with_a_sentence_and_the_next_is_answered(server):
    with RetrievalClient(server.address) as client:
        with pytest.raises(RetrievalError, match=r"Expected num_candidates in 1\.\.50") as refused:
            client.retrieve([["5"]], num_candidates=51)
        assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert len(client.retrieve([["5"]], num_candidates=50)[0].item_ids) == 50


def words_of(command):
    """Words of a command as a shell splits them, without those that start tfdnc; tests/test_readme.py asks a shell."""
    words = shlex.split(command)
    return words[next(i for i, word in enumerate(words) if word in ("serve", "query", "explore")) :]


def test_a_run_ends_with_the_commands_that_serve_and_ask(ran, run, server, capsys):
    """As they stand there: the path of this run needs quotes. Only the port is another one."""
    serve, query, explore = [line.strip() for line in ran.stdout.splitlines() if line.startswith("    ")][-3:]
    assert f"The bundle is {run / 'bundle'}." in ran.stdout
    assert words_of(serve) == ["serve", str(run / "bundle")]
    assert words_of(explore) == ["explore", str(run)]
    flags = ["--target", server.address, "--num-candidates", "7"]
    assert main([*words_of(query), *flags, "--joint-alpha", "1"]) == 0
    screen = capsys.readouterr().out
    assert "asking for user" in screen
    assert "7 candidates by joint, alpha 1" in screen
    assert "The held-out next item" in screen
    assert main([*words_of(query), *flags, "--user", "1", "--alpha", "1"]) == 0
    screen = capsys.readouterr().out
    assert "User 1 of" in screen
    assert "7 candidates by quota, alpha 1" in screen


def test_a_query_asks_for_clusters_and_excludes_beside_the_joint_merge(run, server, capsys):
    """`--exclude` beside `--joint-alpha` was refused; clusters had numbers only."""
    query = ["query", "--run", str(run), "--target", server.address, "--num-candidates", "7", "--user", "1"]
    controls = ["--exclude", "5", "--joint-alpha", "1", "--maximum", "0=0.2", "1=0", "--minimum", "3=2"]
    assert main([*query, *controls]) == 0
    screen = capsys.readouterr().out
    assert "7 candidates by joint, alpha 1" in screen
    names = json.loads(next(run.glob("bundle/*/assets.extra/manifest.json")).read_text())["cluster_names"]
    counts = [int(re.search(rf"^ {name} +0\.\d+ █* +(\d+) ", screen, re.MULTILINE)[1]) for name in names]
    assert counts[0] <= 1  # a fifth of 7
    assert counts[1] == 0
    assert counts[3] >= 2
    assert sum(counts) == 7
    assert main([*query, "--minimum", "Jaz=1"]) == 2
    expected = "Expected the name or the number of a cluster, got 'Jaz'. Did you mean 'Jazz'? Known: "
    assert expected in capsys.readouterr().err


def test_a_query_and_the_report_keep_to_conditions(run, report, server, capsys):
    query = ["query", "--run", str(run), "--target", server.address, "--num-candidates", "7", "--user", "1"]
    assert main([*query, "--where", "categories=Jazz"]) == 0
    assert "7 candidates" in capsys.readouterr().out
    rows = (run / "generate" / "items.csv").read_text().splitlines()[1:]
    jazz = {row.split(",")[0] for row in rows if row.endswith(",Jazz")}
    with RetrievalClient(server.address) as client:
        [answer] = client.retrieve([["5"]], 30, where={"categories": "Jazz"}, allow=[["5", "7", *sorted(jazz)[:20]]])
        assert len(answer.item_ids) in (19, 20)  # one of them may be the item of the history
        assert set(answer.item_ids) <= jazz
        assert "categories=Jazz" in client.known_conditions()
    assert main([*query, "--where", "categories=Jaz"]) == 2
    assert "got categories=Jaz. categories: " in capsys.readouterr().err
    assert main([*query, "--at-least", "categories=Jazz=4", "--at-most", "categories=*=5"]) == 0
    assert main([*query, "--at-least", "categories=Jazz=4", "--at-most", "categories=*=3"]) == 2
    assert "got categories=Jazz>=4 and categories=*<=3" in capsys.readouterr().err
    assert main([*query, "--where", "Jazz"]) == 2
    assert "Expected a condition such as in_stock=true, brand!=acme or price<=20, got 'Jazz'" in capsys.readouterr().err
    assert report["filtered"]["item_share"] == pytest.approx(len(jazz) / len(rows))
    assert 0 < report["filtered"]["recall@20"] <= 1


def test_a_wrong_model_name_is_answered_with_the_name_there_is(run, server, capsys):
    query = ["query", "--run", str(run), "--target", server.address, "--history", "5", "6"]
    assert main([*query, "--model-name", "x"]) == 2
    assert capsys.readouterr().err.strip().endswith("it has none called 'x': it has tfdnc.")


def test_a_version_differs_from_itself_in_nothing(tfdnc, run, report, tmp_path):
    """Both are asked in fresh processes for the next events of the log; seen ones are not in the way."""
    log, file = run / "generate" / "log.csv", tmp_path / "diff.json"
    flags = ["--log", log, "--users", 100, "--cutoffs", 10, "--output", file]
    assert "100 users, 100 next events" in tfdnc("diff", run / "bundle", run / "bundle", *flags)
    [row] = json.loads(file.read_text())["cutoffs"]
    assert (row["overlap"], row["order"], row["recall_change"], row["new_items"]) == (1, 1, [0, 0], 0)
    assert row["recall"][1][0] == pytest.approx(report["merge"]["recall@10"], abs=4 * row["recall"][1][1])


def test_an_export_is_verified_on_a_server_and_a_damaged_one_is_not_published(tfdnc, run, server, tmp_path):
    """A server gives the answers recorded at export; tests/test_readme.py asks a fresh process, and publishes."""
    screen = tfdnc("verify", run / "bundle", "--target", server.address)
    for signature in contract.signatures_of(attributes=True):
        assert re.search(rf"{signature} +(\d+) +\1 ", screen)  # as many equal answers as requests
    damaged = shutil.copytree(run / "bundle" / "1", tmp_path / "1")
    shutil.copy(next(damaged.glob("assets/*")), damaged / contract.MANIFEST_ASSET)
    models = tmp_path / "models"
    assert "Expected a JSON object with bundle_format" in tfdnc("publish", damaged, models, expected_status=2)
    assert [path.name for path in models.iterdir()] == [".publish.lock"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "absent.yaml"], "Expected a YAML config at absent.yaml"),
        (["run", CONFIG, "--set", "modle.dim=3"], "unknown key 'modle'"),
        (["run", CONFIG, *WITHOUT_ITEMS, "--set", "data.path=absent.csv"], "absent.csv"),
        (["run", CONFIG, "--set", "generate=null"], "expected an item file in data.items with export.attributes"),
        (["run", CONFIG, "--set", "cluster.method=kmeans"], "Unknown clusterer 'kmeans'; known: "),
        (["run", CONFIG, "--set", "export.index=faiss"], "Unknown index 'faiss'; known: auto, exact, scann"),
        (["run", CONFIG, "--set", "export.num_candidates=600"], "at most max_candidates, not 600"),
        (["run", CONFIG, "--set", "evaluate.judge={}"], "beside 4 clusters: remove evaluate.judge"),
        (
            ["run", CONFIG, "--set", "evaluate.judge={}", "--set", "cluster.num_clusters=auto"],
            "beside several clusters: remove evaluate.judge",
        ),
        (["run", CONFIG, "--set", "cluster.num_clusters=many"], "or input should be 'auto', got 'many'"),
        (["judge", CONFIG], "a section for judge, this one has the stations"),
        (["serve", "absent"], "absent"),
        (["verify", "absent"], "Expected the folder of a bundle, found nothing at absent"),
        (
            ["query", "--user", "1", "--start-server", "--tls-roots", "x.pem"],
            "Expected --start-server or the --tls-roots",
        ),
        (["query", "--runs", "absent", "--user", "1"], "Expected a run with a bundle in absent"),
        (
            ["query", "--run", "absent", "--user", "1"],
            "Expected the folder of a bundle, found nothing at absent/bundle",
        ),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(tfdnc, tmp_path, arguments, complaint):
    if arguments[0] == "run":
        arguments = [*arguments, "--runs", tmp_path]
    message = tfdnc(*arguments, expected_status=2)
    assert message.startswith("tfdnc: ")
    assert complaint in message
    assert "Traceback" not in message
    assert all(list(folder.glob("*/manifest.json")) for folder in tmp_path.iterdir())  # no run in which nothing is


def test_a_process_ends_with_status_2_and_that_sentence_alone(tmp_path):
    """Nothing of Beam and gensim, which have worked before it."""
    run = command("run", CONFIG, "--set", "cluster.num_clusters=1000", "--runs", tmp_path)
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"tfdnc: .*1000.*\n", done.stderr)


@pytest.mark.parametrize("arguments", [["--num-candidates", "0"], ["--alpha", "-1"], ["--alpha", "nan"]])
def test_a_query_for_nothing_is_refused_before_anything_is_asked(runs, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["query", "--runs", str(runs), "--user", "1", *arguments])
    assert ended.value.code == 2
    assert f"argument {arguments[0]}: expected " in capsys.readouterr().err


def test_an_unknown_user_is_refused(tfdnc, runs):
    assert "no user 'nobody'" in tfdnc("query", "--runs", runs, "--user", "nobody", expected_status=2)


def test_a_query_is_encrypted_with_files_that_are_there(tfdnc, runs):
    message = tfdnc("query", "--runs", runs, "--user", "1", "--tls-roots", "absent.pem", expected_status=2)
    assert "Expected a PEM file at absent.pem" in message


def test_the_number_of_clusters_that_auto_takes_is_told(tfdnc, run, tmp_path):
    """The log has 160 items, so auto takes the number that the config of the other run names."""
    folder = tmp_path / "small"
    folder.mkdir()
    for station in ("generate", "prepare"):
        (folder / station).symlink_to(run / station)
    screen = tfdnc("cluster", CONFIG, "--set", "cluster.num_clusters=auto", "--runs", tmp_path)
    assert "cluster.num_clusters: auto is 4, the least for 160 items with events: 2 by the rule; next item" in screen
    assert (folder / "cluster" / "items.parquet").read_bytes() == (run / "cluster" / "items.parquet").read_bytes()


def test_a_method_with_one_cluster_is_judged_by_the_clusters_of_another(tfdnc, run, tmp_path):
    """The judge's station makes what the cluster station of the other run made, under the same fingerprint."""
    from tfdnc.pipeline.manifests import read_manifest

    folder = tmp_path / "small"
    folder.mkdir()
    for station in ("generate", "prepare"):
        (folder / station).symlink_to(run / station)
    settings = [
        "cluster={method: single, num_clusters: 1}",
        "model.encoder=transformer",
        "train.epochs=1",
        "evaluate.judge={num_clusters: 4, dim: 16, epochs: 20}",
    ]
    overrides = [part for setting in settings for part in ("--set", setting)]
    screen = tfdnc("evaluate", CONFIG, *overrides, "--runs", tmp_path)
    assert re.search("^judge$", screen, flags=re.MULTILINE)
    assert "by word2vec_kmeans, 4 clusters" in screen
    assert read_manifest(folder / "judge")["fingerprint"] == read_manifest(run / "cluster")["fingerprint"]
    assert (folder / "judge" / "items.parquet").read_bytes() == (run / "cluster" / "items.parquet").read_bytes()
    report = json.loads((folder / "evaluate" / "report.json").read_text())
    assert 0 < report["merge"]["entropy@20"] < np.log(4)
    assert report["within_cluster"]["recall@20"] > report["merge"]["recall@20"]


def test_a_training_killed_with_sigkill_resumes_and_ends_with_the_same_weights(tfdnc, run, tmp_path):
    """A killed run may leave any step half done; what it resumes from is the last whole epoch."""
    from tfdnc.pipeline.manifests import read_manifest

    more = ["--set", "train.epochs=16", "--runs"]
    for name in ("whole", "killed"):
        folder = tmp_path / name / "small"
        folder.mkdir(parents=True)
        for station in ("generate", "prepare", "cluster", "examples"):
            (folder / station).symlink_to(run / station)

    process = subprocess.Popen(command("train", CONFIG, *more, tmp_path / "killed"), stdout=subprocess.DEVNULL)
    log = tmp_path / "killed" / "small" / ".train.unfinished" / "epochs.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and len(log.read_text().splitlines()) >= 3):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (tmp_path / "killed" / "small" / "train").exists()

    for name in ("killed", "whole"):
        tfdnc("train", CONFIG, *more, tmp_path / name)
    whole, killed = (tmp_path / name / "small" / "train" for name in ("whole", "killed"))
    figures = [read_manifest(folder)["figures"] for folder in (whole, killed)]
    for one in figures:
        assert one.pop("cpu_seconds") > 0  # a measurement: the one thing that is not the same twice
    assert figures[0] == figures[1]
    weights = [(folder / "weights.data-00000-of-00001").read_bytes() for folder in (whole, killed)]
    assert weights[0] == weights[1]
