"""Changes of a station's inputs since its last result, as text: the reason why it works again."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

_MOST = 4  # changes that a line shows

_ABSENT = object()


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns a text for every input that differs.

    Args:
        before: `inputs` of the manifest of the last result.
        now: those of the present config and files, see `engine._inputs`.
    """
    now = json.loads(json.dumps(now))  # as a manifest has it: no tuples
    files = _pairs(before.get("files", {}), now.get("files", {}))
    plugins = _pairs(before.get("plugins", {}), now.get("plugins", {}))
    needed = _pairs(before.get("stations", {}), now.get("stations", {}))
    found = [
        *_settings("", before.get("settings", {}), now.get("settings", {})),
        *(_settings("", *({"seed": inputs.get("seed")} for inputs in (before, now)))),
        *(_of_file(name, *pair) for name, pair in files.items()),
        *(_of_file(f"the plug-in {name}", *pair) for name, pair in plugins.items()),
    ]
    if before.get("tfdnc") != now.get("tfdnc") or before.get("format") != now.get("format"):
        found.append("this version of tfdnc gives other results")
    return found or [f"{name} has another result" for name in needed]


def in_a_line(texts: list[str]) -> str:
    """Returns the first texts, and the number of the others."""
    more = len(texts) - _MOST
    return "; ".join(texts[:_MOST]) + (f"; and {more} more" if more > 0 else "")


def _settings(key: str, before: Any, now: Any) -> Iterator[str]:
    """Yields the keys that differ, with their values; a key that one side lacks is unset there."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name, (old, new) in _pairs(before, now).items():
            yield from _settings(f"{key}.{name}".lstrip("."), old, new)
    elif before != now:
        yield f"{key} is {_shown(now)}, was {_shown(before)}"


def _pairs(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns both values of every name whose values differ."""
    names = dict.fromkeys([*before, *now])
    pairs = {name: (before.get(name, _ABSENT), now.get(name, _ABSENT)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _of_file(name: str, before: Any, now: Any) -> str:
    return f"{name} {'is gone' if now is _ABSENT else 'is new' if before is _ABSENT else 'has changed'}"


def _shown(value: Any) -> str:
    text = "unset" if value is _ABSENT or value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
