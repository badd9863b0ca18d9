"""Plug-ins: where a config finds them, what their source is, and what is said of one that cannot be used."""

import itertools
import pickle
import subprocess
import sys

import pytest

from tfdnc.contracts import plugins
from tfdnc.contracts.config import MergeConfig, dump_config, load_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.plugins import WithPlugins, import_plugins, source_digests
from tfdnc.contracts.registry import Choice, Registry
from tfdnc.contracts.section import Positive, Section

_NUMBERS = itertools.count()


@pytest.fixture
def name(monkeypatch):
    """A module name that no other test has; what its import changes is undone."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(plugins, "_imported", {})
    fresh = f"a_plugin_{next(_NUMBERS)}"
    yield fresh
    for module in [module for module in sys.modules if module.partition(".")[0] == fresh]:
        del sys.modules[module]


def write(folder, name, text="x = 1\n"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(text)


def load(folder, keys, name="x.yaml", **options):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"name: x\n{keys}\n")
    return load_config(folder / name, **options)


class TestWhereItLies:
    def test_beside_the_config_that_names_it(self, tmp_path, name):
        """A config elsewhere that extends it, and the resolved config of a run, find the same module."""
        write(tmp_path / "base", name)
        load(tmp_path / "base", f"plugins: [{name}]")
        config = load(tmp_path / "more", "extends: ../base/x.yaml")
        assert config.plugins == (f"{tmp_path / 'base'}/{name}",)
        (tmp_path / "resolved.yaml").write_text(dump_config(config))
        assert load_config(tmp_path / "resolved.yaml").plugins == config.plugins

    def test_beside_the_config_of_an_override(self, tmp_path, name):
        write(tmp_path, name)
        assert load(tmp_path, "", set=[f"plugins=[{name}]"]).plugins == (f"{tmp_path}/{name}",)

    def test_in_a_folder_relative_to_the_config(self, tmp_path, name):
        assert load(tmp_path / "configs", f"plugins: [../lib/{name}]").plugins == (f"{tmp_path}/lib/{name}",)

    def test_on_the_python_path(self, tmp_path, name, monkeypatch):
        write(tmp_path / "installed", name)
        monkeypatch.syspath_prepend(str(tmp_path / "installed"))
        config = load(tmp_path, f"plugins: [{name}]")
        assert config.plugins == (name,)
        import_plugins(config.plugins)
        assert sys.modules[name].x == 1

    @pytest.mark.parametrize("wrong", ["my_module.py", "my-module", "", "a..b"])
    def test_what_is_no_name_of_a_module_is_refused(self, tmp_path, wrong):
        with pytest.raises(UserError, match=r"plugins\.0: "):
            load(tmp_path, f'plugins: ["{wrong}"]')


class TestSource:
    def test_of_a_module_it_is_the_file(self, tmp_path, name):
        write(tmp_path, name)
        before = source_digests([f"{tmp_path}/{name}"])
        write(tmp_path, "another")
        assert source_digests([f"{tmp_path}/{name}"]) == before
        write(tmp_path, name, "x = 2\n")
        assert source_digests([f"{tmp_path}/{name}"]) != before

    def test_of_a_package_it_is_every_python_file_wherever_the_package_lies(self, tmp_path, name):
        for folder in (tmp_path / "a", tmp_path / "b"):
            write(folder / name, "__init__")
            write(folder / name / "inner", "encoders")
        module = f"{name}.inner.encoders"
        before = source_digests([f"{tmp_path}/a/{module}"])
        assert before == source_digests([f"{tmp_path}/b/{module}"])
        assert list(before) == [module]
        write(tmp_path / "a" / name, "helper")
        assert source_digests([f"{tmp_path}/a/{module}"]) != before

    def test_an_edit_after_the_import_is_refused(self, tmp_path, name):
        """A fingerprint of the new source would stand beside the work of the old code."""
        write(tmp_path, name)
        import_plugins([f"{tmp_path}/{name}"])
        import_plugins([f"{tmp_path}/{name}"])
        write(tmp_path, name, "x = 2\n")
        for use in (import_plugins, source_digests):
            with pytest.raises(UserError, match=rf"the module {name} .* its source changed since: start Python"):
                use([f"{tmp_path}/{name}"])


class TestWhatCannotBeImported:
    def test_a_missing_module(self, tmp_path, name):
        config = load(tmp_path, f"plugins: [{name}]")
        with pytest.raises(
            UserError, match=rf"the module {name} of `plugins` on the Python path, found none: put {name}"
        ):
            import_plugins(config.plugins)

    @pytest.mark.parametrize(
        ("text", "cause"),
        [
            ("import absent_library", "ModuleNotFoundError: No module named 'absent_library'"),
            ("x = (", "SyntaxError: "),
        ],
    )
    def test_a_failing_module_is_tried_again_when_it_is_mended(self, tmp_path, name, text, cause):
        write(tmp_path, name, text)
        with pytest.raises(
            UserError, match=rf"the module {name} of `plugins` in {tmp_path}, but that failed with {cause}"
        ):
            import_plugins([f"{tmp_path}/{name}"])
        write(tmp_path, name, "mended = True\n")
        import_plugins([f"{tmp_path}/{name}"])
        assert sys.modules[name].mended

    def test_another_module_of_its_name(self, tmp_path):
        """A file beside the config never hides a module of a library, nor is that one taken for the plug-in."""
        write(tmp_path, "json")
        with pytest.raises(UserError, match=r"Python has another one of this name, .*json.__init__\.py: rename yours"):
            import_plugins([f"{tmp_path}/json"])


def test_a_worker_imports_the_plug_ins_before_it_reads_what_was_sent(tmp_path, name):
    write(tmp_path, name, "class Rows:\n    count = 7\n")
    import_plugins([f"{tmp_path}/{name}"])
    sent = pickle.dumps(WithPlugins(sys.modules[name].Rows()))
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).value.count)"
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout == b"7\n"


class PoolOptions(Section):
    size: Positive = 2


class TestRegistry:
    @pytest.fixture
    def encoders(self):
        registry = Registry("user encoder")
        registry.register("plain")(_function_of("tfdnc.model"))
        registry.register("pool", options=PoolOptions)(_function_of("my_module"))
        return registry

    def test_names_of_plug_ins_are_among_the_known_ones(self, encoders):
        with pytest.raises(UserError, match=r"Unknown user encoder 'pol'; known: plain, pool\."):
            encoders.resolve("pol")
        assert encoders.is_foreign("pool")
        assert not encoders.is_foreign("plain")

    def test_a_module_that_is_imported_again_replaces_its_own_names_only(self, encoders):
        again = _function_of("my_module")
        encoders.register("pool")(again)
        assert encoders["pool"] is again
        with pytest.raises(ValueError, match="user encoder 'plain' is registered twice"):
            encoders.register("plain")(again)

    @pytest.mark.parametrize(
        ("name", "options", "complaint"),
        [
            ("pool", {"sise": 3}, r"model\.options of user encoder 'pool': unknown key 'sise'; known here: size"),
            ("pool", {"size": 0}, r"model\.options of user encoder 'pool': size: .* greater than or equal to 1, got 0"),
            ("plain", {"size": 3}, r"Expected no model\.options with user encoder 'plain', which has none, got "),
        ],
    )
    def test_options_are_checked_by_the_type_that_the_name_was_registered_with(
        self, encoders, name, options, complaint
    ):
        Choice(encoders, "pool", {"size": 3}, "model.options").check()
        with pytest.raises(UserError, match=complaint):
            Choice(encoders, name, options, "model.options").check()


def test_a_section_with_options_has_a_hash():
    """Graphs of an evaluation are kept by the merge section that they belong to."""
    one, same, other, none = (MergeConfig(options=options) for options in ({"a": [1]}, {"a": [1]}, {"a": [2]}, {}))
    assert {one: 1}[same] == 1
    assert len({one, same, other, none, MergeConfig()}) == 3


def _function_of(module):
    def function():
        """An implementation."""

    function.__module__ = module
    return function
