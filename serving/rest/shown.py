"""JSON values as text for a message, with the layout and the digits of TF Serving, and cut where it cuts."""

import decimal
import json
import math
from collections.abc import Iterator

from serving.status import MESSAGE_LIMIT

_LIMIT = 256
"""Bytes after which nothing more is begun; a text that has begun is finished."""

_dump = json.JSONEncoder(ensure_ascii=False).encode


def shown(value) -> str:
    """Returns a value of a document as text: members on lines of their own, lists on one line."""
    pieces, size = [], 0
    for piece in _pieces(value):
        if size >= _LIMIT:
            break
        pieces.append(piece)
        size += len(piece.encode(errors="surrogateescape"))
    return "".join(pieces)


def _pieces(value) -> Iterator[str]:
    """Yields the text piece by piece; without recursion, because a document may be nested deeper than that can go."""
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
            if level.is_object:
                key, value = member
                yield f"{'' if level.is_empty else ','}{indent}{_text(key)}"
                before = ": "
            else:
                (value,) = member
                before = "" if level.is_empty else ", "
            level.is_empty = False
            break
        else:
            return


class _Level:
    """A list or an object of which some members are written."""

    def __init__(self, value: dict | list):
        self.is_object = isinstance(value, dict)
        self.opening, self.closing = "{}" if self.is_object else "[]"
        self.members = iter(value.items()) if self.is_object else ((element,) for element in value)
        self.is_empty = True


def _scalar(value) -> str | None:
    """Returns the text of a value without members, None for a number that has none and ends the message."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return _decimal(value) if math.isfinite(value) else None
    return _dump(value)


def _text(value: str) -> str:
    return _dump(value[: MESSAGE_LIMIT + 1])  # no message is longer


def _decimal(value: float) -> str:
    """Returns the shortest digits that say which number it is: 1e39, where Python writes 1e+39."""
    _, digits, exponent = decimal.Decimal(repr(abs(value))).normalize().as_tuple()
    text, point = "".join(map(str, digits)), len(digits) + exponent
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
