"""JSON values as text for a message, with TF Serving's layout and digits, and cut at the same length."""

import decimal
import json
import math
from collections.abc import Iterator

from serving.status import MESSAGE_LIMIT

_LIMIT = 256
"""Bytes after which no further piece of text is begun."""

_dump = json.JSONEncoder(ensure_ascii=False).encode


def shown(value: object) -> str:
    """Returns a value of a document as text: members on lines of their own, lists on one line."""
    pieces: list[str] = []
    size = 0
    for piece in _pieces(value):
        if size >= _LIMIT:
            break
        pieces.append(piece)
        size += len(piece.encode(errors="surrogateescape"))
    return "".join(pieces)


def _pieces(value: object) -> Iterator[str]:
    """Yields the text piece by piece; not recursive, because a document may be nested deeper than Python's stack."""
    levels: list[_Level] = []
    before = ""
    while True:
        if isinstance(value, dict | list):
            levels.append(_Level(value))
            yield before + levels[-1].opening
        else:
            text = _scalar(value)
            if text is None:
                return
            yield before + text
        while levels:
            level, indent = levels[-1], "\n" + "    " * len(levels)
            member = next(level.members, None)
            if member is None:
                levels.pop()
                yield (indent[:-4] if level.is_object and not level.is_empty else "") + level.closing
                continue
            key, value = member
            if key is not None:
                yield f"{'' if level.is_empty else ','}{indent}{_text(key)}"
                before = ": "
            else:
                before = "" if level.is_empty else ", "
            level.is_empty = False
            break
        else:
            return


class _Level:
    """A list or an object of which some members are written; the members of a list have no key."""

    def __init__(self, value: dict[str, object] | list[object]) -> None:
        self.is_object = isinstance(value, dict)
        self.opening, self.closing = "{}" if self.is_object else "[]"
        self.members: Iterator[tuple[str | None, object]] = (
            iter(value.items()) if isinstance(value, dict) else ((None, element) for element in value)
        )
        self.is_empty = True


def _scalar(value: object) -> str | None:
    """Returns the text of a value without members, None for NaN and infinity, which end the message."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return _decimal(value) if math.isfinite(value) else None
    return _dump(value)


def _text(value: str) -> str:
    return _dump(value[: MESSAGE_LIMIT + 1])  # no message is longer


def _decimal(value: float) -> str:
    """Returns the shortest digits that identify the number: 1e39, where Python writes 1e+39."""
    number = decimal.Decimal(repr(abs(value))).normalize()
    text, point = "".join(map(str, number.as_tuple().digits)), number.adjusted() + 1
    exponent = point - len(text)
    sign = "-" if math.copysign(1, value) < 0 else ""
    if value == 0:
        return f"{sign}0.0"
    if exponent >= 0 and point <= 21:
        return f"{sign}{text}{'0' * exponent}.0"
    if 0 < point <= 21:
        return f"{sign}{text[:point]}.{text[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{text}"
    return f"{sign}{text[0]}{'.' if len(text) > 1 else ''}{text[1:]}e{point - 1}"
