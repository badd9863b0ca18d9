"""Overrides of single config keys, `section.key=value`; two that contradict each other are an error."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from tfdnc.contracts.errors import UserError
from tfdnc.contracts.yaml_reader import read_yaml


class _Override(NamedTuple):
    text: str
    keys: tuple[str, ...]
    value: object


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns nested `values` with the overrides applied in their order; `values` themselves stay as they are.

    A section may be replaced as a whole and then be completed key by key: `--set model={dim: 8} --set model.heads=2`.

    Args:
        values: of a config, section by section.
        overrides: `section.key=value`, the value in YAML.

    Raises:
        UserError: no key or no YAML, a key inside of a value that is no section, or two overrides that contradict.
    """
    parsed = [_parse(text) for text in overrides]
    for first, second in itertools.combinations(parsed, 2):
        if _undoes(second, first):
            shorter = first.keys if len(first.keys) <= len(second.keys) else second.keys
            raise UserError(
                f"Expected one value for {'.'.join(shorter)}, got --set {first.text} and "
                f"--set {second.text}: leave one of them out."
            )
    for override in parsed:
        values = _with(values, override.keys, override)
    return values


def _parse(text: str) -> _Override:
    dotted, separator, value = text.partition("=")
    if not separator or not dotted:
        raise UserError(f"Expected --set section.key=value, got {text!r}.")
    return _Override(text, tuple(dotted.split(".")), read_yaml(value, f"--set {text}"))


def _undoes(later: _Override, earlier: _Override) -> bool:
    """True if the later override changes or removes the value of the earlier one."""
    depth = len(earlier.keys)
    if len(later.keys) <= depth:
        return earlier.keys[: len(later.keys)] == later.keys and earlier != later._replace(text=earlier.text)
    if later.keys[:depth] != earlier.keys:
        return False
    found = earlier.value
    for key in later.keys[depth:]:
        if not isinstance(found, dict):
            return True
        if key not in found:
            return False
        found = found[key]
    return found != later.value


def _with(values: dict[str, Any], keys: tuple[str, ...], override: _Override) -> dict[str, Any]:
    """`values` with the override's value at `keys`; sections above are copied, because YAML aliases share them."""
    key, *inner = keys
    if not inner:
        return values | {key: override.value}
    section = {} if values.get(key) is None else values[key]
    if not isinstance(section, dict):
        raise UserError(f"--set {override.text}: {key!r} is a value, not a section.")
    return values | {key: _with(section, tuple(inner), override)}
