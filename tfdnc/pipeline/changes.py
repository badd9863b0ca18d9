"""Changes of a station's inputs since its last result, as text: the reason why it works again."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tfdnc.pipeline.fingerprint import digest

_MOST = 4  # changes that a line shows

_ABSENT = object()
_UNSET = "unset"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns a text for every input that differs; none only where the fingerprints are equal.

    Args:
        before: `inputs` of the manifest of the last result.
        now: those of the present config and files, see `engine._inputs`.
    """
    if digest(dict(before)) == digest(dict(now)):
        return []
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
    # Of a key that is new in this version of tfdnc, and unset, no value has changed.
    return found or [f"{name} has another result" for name in needed] or ["its settings have another form"]


def in_a_line(texts: list[str]) -> str:
    """Returns the first texts, and the number of the others."""
    more = len(texts) - _MOST
    return "; ".join(texts[:_MOST]) + (f"; and {more} more" if more > 0 else "")


def _settings(key: str, before: Any, now: Any) -> Iterator[str]:
    """Yields the keys that differ, with their values; a key that one side lacks is unset there."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name, (old, new) in _pairs(before, now).items():
            yield from _settings(f"{key}.{name}" if key else name, old, new)
    elif (old := _shown(before)) != (new := _shown(now)):
        yield f"{key} is {new}, was {old}"
    elif old != _UNSET:  # they differ beyond what is shown
        yield f"{key} has changed"


def _pairs(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns both values of every name whose values differ."""
    names = dict.fromkeys([*before, *now])
    pairs = {name: (before.get(name, _ABSENT), now.get(name, _ABSENT)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _of_file(name: str, before: Any, now: Any) -> str:
    return f"{name} {'is gone' if now is _ABSENT else 'is new' if before is _ABSENT else 'has changed'}"


def _shown(value: Any) -> str:
    text = _UNSET if value is _ABSENT or value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
