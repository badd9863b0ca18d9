"""Modules of the user's own that a config names under `plugins`: where they lie, their source, and their import.

A plug-in fills the registries when it is imported. Its source is part of the fingerprint of every station that uses one
of its names, so source and imported code must be the same: a module that changed since its import is refused.
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
"""Digest of the source by plug-in, of all that this process has imported."""


def _without_suffix(plugin: str) -> str:
    if plugin.endswith(".py"):
        raise ValueError(f"expected the name of a module without .py, {plugin.removesuffix('.py')}")
    return plugin


PluginName = Annotated[str, Field(pattern=r"^(.*/)?[^\W\d]\w*(\.[^\W\d]\w*)*$"), AfterValidator(_without_suffix)]
"""Name of a module, such as `my_module` or `package.module`; with a folder before it, `/folder/my_module`."""


def locate(plugins: object, folder: Path) -> object:
    """Returns the value of the key `plugins` with the folder of every module that lies beside the config.

    Args:
        plugins: names of modules, perhaps behind a folder relative to the config; what is no list stays as it is.
        folder: of the config.

    Returns:
        `/folder/name` of modules beside the config, or in the folder given; other names are to be on the Python path.
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
    return {_Place.of(plugin).module: _digest(plugin) for plugin in plugins}


class WithPlugins:
    """A value on its way to a worker process, which imports the plug-ins of this process before it reads the value.

    Attributes:
        value: anything that `pickle` takes.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __getstate__(self) -> tuple[list[str], bytes]:
        """The plug-ins, and the value as bytes that cannot be read before their import."""
        return list(_imported), pickle.dumps(self.value)

    def __setstate__(self, state: tuple[list[str], bytes]) -> None:
        """Imports the plug-ins, as they are there, and reads the value."""
        plugins, value = state
        for plugin in plugins:
            _import(plugin)
        self.value = pickle.loads(value)


class _Place(NamedTuple):
    """The folder that holds a module, None for the Python path, and the dotted name of the module."""

    folder: Path | None
    module: str

    @classmethod
    def of(cls, plugin: str) -> "_Place":
        folder, slash, module = plugin.rpartition("/")
        return cls(Path(folder or slash) if slash else None, module)

    @property
    def top(self) -> str:
        """Name of the outermost package, or of the module itself."""
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"the module {self.module} of `plugins` {f'in {self.folder}' if self.folder else 'on the Python path'}"


def _locate(plugin: str, folder: Path) -> str:
    place = _Place.of(plugin)
    if place.folder is not None:
        return str((folder / place.folder).resolve() / place.module)
    return str(folder / place.module) if _files_of(folder, place.top) else plugin


def _import(plugin: str) -> None:
    if plugin in _imported:
        return
    place = _Place.of(plugin)
    if place.folder is not None and str(place.folder) not in sys.path:
        sys.path.append(str(place.folder))  # at the end: a file there must not hide a module of a library
    importlib.invalidate_caches()  # the module may have been written a moment ago
    _refuse_another(place)
    try:
        importlib.import_module(place.module)
    except UserError:
        raise
    except Exception as error:  # whatever the module's own code raises
        raise UserError(
            f"Expected to import {place}, but that failed with {type(error).__name__}: {error}. Mend the module, or "
            "correct `plugins` in the config."
        ) from error


def _refuse_another(place: _Place) -> None:
    """Raises a `UserError` if Python would import a module of this name from elsewhere."""
    spec = _spec(place.top)
    if place.folder is None or spec is None or spec.origin is None:
        return
    if not Path(spec.origin).resolve().is_relative_to(place.folder.resolve()):
        raise UserError(
            f"Expected {place}, but Python has another one of this name, {spec.origin}: rename yours, or start Python "
            "anew if that one is a plug-in of another config."
        )


def _digest(plugin: str) -> str:
    place = _Place.of(plugin)
    found = _source(place)
    if not found:
        raise UserError(
            f"Expected {place}, found none: put {place.top}.py beside the config file or on the Python path, or "
            "correct `plugins` in the config."
        )
    total = hashlib.sha256()
    for name, path in found.items():
        content = path.read_bytes()
        total.update(f"{name} {len(content)}\n".encode() + content)
    digest = total.hexdigest()
    if _imported.get(plugin, digest) != digest:
        raise UserError(
            f"Expected {place} as this process imported it, but its source changed since: start Python, or the "
            "command, anew."
        )
    return digest


def _source(place: _Place) -> dict[str, Path]:
    """Files that make up a plug-in, by their names inside of it; none where there is no such module."""
    if place.folder is not None:
        return _files_of(place.folder, place.top)
    spec = _spec(place.top)
    if spec is None:
        return {}
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if not folders and spec.origin:
        return {Path(spec.origin).name: Path(spec.origin)}
    return {name: path for folder in folders for name, path in _python_files(folder).items()}


def _spec(name: str) -> "importlib.machinery.ModuleSpec | None":
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # of a module that was made by hand, such as `__main__`
        return None


def _files_of(folder: Path, name: str) -> dict[str, Path]:
    """Files of the package or module of this name in a folder, as `_source`."""
    if (folder / name / "__init__.py").is_file():
        return _python_files(folder / name)
    file = folder / f"{name}.py"
    return {file.name: file} if file.is_file() else {}


def _python_files(package: Path) -> dict[str, Path]:
    return {path.relative_to(package).as_posix(): path for path in sorted(package.rglob("*.py"))}
