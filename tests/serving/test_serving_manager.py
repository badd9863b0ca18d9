"""Order in which the manager loads, lends and unloads versions; fake servables let a test stop at every step."""

import contextlib
import gc
import threading
import time

import grpc
import pytest
from tensorflow_serving.apis import model_pb2

from serving.manager import ModelManager, State
from serving.status import ServingError
from tfdnc.contracts.errors import UserError


class FakeServable:
    def __init__(self, version):
        self.version = version
        self.closed = threading.Event()

    def close(self):
        self.closed.set()


class FakeLoader:
    """Makes fakes: `held` versions load once released, `broken` ones fail as often as it says."""

    def __init__(self):
        self.asked, self.made = [], {}
        self.held: dict[int, threading.Event] = {}
        self.broken: dict[int, float] = {}

    def __call__(self, name, version, path):
        self.asked.append(version)
        if version in self.held:
            assert self.held[version].wait(30)
        if self.broken.get(version, 0) > 0:
            self.broken[version] -= 1
            raise UserError(f"version {version} is broken")
        self.made[version] = FakeServable(version)
        return self.made[version]


@pytest.fixture
def loader():
    return FakeLoader()


@pytest.fixture
def make(loader):
    """Makes managers over `loader`, and closes them."""
    with contextlib.ExitStack() as stack:

        def manager(**settings):
            manager = ModelManager(loader, warm_up=lambda servable: None, **settings)
            stack.callback(manager.close)
            return manager

        yield manager
        for release in loader.held.values():
            release.set()


def until(manager, condition):
    """Waits for something that the manager does in the background."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, manager._versions
        with manager._changed:
            manager._changed.wait(0.02)


def spec(number=None, name="m", label=""):
    spec = model_pb2.ModelSpec(name=name)
    if label:
        spec.version_label = label
    if number is not None:
        spec.version.value = number
    return spec


def versions(*numbers):
    return {number: f"/{number}" for number in numbers}


def states(manager, name="m"):
    return {state.version: state.state for state in manager.states(model_pb2.ModelSpec(name=name))}


def who_answers(manager, spec=spec()):  # noqa: B008 - never changed
    with manager.lease(spec) as servable:
        return servable.version


def refusal(manager, spec):
    with pytest.raises(ServingError) as caught:
        who_answers(manager, spec)
    return caught.value.code, caught.value.message


def test_the_old_version_answers_until_the_new_one_is_there_and_is_then_unloaded(make, loader):
    manager = make()
    manager.want("m", versions(1))
    assert manager.wait_until_available(["m"]) == {}
    loader.held[2] = threading.Event()
    manager.want("m", versions(2))
    until(manager, lambda: loader.asked == [1, 2])
    assert who_answers(manager) == 1
    assert states(manager) == {2: State.LOADING, 1: State.AVAILABLE}
    loader.held[2].set()
    until(manager, lambda: states(manager) == {2: State.AVAILABLE, 1: State.END})
    assert who_answers(manager) == 2
    assert loader.made[1].closed.is_set()
    assert refusal(manager, spec(1)) == (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(m, 1)")


def test_a_version_in_use_is_unloaded_once_its_last_request_is_over(make, loader):
    manager = make()
    manager.want("m", versions(1))
    manager.wait_until_available(["m"])
    with manager.lease(spec()) as servable:
        with manager.lease(spec()):
            manager.want("m", {})
            assert states(manager) == {1: State.UNLOADING}
        assert not servable.closed.is_set()
        assert refusal(manager, spec()) == (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(m)")
    until(manager, lambda: states(manager) == {1: State.END})
    assert servable.closed.is_set()


def test_a_version_that_fails_leaves_the_old_one_and_is_not_tried_again_for_ever(make, loader):
    manager = make(max_num_load_retries=2, load_retry_interval=0)
    manager.want("m", versions(1))
    manager.wait_until_available(["m"])
    loader.broken[2] = 3
    manager.want("m", versions(2))
    until(manager, lambda: states(manager)[2] == State.END)
    assert loader.asked == [1, 2, 2, 2]
    (failed, _) = manager.states(spec())
    assert (failed.code, failed.message) == (grpc.StatusCode.UNKNOWN, "version 2 is broken")
    manager.want("m", versions(2))  # as every look at the disk says again
    assert who_answers(manager) == 1
    assert loader.asked == [1, 2, 2, 2]
    manager.want("m", versions(1))
    manager.want("m", versions(2))  # taken away and repaired
    until(manager, lambda: states(manager) == {2: State.AVAILABLE, 1: State.END})
    assert manager.states(spec(2))[0].code == grpc.StatusCode.OK


def test_retries_help_and_their_wait_keeps_no_other_model_waiting(make, loader):
    manager = make(max_num_load_retries=5, load_retry_interval=1000)
    loader.broken[1] = 1
    manager.want("m", versions(1))
    until(manager, lambda: manager.states(spec(1))[0].message == "version 1 is broken")
    assert states(manager) == {1: State.LOADING}
    manager.want("other", versions(7))
    assert manager.wait_until_available(["other"]) == {}
    manager._versions["m"][1].retry.function(manager._versions["m"][1])  # 1000 seconds later
    assert manager.wait_until_available(["m"]) == {}
    assert loader.asked == [1, 7, 1]


def test_a_version_that_is_no_longer_wanted_is_not_tried_again(make, loader):
    manager = make(max_num_load_retries=5, load_retry_interval=1000)
    loader.broken[1] = 9
    manager.want("m", versions(1))
    until(manager, lambda: manager._versions["m"][1].retry is not None)
    timer = manager._versions["m"][1].retry
    manager.want("m", {})
    assert states(manager) == {1: State.END}
    assert timer.finished.is_set()


def test_the_highest_version_is_loaded_first_and_answers_by_default(make, loader):
    manager = make()
    loader.held[3] = threading.Event()
    manager.want("m", versions(1, 2, 3))
    loader.held[3].set()
    assert manager.wait_until_available(["m"]) == {}
    assert loader.asked == [3, 2, 1]
    assert manager.available() == {"m": [1, 2, 3]}
    assert [who_answers(manager), who_answers(manager, spec(1))] == [3, 1]


def test_one_of_several_unwanted_versions_is_kept_until_the_new_one_is_available(make, loader):
    manager = make()
    manager.want("m", versions(1, 2, 3))
    manager.wait_until_available(["m"])
    loader.held[4] = threading.Event()
    manager.want("m", versions(4))
    until(manager, lambda: states(manager)[1] == states(manager)[2] == State.END)
    assert who_answers(manager) == 3
    loader.held[4].set()
    until(manager, lambda: manager.available() == {"m": [4]})


def test_a_version_that_is_wanted_again_while_it_is_unloaded_is_loaded_again(make, loader):
    manager = make()
    manager.want("m", versions(1))
    manager.wait_until_available(["m"])
    with manager.lease(spec()) as old:
        manager.want("m", {})
        manager.want("m", versions(1))
        assert states(manager) == {1: State.UNLOADING}
    manager.wait_until_available(["m"])
    with manager.lease(spec()) as new:
        assert new is not old


def test_waiting_ends_when_all_wanted_versions_have_failed(make, loader):
    manager = make()
    loader.broken = {1: 9, 2: 9}
    manager.want("good", versions(5))
    manager.want("m", versions(1, 2))
    (name, failed) = next(iter(manager.wait_until_available(["m", "good"]).items()))
    assert (name, failed.state, failed.code) == ("m", State.END, grpc.StatusCode.UNKNOWN)
    loader.broken = {}
    manager.want("half", versions(3))
    loader.broken[4] = 9
    manager.want("half", versions(3, 4))
    assert manager.wait_until_available(["half"]) == {}


def test_a_warm_up_that_fails_closes_the_version(loader):
    def refuse(servable):
        raise UserError("too cold")

    manager = ModelManager(loader, warm_up=refuse)
    manager.want("m", versions(1))
    assert manager.wait_until_available(["m"])["m"].message == "too cold"
    assert loader.made[1].closed.is_set()
    manager.close()


def test_a_version_is_made_on_a_thread_of_its_own_that_ends_after_it(loader):
    """Versions that were made on one thread shared pages of its heap: a server grew with every new version."""
    threads = {}

    def load(name, version, path):
        threads[version] = [threading.current_thread()]
        return loader(name, version, path)

    manager = ModelManager(load, warm_up=lambda servable: threads[servable.version].append(threading.current_thread()))
    loader.broken[3] = 1
    for number, ended in ((1, []), (2, [1]), (3, [1, 3]), (4, [1, 2, 3])):
        manager.want("m", versions(number))
        until(manager, lambda number=number: states(manager)[number] in (State.AVAILABLE, State.END))
        until(manager, lambda: State.UNLOADING not in states(manager).values())
        assert [made for made in sorted(threads) if not threads[made][0].is_alive()] == ended
    for number in (1, 2, 4):
        loading, warming_up = threads[number]
        assert loading is warming_up
    assert len({thread for used in threads.values() for thread in used}) == 4
    manager.close()
    assert not any(thread.is_alive() for used in threads.values() for thread in used)


def test_a_version_whose_close_fails_ends_nevertheless(make, loader, caplog):
    manager = make()
    manager.want("m", versions(1))
    manager.wait_until_available(["m"])
    loader.made[1].close = None  # calling it raises
    manager.want("m", {})
    until(manager, lambda: states(manager) == {1: State.END})
    assert "version 1 of model m did not close" in caplog.text


def test_closing_ends_all_waits_and_frees_what_is_used_afterwards(make, loader):
    manager = make()
    manager.want("m", versions(1))
    manager.wait_until_available(["m"])
    loader.held[2] = threading.Event()
    manager.want("n", versions(2))
    until(manager, lambda: loader.asked == [1, 2])  # a load that has not begun when the manager closes never does
    codes = []

    def wait():
        with pytest.raises(ServingError) as caught:
            manager.wait_until_available(["n"])
        codes.append(caught.value.code)

    waiting = threading.Thread(target=wait)
    waiting.start()
    with manager.lease(spec()) as servable:
        closing = threading.Thread(target=manager.close)
        closing.start()
        waiting.join(30)
        assert codes == [grpc.StatusCode.UNAVAILABLE]
        loader.held[2].set()  # a load that has begun is finished, and undone
        closing.join(30)
        assert not closing.is_alive()
        assert loader.made[2].closed.is_set()
        assert not servable.closed.is_set()
    assert servable.closed.is_set()
    assert states(manager) == {1: State.END}
    manager.want("m", versions(1))  # too late
    assert manager.available() == {"m": [], "n": []}


def test_an_unloaded_version_leaves_no_graph_behind(half_plus_two):
    def graphs():
        return sum(type(thing).__name__ == "Session" for thing in gc.get_objects())

    manager = ModelManager()
    before = graphs()
    manager.want("m", {1: half_plus_two / "1"})
    assert manager.wait_until_available(["m"]) == {}
    assert graphs() == before + 1
    manager.close()
    assert graphs() == before


@pytest.mark.parametrize(
    ("asked", "code", "message"),
    [
        (spec(name=""), grpc.StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (spec(name="x"), grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(x)"),
        (spec(9), grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(m, 9)"),
        (spec(label="new"), grpc.StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label: new"),
        (spec(label="old"), grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(m, 3)"),
    ],
)
def test_what_is_not_there_is_refused_in_tf_servings_words(make, asked, code, message):
    manager = make()
    manager.want("m", versions(1))
    manager.set_labels({"m": {"stable": 1, "old": 3}})
    manager.wait_until_available(["m"])
    assert refusal(manager, asked) == (code, message)
    assert who_answers(manager, spec(label="stable")) == 1
