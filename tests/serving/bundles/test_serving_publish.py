"""Publishing: what a server may see of a model base path, whenever it looks and whatever happens to the publisher."""

import shutil
import subprocess
import sys
import threading
from concurrent import futures
from functools import partial

import grpc
import numpy as np
import pytest
from serving_models import predict_request
from tensorflow_serving.apis import prediction_service_pb2_grpc
from waiting import until_available

from serving import server as embedded
from serving.bundles import bundle
from serving.bundles.publish import publish
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
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


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
    with pytest.raises(UserError, match=r"it has 12.*publish version 13"):
        publish(source, base, approve, version=12)
    assert visible(base) == [12]


def test_a_version_folder_is_no_base_path(source):
    with pytest.raises(UserError, match="is a version: name the folder above it"):
        publish(source, source, approve)


def test_what_is_checked_is_the_copy_before_anybody_can_see_it(source, base):
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
    publish(source, base, approve, version=1, keep=1)
    assert visible(base) == [1, 5]
    assert hidden(base) == [".publish.lock"]


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
import os, signal, sys
from pathlib import Path
from serving.bundles import publish as module

source, base = map(Path, sys.argv[1:])
DEATHS = {module: ["_copy 1", "_copy_file 2", "_sync 5", "_sync 7"], Path: ["rename 1"], module.shutil: ["rmtree 2"]}

def die_at(owner, name, call):
    real, calls = getattr(owner, name), []
    def dying(*arguments, **options):
        calls.append(name)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    setattr(owner, name, dying)

for owner, deaths in DEATHS.items():
    for death in deaths:
        name, call = death.split()
        child = os.fork()
        if child == 0:
            die_at(owner, name, int(call))
            module.publish(source, base, lambda path: None, keep=2)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        folders = sorted(path.name for path in base.iterdir() if path.is_dir())
        print(death, status, *folders, flush=True)
"""


def test_a_publisher_killed_at_any_point_leaves_no_half_version_and_the_next_one_cleans_up(source, base):
    publish(source, base, approve)
    command = [sys.executable, "-c", KILLED, source, base]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == [
        "_copy 1 -9 1",
        "_copy_file 2 -9 .publishing-2 1",
        "_sync 5 -9 .publishing-2 1",
        "_sync 7 -9 1 2",  # after the rename: it is published
        "rename 1 -9 .publishing-3 1 2",
        "rmtree 2 -9 .removing-1 2 3",  # the first one was for what the death before left
    ], done.stderr
    assert publish(source, base, approve) == base / "4"
    assert hidden(base) == [".publish.lock"]
    assert visible(base) == [2, 3, 4]
    assert all(content(base / str(version)) == FILES for version in visible(base))


def test_a_server_takes_up_what_is_published_and_needs_no_folder_of_a_version_it_holds(half_plus_two, base):
    """Neither pruning nor a run's next export, which replaces the last one, takes a version from under a server."""
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
