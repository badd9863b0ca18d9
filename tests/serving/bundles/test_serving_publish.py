"""Publishing: servers see complete versions only, at any time and after any failure of the publisher."""

import shutil
import subprocess
import sys
import threading
from concurrent import futures
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
from serving_models import predict_request
from tensorflow_serving.apis import prediction_service_pb2_grpc
from waiting import until_available

from serving import server as embedded
from serving.bundles import bundle
from serving.bundles.publications import HISTORY, RECORD_ASSET, read_history, read_record
from serving.bundles.publish import publish, rollback
from serving.servable import Servable
from tfdnc.contracts.errors import UserError

FILES = {"saved_model.pb": "graph", "variables/variables.data": "numbers", "assets.extra/manifest.json": "{}"}


def approve(path):
    """A check that finds nothing."""


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "export" / "3"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture
def base(tmp_path):
    return tmp_path / "models" / "mine"


def content(folder):
    """Every file but the record of the publication."""
    files = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    files.pop(RECORD_ASSET, None)
    return files


def visible(base):
    return sorted(bundle.versions_in(base))


def hidden(base):
    return sorted(path.name for path in base.iterdir() if path.name not in map(str, visible(base)))


def test_versions_count_up_and_are_whole_copies(source, base):
    assert publish(source, base, approve) == base / "1"
    assert publish(source, base, approve) == base / "2"
    assert publish(source, base, approve, version=7) == base / "7"
    assert publish(source, base, approve) == base / "8"
    assert visible(base) == [1, 2, 7, 8]
    assert all(content(base / str(version)) == FILES for version in visible(base))
    assert (base / "8").stat().st_mode == source.stat().st_mode
    shutil.rmtree(source)
    assert content(base / "1") == FILES


def test_a_version_is_never_replaced(source, base):
    publish(source, base, approve, version=12)
    (base / "12").rename(base / "0012")  # the same number to a server
    with pytest.raises(UserError, match=r"or had, 12.*publish version 13"):
        publish(source, base, approve, version=12)
    assert visible(base) == [12]


def test_a_version_folder_is_no_base_path(source):
    with pytest.raises(UserError, match="is a version: name the folder above it"):
        publish(source, source, approve)


def test_the_copy_is_checked_before_servers_can_see_it(source, base):
    publish(source, base, approve)
    seen = []

    def look(path):
        seen.append((content(path), visible(base)))

    publish(source, base, look)
    assert seen == [(FILES, [1])]


@pytest.mark.parametrize("error", [UserError("does not answer"), KeyboardInterrupt()])
def test_a_version_that_fails_the_check_leaves_nothing(source, base, error):
    def refuse(path):
        raise error

    with pytest.raises(type(error)):
        publish(source, base, refuse)
    assert (visible(base), hidden(base)) == ([], [".publish.lock"])


def test_a_full_disk_is_a_sentence(source, base, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(UserError, match=r"No space left on device.*Nothing was published"):
        publish(source, base, approve)
    assert visible(base) == []


def test_keep_removes_the_oldest_and_never_what_was_just_published(source, base):
    for _ in range(4):
        publish(source, base, approve)
    assert visible(base) == [1, 2, 3, 4]  # without keep, all stay
    publish(source, base, approve, keep=2)
    assert visible(base) == [4, 5]
    publish(source, base, approve, version=9)
    publish(source, base, approve, version=7, keep=1)
    assert visible(base) == [7, 9]
    assert hidden(base) == [HISTORY, ".publish.lock"]


def test_keep_leaves_versions_that_servers_hold(source, base):
    for _ in range(3):
        publish(source, base, approve)
    publish(source, base, approve, keep=1, held=[2])
    assert visible(base) == [2, 4]


def test_two_publishers_do_not_meet(source, base):
    inside, done = threading.Event(), threading.Event()

    def wait(path):
        inside.set()
        assert done.wait(30)

    with futures.ThreadPoolExecutor(1) as threads:
        first = threads.submit(publish, source, base, wait)
        assert inside.wait(30)
        with pytest.raises(UserError, match="Another publish is at work"):
            publish(source, base, approve)
        done.set()
        first.result()
    assert visible(base) == [1]


KILLED = """
import shutil, sys
from pathlib import Path
from serving.bundles import bundle
from serving.bundles.publish import publish, rollback
from tests.beam_jobs.dying import fork

source, base = map(Path, sys.argv[1:3])
ACTIONS = {"publish": lambda folder: publish(source, folder, lambda path: None, keep=2), "rollback": rollback}

for action in ACTIONS:
    for die_at in range(1, 200):
        folder = base.with_name(f"{action}-{die_at}")
        shutil.copytree(base, folder)
        status = fork(ACTIONS[action], folder, die_at)
        print(action, status, *sorted(bundle.versions_in(folder)), folder, flush=True)
        if status == 0:
            break
"""


def test_a_kill_at_any_change_of_the_disk_leaves_whole_versions(source, base):
    """In the old state or the new one; the next publish removes what the kill left, and completes the history."""
    publish(source, base, approve)
    publish(source, base, approve)
    command = [sys.executable, "-c", KILLED, source, base]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    ends = [line.split() for line in done.stdout.splitlines()]
    states = {"publish": ({1, 2}, {1, 2, 3}, {2, 3}), "rollback": ({1, 2}, {1, 2, 3})}
    assert {end[0] for end in ends if end[1] == "0"} == set(states), done.stderr
    assert {end[1] for end in ends} == {"0", "-9"}
    assert sum(end[1] == "-9" for end in ends) > 30
    for action, _, *versions, folder in ends:
        assert set(map(int, versions)) in states[action]
        folder = Path(folder)
        published = publish(source, folder, approve)
        assert published.name == str(max(map(int, versions)) + 1)
        assert hidden(folder) == [HISTORY, ".publish.lock"]
        assert all(content(folder / str(version)) == FILES for version in visible(folder))
        assert [record["version"] for record in read_history(folder)] == list(range(1, int(published.name) + 1))


def test_a_rollback_brings_back_the_version_before_under_a_new_number(source, base):
    """Its files are those of that version, and the content of a number never changes."""
    publish(source, base, approve)
    (source / "saved_model.pb").write_text("a better graph")
    publish(source, base, approve, note={"reason": "more recall"})
    assert rollback(base, note={"reason": "empty lists"}) == (base / "3", 1)
    assert content(base / "3") == FILES
    assert (base / "3/saved_model.pb").samefile(base / "1/saved_model.pb")
    records = read_history(base)
    assert [(record["version"], record["action"], record.get("reason")) for record in records] == [
        (1, "publish", None),
        (2, "publish", "more recall"),
        (3, "rollback", "empty lists"),
    ]
    assert (records[2]["restores"], records[2]["previous"]) == (1, 2)
    assert read_record(base / "1")["version"] == 1  # version 3 shares the other files


def test_two_rollbacks_go_back_two_versions(source, base):
    for _ in range(3):
        publish(source, base, approve)
    assert rollback(base) == (base / "4", 2)
    assert rollback(base) == (base / "5", 1)
    with pytest.raises(UserError, match="nothing can be brought back"):
        rollback(base)
    publish(source, base, approve)
    assert rollback(base) == (base / "7", 5)
    assert rollback(base, to=3) == (base / "8", 3)


@pytest.mark.parametrize(
    ("versions", "to", "message"),
    [
        ([], None, "Expected versions in .*, found none"),
        ([4], None, "Expected a version before 4"),
        ([4, 5], 3, "back from version 5 to version 3 of .*, but it has versions 4, 5"),
        ([4, 5], 5, "back from version 5 to version 5"),
    ],
)
def test_a_missing_version_cannot_be_restored(source, base, versions, to, message):
    base.mkdir(parents=True)
    for version in versions:
        shutil.copytree(source, base / str(version))  # by hand, without a record
    with pytest.raises(UserError, match=message):
        rollback(base, to)
    assert visible(base) == versions


def test_a_server_loads_a_published_version_and_then_needs_no_folder_of_it(half_plus_two, base):
    """Neither pruning nor a run's next export, which replaces the last one, removes files that a server still needs."""
    publish(half_plus_two / "1", base, lambda path: Servable.load("half", 1, path).close())
    ones, words = (
        predict_request({"x": np.ones([1, 1], np.float32)}),
        predict_request({"words": np.array([[b"a"]], object)}, "shout"),
    )
    with (
        embedded.running(base, model_name="half", file_system_poll_wait_seconds=0) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        ask = partial(prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict, timeout=30)
        shutil.rmtree(base / "1")
        assert ask(ones).outputs["y"].float_val[:] == [2.5]
        assert ask(words).outputs["loud"].string_val[:] == [b"A"]  # a signature that was never run
        publish(half_plus_two / "2", base, approve, version=2)
        server.source.poll()
        until_available(server, "half", 2)
        assert ask(ones).outputs["y"].float_val[:] == [20.5]
        publish(half_plus_two / "1", base, approve, keep=1)
        assert visible(base) == [3]
        server.source.poll()
        until_available(server, "half", 3)
        assert ask(ones).outputs["y"].float_val[:] == [2.5]


def test_a_folder_without_a_model_is_never_brought_back(source, base):
    """It became the latest version, which no server could load."""
    publish(source, base, approve)
    (base / "5").mkdir()
    publish(source, base, approve)
    assert rollback(base) == (base / "7", 1)
    with pytest.raises(UserError, match="but it has versions 1, 6, 7"):
        rollback(base, to=5)


def test_a_number_is_not_used_again_for_a_version_that_was_removed(source, base):
    for _ in range(3):
        publish(source, base, approve)
    shutil.rmtree(base / "3")
    assert publish(source, base, approve) == base / "4"
    with pytest.raises(UserError, match="or had, 3"):
        publish(source, base, approve, version=3)


@pytest.mark.parametrize("damage", ["", "[]", "null", "{}", '{"version": 1}', "{"])
def test_a_damaged_history_stops_a_publish_before_anything_is_published(source, base, damage):
    """Each attempt used to add a version, and then to fail."""
    publish(source, base, approve)
    history = base / HISTORY
    history.write_text(f"{damage}\n{history.read_text()}")
    for work in (lambda: publish(source, base, approve), lambda: rollback(base)):
        with pytest.raises(UserError, match=r"Expected records of publications in .*Remove that line"):
            work()
    assert visible(base) == [1]


def test_versions_that_are_links_are_removed_as_links(source, base):
    base.mkdir(parents=True)
    (base / "1").symlink_to(source)
    (base / ".publishing-x").write_text("put here by hand")
    assert publish(source, base, approve, keep=1) == base / "2"
    assert (visible(base), hidden(base)) == ([2], [HISTORY, ".publish.lock"])
    assert content(source) == FILES
