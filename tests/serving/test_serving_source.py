"""Configs and folders become loaded versions: policies, polls, labels, reloads, and how TF Serving words a refusal."""

import threading

import grpc
import pytest
import serving_models
from google.protobuf import text_format
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.manager import ModelManager
from serving.model_config import choose_versions, models_of, single_model
from serving.source import ModelSource, Periodic
from serving.status import ServingError
from tfdnc.contracts.errors import UserError

BROKEN = 13


class Fake:
    """A servable of which nothing is asked."""

    def close(self):
        pass


def load(name, version, path):
    if version == BROKEN:
        raise UserError("Expected luck, got thirteen. Try fourteen.")
    return Fake()


@pytest.fixture
def manager():
    manager = ModelManager(load, warm_up=lambda servable: None)
    yield manager
    manager.close()


@pytest.fixture
def source(manager):
    return ModelSource(manager)


@pytest.fixture
def base(tmp_path):
    return folder(tmp_path / "base", 1, 2, 3)


def folder(path, *versions):
    for version in versions:
        (path / str(version)).mkdir(parents=True)
    return path


def parse(text):
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def config(**models):
    return parse(serving_models.models_config(**models))


def policy(text):
    return f"model_version_policy {{ {text} }}"


def label(name, version):
    return f'version_labels {{ key: "{name}" value: {version} }}'


def settled(manager, *names):
    manager.wait_until_available(names)
    return manager.available()


def refusal(call, *arguments):
    with pytest.raises(ServingError) as caught:
        call(*arguments)
    return caught.value.code, caught.value.message


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", [3]),
        ("latest {}", [3]),
        ("latest { num_versions: 2 }", [3, 2]),
        ("latest { num_versions: 9 }", [3, 2, 1]),
        ("all {}", [1, 2, 3]),
        ("specific { versions: 1 versions: 3 versions: 8 }", [1, 3]),
        ("specific {}", []),
    ],
)
def test_version_policies(text, chosen):
    model = models_of(config(m=("/m", policy(text))))["m"]
    on_disk = {number: f"/m/{number}" for number in (1, 2, 3)}
    assert choose_versions(model, on_disk) == {number: f"/m/{number}" for number in chosen}


INVALID = grpc.StatusCode.INVALID_ARGUMENT
TYPE, PLATFORM = "ModelServerConfig::model_type (deprecated)", "ModelServerConfig::model_platform, model name is a"
NEITHER, BOTH = f"Illegal setting neither {TYPE} nor {PLATFORM}", f"Illegal setting both {TYPE} and {PLATFORM}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('name: "a" base_path: "/a"', NEITHER),
        ('name: "a" base_path: "/a" model_type: TENSORFLOW model_platform: "tensorflow"', BOTH),
        ('name: "a" base_path: "/a" model_type: OTHER', "ModelServerConfig::model_type choice 2 not supported."),
        ('name: "a" base_path: "/a" model_platform: "onnx"', "Model a requests unsupported platform onnx"),
        (
            'name: "a" base_path: "a" model_platform: "tensorflow"',
            "Expected model a to have an absolute path or URI; got base_path()=a",
        ),
    ],
)
def test_models_that_cannot_be_served_are_refused(fields, message):
    assert refusal(models_of, parse(f"model_config_list {{ config {{ {fields} }} }}")) == (INVALID, message)


def test_other_configs_are_refused_and_the_deprecated_type_is_understood():
    twice = serving_models.models_config(a="/a")[:-1] + 'config { name: "a" base_path: "/b" model_type: TENSORFLOW } }'
    assert refusal(models_of, parse(twice)) == (INVALID, "Illegal to list model a multiple times in config list")
    custom = parse("custom_model_config {}")
    assert refusal(models_of, custom) == (INVALID, "ModelServer does not yet support custom model config.")
    old = parse('model_config_list { config { name: "a" base_path: "/a" model_type: TENSORFLOW } }')
    assert list(models_of(old)) == ["a"]


def test_new_versions_are_found_and_what_is_still_being_copied_is_not(source, manager, base):
    source.reload(single_model("m", base))
    assert manager.available() == {"m": [3]}
    copy = folder(base, ".4.unfinished", "4.tmp") / ".4.unfinished"
    (base / "5").write_text("not a folder")
    source.poll()
    assert settled(manager, "m") == {"m": [3]}
    copy.rename(base / "4")
    source.poll()
    assert 4 in settled(manager, "m")["m"]


def test_vanished_versions_are_unloaded_but_not_those_of_a_base_path_that_cannot_be_read(source, manager, base, caplog):
    source.reload(config(m=base, other=folder(base.parent / "other", 7)))
    moved = base.rename(base.parent / "moved")
    folder(base.parent / "other", 8)
    source.poll()
    assert manager.available()["m"] == [3]
    assert "Could not find base path" in caplog.text
    assert 8 in settled(manager, "other")["other"]
    moved.rename(base)
    (base / "3").rmdir()
    source.poll()
    assert 2 in settled(manager, "m")["m"]
    (base / "1").rmdir()
    (base / "2").rmdir()
    source.poll()
    assert manager.available()["m"] == []
    assert "No versions of servable m found under base path" in caplog.text


def test_reload_adds_removes_and_changes_models(source, manager, base):
    source.reload(config(a=base, b=base))
    assert manager.available() == {"a": [3], "b": [3]}
    source.reload(config(b=(base, policy("all {}")), c=base))
    assert manager.available()["a"] == []
    assert manager.available()["c"] == [3]
    assert settled(manager, "b")["b"] == [1, 2, 3]
    source.reload(config(b=folder(base.parent / "elsewhere", 9)))
    assert 9 in settled(manager, "b")["b"]


def test_a_reload_that_is_refused_changes_nothing(source, manager, base):
    source.reload(config(a=base))
    elsewhere = base.parent / "elsewhere"
    code, message = refusal(source.reload, config(a=base, b=elsewhere))
    assert code == INVALID
    assert message.startswith(f"Could not find base path {elsewhere} for servable b with error")
    elsewhere.mkdir()
    assert refusal(source.reload, config(b=elsewhere)) == (
        grpc.StatusCode.NOT_FOUND,
        f"Unable to find a numerical version path for servable b at: {elsewhere}",
    )
    code, message = refusal(source.reload, parse(""))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert message.startswith("Cannot transition to requested config.")
    source.poll()
    assert manager.available() == {"a": [3]}


def test_a_new_model_that_does_not_load_is_reported_and_the_others_are_served(source, manager, base):
    bad = folder(base.parent / "bad", BROKEN)
    assert refusal(source.reload, config(a=base, b=bad)) == (
        grpc.StatusCode.UNKNOWN,
        "1 servable(s) did not become available: {{{name: b version: 13} due to error: UNKNOWN: Expected luck, got "
        "thirteen. Try fourteen.}, }",
    )
    assert manager.available()["a"] == [3]


def test_labels_name_available_versions_only(source, manager, base):
    def unavailable(version):
        message = f"Request to assign label to version {version} of model m, which is not currently available for"
        return grpc.StatusCode.FAILED_PRECONDITION, f"{message} inference"

    def labelled(**versions):
        labels = " ".join(label(*entry) for entry in versions.items())
        return config(m=(base, policy("latest { num_versions: 2 }") + labels))

    assert refusal(source.reload, labelled(stable=3)) == unavailable(3)
    source.reload(labelled())
    source.reload(labelled(stable=2, canary=3))
    assert manager.labels("m") == {"stable": 2, "canary": 3}
    assert refusal(source.reload, labelled(stable=1)) == unavailable(1)
    assert manager.labels("m") == {"stable": 2, "canary": 3}
    source.reload(labelled(stable=3))
    assert manager.labels("m") == {"stable": 3}
    (state,) = manager.states(model_pb2.ModelSpec(name="m", version_label="stable"))
    assert state.version == 3


def test_a_label_may_wait_for_its_version_if_the_flag_allows_it_and_it_is_new(manager, base):
    source = ModelSource(manager, allow_version_labels_for_unavailable_models=True)
    source.reload(config(m=(base, label("stable", 3) + label("next", 4))))
    assert manager.labels("m") == {"stable": 3, "next": 4}
    assert refusal(source.reload, config(m=(base, label("stable", 4))))[0] == grpc.StatusCode.FAILED_PRECONDITION


def test_the_config_file_is_followed_and_a_broken_one_is_passed_over(manager, base, tmp_path, caplog):
    file = tmp_path / "models.config"
    source = ModelSource(manager, file)
    file.write_text(serving_models.models_config(a=base))
    source.poll_config_file()
    assert manager.available() == {"a": [3]}
    for text, complaint in [("model_config_list {", "Invalid protobuf file"), ("", "Cannot transition")]:
        file.write_text(text)
        source.poll_config_file()
        assert complaint in caplog.text
    file.unlink()
    source.poll_config_file()
    assert "could not read it" in caplog.text
    assert manager.available() == {"a": [3]}
    file.write_text("model_config_list {}")
    source.poll_config_file()
    assert manager.available() == {"a": []}


def test_a_periodic_call_survives_failures_and_ends_when_told(caplog):
    calls, third = [], threading.Event()

    def call():
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            third.set()
        raise OSError("the disk is away")

    periodic = Periodic(call, 0.001, "look around")
    assert third.wait(30)
    periodic.stop()
    assert set(calls) == {"look around"}
    assert "look around failed" in caplog.text
    assert not periodic._thread.is_alive()
