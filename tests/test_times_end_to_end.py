"""End to end with a model that reads times: from the column of the log to the times of a request."""

import json

import grpc
import numpy as np
import pytest

from serving import tensors
from serving.bundles.recorded import read_recorded
from serving.client import RetrievalClient, RetrievalError
from serving.server import running
from tfdnc.cli.main import main
from tfdnc.contracts import bundle, schema
from tfdnc.contracts.features import TIME
from tfdnc.contracts.items import read_items
from tfdnc.training.records import read_held_out


@pytest.fixture(scope="module")
def run(readme_folder):
    """README's own config asks for times."""
    return readme_folder / "runs" / "mine"


@pytest.fixture(scope="module")
def client(run):
    with running(run / "bundle") as server, RetrievalClient(server.address) as client:
        yield client


@pytest.fixture(scope="module")
def users(run):
    """Test histories as clients know them: raw ids, the times of the items, and when the target came."""
    items, records = read_items(run / "cluster"), read_held_out(run / "examples" / "test", [TIME])
    found = []
    for start, stop in zip(records.splits, records.splits[1:], strict=False):
        asked = np.cumsum(records.features[TIME.key][start:stop]) + 10**9
        times = [10**9, *asked[:-1].tolist()]
        found.append(([items.item_ids[item - 1] for item in records.items[start:stop]], times, int(asked[-1])))
    targets = [items.item_ids[target - 1] for target in records.targets]
    return (*map(list, zip(*found, strict=True)), targets)


def test_the_server_answers_what_the_evaluation_measured(client, users, run):
    histories, times, request_times, targets = users
    report = json.loads((run / "evaluate" / "report.json").read_text())
    answers = client.retrieve(histories, num_candidates=20, times=times, request_time=request_times)
    hits = [target in answer.item_ids for target, answer in zip(targets, answers, strict=True)]
    assert np.mean(hits) == pytest.approx(report["merge"]["recall@20"], abs=0.5 / len(hits))


def test_times_change_the_answer_and_a_request_may_lack_them(client, users):
    histories, times, request_times, _ = (column[:5] for column in users)
    known = client.encode(histories, times=times, request_time=request_times).user_embeddings
    later = client.encode(histories, times=times, request_time=[time + 10**6 for time in request_times])
    assert not np.allclose(known, later.user_embeddings, atol=1e-3)
    none = client.encode(histories, times=[[]] * 5)
    some = client.encode(histories, times=[*times[:2], [], [], []], request_time=[*request_times[:2], -1, -1, -1])
    np.testing.assert_allclose(some.user_embeddings[:2], known[:2], atol=1e-5)
    np.testing.assert_allclose(some.user_embeddings[2:], none.user_embeddings[2:], atol=1e-5)
    assert all(len(answer.item_ids) == 20 for answer in client.retrieve(histories, 20, times=[[]] * 5))


def test_a_request_without_the_inputs_is_refused_with_their_names(client, users):
    with pytest.raises(RetrievalError, match="history_times") as error:
        client.retrieve(users[0][:1], 20)
    assert error.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_controls_come_beside_times(client, users):
    histories, times, request_times, _ = (column[:1] for column in users)
    when = {"times": times, "request_time": request_times}
    [free] = client.retrieve(histories, 20, **when)
    [without] = client.retrieve(histories, 20, exclude=[free.item_ids[:3]], **when)
    assert not set(free.item_ids[:3]) & set(without.item_ids)


def test_what_was_recorded_is_asked_by_two_clocks(run):
    """`verify` could not see that times below 0 were taken for unknown ones: it asked from zero only."""
    first = json.loads((run / "prepare" / "manifest.json").read_text())["figures"]["times"][0]
    logs = [log for log in read_recorded(run / "bundle" / "1") if bundle.HISTORY_TIMES in log.request.inputs]
    as_recorded, moved = logs[: len(logs) // 2], logs[len(logs) // 2 :]
    assert len(as_recorded) == len(moved)
    starts = set()
    for one, other in zip(as_recorded, moved, strict=True):
        assert one.response == other.response
        times, later = (tensors.decode(log.request.inputs[bundle.HISTORY_TIMES]) for log in (one, other))
        known = times != schema.UNKNOWN_TIME
        np.testing.assert_array_equal(later[~known], times[~known])
        assert len(set((later - times)[known].tolist())) <= 1
        assert np.all(later[known] > times[known])
        starts |= set(times[known].tolist())
    assert min(starts) == first


def test_query_sends_times_whatever_the_config_says_by_now(run, client, capsys, monkeypatch):
    """A command for some stations rewrites the run's config; what a request needs is what the bundle was made with."""
    monkeypatch.chdir(run.parents[1])  # the config's log is in the folder in which README's commands were typed
    config = str(run / schema.RUN_CONFIG)
    assert main(["prepare", config, "--runs", str(run.parent), "--set", "model.times=false"]) == 0
    assert "times: false" in (run / schema.RUN_CONFIG).read_text()
    query = ["query", "--run", str(run), "--target", client.target, "--history", "s1", "s2"]
    assert main(query) == 0
    assert main([*query, "--history-times", "1700000000", "1700000300", "--request-time", "1700090600"]) == 0
    unknown, known = capsys.readouterr().out.split("A user with this history")[1:]
    assert "candidates by" in unknown
    assert "candidates by" in known
    assert unknown != known
