r"""JSON as TF Serving's parser reads it, which is RapidJSON 1.1: its numbers, its repeated keys, its errors.

It is more lenient than the standard. NaN, Inf and Infinity are numbers, text after the document is ignored, lists may
be nested very deep, and bytes that are no UTF-8 pass. Strings hold such bytes as Python's surrogate escapes, so that
`utf8` returns the same bytes.
"""

import json
import math
import re

from serving.rest import json_grammar
from serving.rest.json_grammar import JsonError

_BOM = b"\xef\xbb\xbf"

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""An escape of a surrogate, half of a character: RapidJSON and Python accept different sequences of them."""


class Repeated(dict[str, object]):
    """An object with a repeated key: a look-up finds the first value, `items` and `len` count all members.

    Args:
        pairs: Keys and values in the order of the document.
    """

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(reversed(pairs))
        self._pairs = pairs

    def items(self) -> list[tuple[str, object]]:  # type: ignore[override]  # no view of a dict repeats a key
        """Returns all members, in the order of the document."""
        return self._pairs

    def __len__(self) -> int:
        return len(self._pairs)


def read(body: bytes) -> object:
    """Returns the first JSON value in a body, as Python's `json` does; objects with a repeated key are `Repeated`.

    Integers are Python's `int` within 64 bits, signed or not, and `float` beyond.

    Raises:
        JsonError: No JSON.
    """
    if not _SURROGATE.search(body):
        text = body.decode(errors="surrogateescape").removeprefix("\ufeff")
        try:
            return _FAST.raw_decode(text, _start(text))[0]
        except (ValueError, RecursionError):  # not Python's JSON: the reader decides, and has RapidJSON's messages
            pass
    start = len(_BOM) if body.startswith(_BOM) else 0
    return json_grammar.Reader(body, start, _integer, _decimal, _members).read()


def utf8(text: str) -> bytes:
    """Returns the bytes of a string in a document, as they were sent."""
    return text.encode(errors="surrogateescape")


def _start(text: str) -> int:
    return len(text) - len(text.lstrip(" \t\r\n"))


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    return unique if len(unique) == len(pairs) else Repeated(pairs)


def _integer(digits: str) -> int | float:
    if len(digits) < 19:
        return int(digits)
    if len(digits) > 400:  # int() refuses some thousand digits
        raise JsonError(json_grammar.TOO_BIG)
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else _decimal(digits)


def _decimal(digits: str) -> float:
    value = float(digits)
    if (math.isinf(value) or value == 0) and _is_too_big(digits):
        raise JsonError(json_grammar.TOO_BIG)
    return value


def _is_too_big(digits: str) -> bool:
    """Returns whether RapidJSON refuses a number; it looks at the exponent, so 0e309 is too big and 9e308 infinite."""
    mantissa, _, exponent = digits.lower().partition("e")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    if math.isinf(float(whole)):
        return True
    power = int(exponent[:12]) if exponent else 0
    return power > 308 + len(fraction)


_FAST = json.JSONDecoder(object_pairs_hook=_members, parse_int=_integer, parse_float=_decimal)
