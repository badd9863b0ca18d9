"""Plug-ins, the user's modules that a config names under `plugins`: their location, source and import.

An imported plug-in registers its classes. Its source is part of the fingerprint of every station that uses one of its
names. Source and imported code have to be the same, so a module that changed since its import is refused.
"""

import hashlib
import importlib
import importlib.util
import pickle
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field

from tfdnc.contracts.errors import UserError

_imported: dict[str, str] = {}
"""Digest of the source by plug-in, for the plug-ins that this process has imported."""


def _without_suffix(plugin: str) -> str:
    if plugin.endswith(".py"):
        raise ValueError(f"expected the name of a module without .py, {plugin.removesuffix('.py')}")
    return plugin


PluginName = Annotated[str, Field(pattern=r"^(.*/)?[^\W\d]\w*(\.[^\W\d]\w*)*$"), AfterValidator(_without_suffix)]
"""Name of a module, such as `my_module` or `package.module`; with a folder before it, `/folder/my_module`."""


def locate(plugins: object, folder: Path) -> object:
    """Returns the value of the key `plugins` with the folder of every module beside the config.

    Args:
        plugins: names of modules, with or without a folder relative to the config; another value than a list is kept.
        folder: of the config.

    Returns:
        `/folder/name` of modules beside the config, or in the given folder; other names are on the Python path.
    """
    if not isinstance(plugins, Iterable) or isinstance(plugins, str):
        return plugins
    return [_locate(plugin, folder.resolve()) if isinstance(plugin, str) else plugin for plugin in plugins]


def import_plugins(plugins: Sequence[str]) -> None:
    """Imports the modules that a config names, each once in a process.

    Raises:
        UserError: a module is missing or fails, another one has its name, or its source changed since its import.
    """
    for plugin in plugins:
        digest = _digest(plugin)
        _import(plugin)
        _imported[plugin] = digest


def source_digests(plugins: Sequence[str]) -> dict[str, str]:
    """Returns the SHA-256 of the source of every plug-in by its dotted name: of a package, of all its `.py` files.

    Raises:
        UserError: a module is missing, or its source changed since this process imported it.
    """
    return {_Module.of(plugin).name: _digest(plugin) for plugin in plugins}


class WithPlugins:
    """A value for a worker process, which imports the plug-ins of this process before it unpickles the value.

    Attributes:
        value: anything that `pickle` takes.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __getstate__(self) -> tuple[list[str], bytes]:
        """Returns the plug-ins, and the value as bytes that are unpickled after their import."""
        return list(_imported), pickle.dumps(self.value)

    def __setstate__(self, state: tuple[list[str], bytes]) -> None:
        """Imports the plug-ins from the worker's files, and unpickles the value."""
        plugins, value = state
        for plugin in plugins:
            _import(plugin)
        self.value = pickle.loads(value)


class _Module(NamedTuple):
    """The folder of a module, None for the Python path, and its dotted name."""

    folder: Path | None
    name: str

    @classmethod
    def of(cls, plugin: str) -> "_Module":
        folder, slash, name = plugin.rpartition("/")
        return cls(Path(folder or slash) if slash else None, name)

    @property
    def top(self) -> str:
        """Name of the outermost package, or of the module itself."""
        return self.name.partition(".")[0]

    def __str__(self) -> str:
        return f"the module {self.name} of `plugins` {f'in {self.folder}' if self.folder else 'on the Python path'}"


def _locate(plugin: str, folder: Path) -> str:
    module = _Module.of(plugin)
    if module.folder is not None:
        return str((folder / module.folder).resolve() / module.name)
    return str(folder / module.name) if _files_of(folder, module.top) else plugin


def _import(plugin: str) -> None:
    if plugin in _imported:
        return
    module = _Module.of(plugin)
    if module.folder is not None and str(module.folder) not in sys.path:
        sys.path.append(str(module.folder))  # at the end: a file there must not hide a module of a library
    importlib.invalidate_caches()  # Python may have cached the folder before the module was written
    _refuse_another(module)
    try:
        importlib.import_module(module.name)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # code of the module may raise any exception, or end the process
        raise UserError(
            f"Expected to import {module}, but that failed with {type(error).__name__}: {error}. Mend the module, or "
            "correct `plugins` in the config."
        ) from error


def _refuse_another(module: _Module) -> None:
    """Raises a `UserError` if Python would import a module of this name from elsewhere."""
    spec = _spec(module.top)
    if module.folder is None or spec is None or spec.origin is None:
        return
    if not Path(spec.origin).resolve().is_relative_to(module.folder.resolve()):
        raise UserError(
            f"Expected {module}, but Python has another one of this name, {spec.origin}: rename yours, or start Python "
            "anew if that one is a plug-in of another config."
        )


def _digest(plugin: str) -> str:
    module = _Module.of(plugin)
    found = _source(module)
    if not found:
        raise UserError(
            f"Expected {module}, found none: put {module.top}.py beside the config file or on the Python path, or "
            "correct `plugins` in the config."
        )
    total = hashlib.sha256()
    for name, path in found.items():
        content = path.read_bytes()
        total.update(f"{name} {len(content)}\n".encode() + content)
    digest = total.hexdigest()
    if _imported.get(plugin, digest) != digest:
        raise UserError(
            f"Expected {module} as this process imported it, but its source changed since: start Python, or the "
            "command, anew."
        )
    return digest


def _source(module: _Module) -> dict[str, Path]:
    """Source files of a plug-in, by their path inside of it; empty if there is no such module."""
    if module.folder is not None:
        return _files_of(module.folder, module.top)
    spec = _spec(module.top)
    if spec is None:
        return {}
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if not folders and spec.origin:
        return {Path(spec.origin).name: Path(spec.origin)}
    return {name: path for folder in folders for name, path in _python_files(folder).items()}


def _spec(name: str) -> "importlib.machinery.ModuleSpec | None":
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # a module without a spec, such as `__main__`
        return None


def _files_of(folder: Path, name: str) -> dict[str, Path]:
    """Files of the package or module of this name in a folder, as `_source`."""
    if (folder / name / "__init__.py").is_file():
        return _python_files(folder / name)
    file = folder / f"{name}.py"
    return {file.name: file} if file.is_file() else {}


def _python_files(package: Path) -> dict[str, Path]:
    return {path.relative_to(package).as_posix(): path for path in sorted(package.rglob("*.py"))}
