"""Labels move in a file that a server polls: loaded first, moved then, and no request is refused meanwhile."""

import threading
import time

import pytest
import serving_models
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2
from waiting import SECONDS

from serving import server as embedded
from serving import text_proto
from serving.bundles import labels
from tfdnc.contracts.errors import UserError

COMMENTS = "# Versions of half.\n\n# Edited by hand.\n"


@pytest.fixture
def config(half_plus_two, tmp_path):
    entry = """model_version_policy { specific { versions: 1 } }
               version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 1 }"""
    file = tmp_path / "models.config"
    file.write_text(COMMENTS + serving_models.models_config(half=(half_plus_two, entry)))
    return file


def entry_of(file):
    [entry] = text_proto.read(file, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    return sorted(entry.model_version_policy.specific.versions), dict(entry.version_labels)


def serve(config):
    return embedded.running(
        model_config_file=config,
        model_config_file_poll_wait_seconds=1,
        allow_version_labels_for_unavailable_models=True,
    )


def test_a_label_moves_while_requests_for_it_are_answered(config):
    ended, answered = threading.Event(), []
    with serve(config) as server:

        def ask():
            while not ended.is_set():
                with server.manager.lease(model_pb2.ModelSpec(name="half", version_label="stable")) as servable:
                    answered.append(servable.version)
                ended.wait(0.01)

        client = threading.Thread(target=ask)
        client.start()
        try:
            wait = labels.wait_for_servers([server.address], timeout=60)
            assert labels.move(config, "half", {"canary": 2}, wait) == [1, 2]
            assert entry_of(config) == ([1, 2], {"stable": 1, "canary": 2})
            assert labels.move(config, "half", {"stable": 2}, wait) == [2]
            wanted, deadline = len(answered) + 2, time.monotonic() + SECONDS
            while len(answered) < wanted:  # a refused request ends the thread
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            ended.set()
            client.join()
    assert entry_of(config) == ([2], {"stable": 2, "canary": 2})
    assert set(answered) == {1, 2}
    assert answered == sorted(answered)
    assert config.read_text().startswith(COMMENTS)


def test_a_version_that_does_not_load_leaves_the_file_as_it_was(config):
    before = config.read_text()
    with serve(config) as server:
        wait = labels.wait_for_servers([server.address], timeout=1)
        with pytest.raises(UserError, match=r"to have version 9 of model half by now, it says: NOT_FOUND.*--timeout"):
            labels.move(config, "half", {"stable": 9}, wait)
    assert config.read_text() == before


def test_every_step_of_the_file_is_one_that_servers_take(config):
    """New versions are listed before a label names them, and old ones leave after no label names them."""
    steps = []

    def wait(wanted):
        steps.append((*entry_of(config), [(one.version, one.label) for one in wanted]))

    labels.move(config, "half", {"stable": 2, "canary": 2}, wait)
    assert steps == [
        ([1, 2], {"stable": 1, "canary": 1}, [(2, "")]),
        ([1, 2], {"stable": 2, "canary": 2}, [(2, "stable"), (2, "canary")]),
    ]
    assert entry_of(config) == ([2], {"stable": 2, "canary": 2})


@pytest.mark.parametrize(
    ("model", "policy", "message"),
    [
        ("other", "specific { versions: 1 }", r"Expected model other in .*, found half\. Name it with --model-name"),
        ("half", "latest {}", r"Expected `model_version_policy \{ specific .* Write the versions that are served now"),
        ("half", "", r"Expected `model_version_policy"),
    ],
)
def test_a_file_that_cannot_hold_labels_is_refused(config, half_plus_two, model, policy, message):
    policy = policy and f"model_version_policy {{ {policy} }}"
    config.write_text(serving_models.models_config(half=(half_plus_two, policy)))
    with pytest.raises(UserError, match=message):
        labels.move(config, model, {"stable": 2}, labels.wait_seconds(0))


def test_an_edit_meanwhile_is_not_overwritten(config):
    """Of two moves at the same time one was lost without a word."""
    edited = config.read_text().replace("canary", "trial")
    with pytest.raises(UserError, match=r"as this command wrote it, it has been edited\. Move the labels again"):
        labels.move(config, "half", {"stable": 2}, lambda wanted: config.write_text(edited))
    assert config.read_text() == edited

    def other(wanted):
        with pytest.raises(UserError, match="Another command moves labels"):
            labels.move(config, "half", {"trial": 2}, labels.wait_seconds(0))

    assert labels.move(config, "half", {"stable": 2}, other) == [1, 2]
