"""A JSON parser with RapidJSON's grammar, without recursion; slower than Python's own, whose grammar differs."""

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

MAX_DEPTH = 1_000_000
"""Levels of nested lists and objects. TF Serving has no limit, but a level takes some hundred bytes here."""

EMPTY = "The document is empty."
TOO_BIG = "Number too big to be stored in double."
_INVALID = "Invalid value."
_NO_NAME = "Missing a name for object member."

# Expectations between two tokens: the state of the parser.
_ROOT, _VALUE, _FIRST_VALUE, _FIRST_KEY, _KEY, _COLON, _AFTER_MEMBER, _AFTER_ELEMENT = range(8)

_VALUES = (_ROOT, _VALUE, _FIRST_VALUE)
_QUOTE, _BRACKET = b'"['
_PUNCTUATION = {(_COLON, ord(":")): _VALUE, (_AFTER_MEMBER, ord(",")): _KEY, (_AFTER_ELEMENT, ord(",")): _VALUE}
_CLOSING = {
    *((state, ord("]")) for state in (_FIRST_VALUE, _AFTER_ELEMENT)),
    *((state, ord("}")) for state in (_FIRST_KEY, _AFTER_MEMBER)),
}

_COMPLAINTS = {
    _ROOT: EMPTY,
    _VALUE: _INVALID,
    _FIRST_VALUE: _INVALID,
    _FIRST_KEY: _NO_NAME,
    _KEY: _NO_NAME,
    _COLON: "Missing a colon after a name of object member.",
    _AFTER_MEMBER: "Missing a comma or '}' after an object member.",
    _AFTER_ELEMENT: "Missing a comma or ']' after an array element.",
}

_SPACE = re.compile(rb"[ \t\r\n]+")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]+')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_HEX = re.compile(rb"[0-9a-fA-F]{4}")

_WORDS: dict[int, tuple[bytes, bool | None]] = {
    ord("n"): (b"null", None),
    ord("t"): (b"true", True),
    ord("f"): (b"false", False),
}
_ESCAPES = dict(zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True))


_T = TypeVar("_T")


class JsonError(ValueError):
    """A body that is no JSON; the message is RapidJSON's, with the offset in bytes if there is one."""


class Reader:
    """Reads one value, of any depth.

    Args:
        body: The text; a zero byte ends it.
        start: Offset of the first byte to read.
        integer: Converts digits to a number.
        decimal: Converts digits with a fraction or an exponent to a number.
        members: Converts keys and values to an object.
    """

    def __init__(
        self,
        body: bytes,
        start: int,
        integer: Callable[[str], int | float],
        decimal: Callable[[str], float],
        members: Callable[[list[tuple[str, object]]], dict[str, object]],
    ) -> None:
        self._body = body + b"\0"  # so that there is always a next byte
        self._at = start
        self._integer, self._decimal, self._members = integer, decimal, members

    def read(self) -> object:
        """Returns the first value of the body.

        Raises:
            JsonError: It is no JSON.
        """
        open_items: list[
            list[Any]
        ] = []  # per open list or object: its bracket, then its elements or its keys and values
        expected = _ROOT
        while True:
            if space := _SPACE.match(self._body, self._at):
                self._at = space.end()
            byte = self._body[self._at]
            if (expected, byte) in _PUNCTUATION:
                self._at += 1
                expected = _PUNCTUATION[expected, byte]
            elif expected in (_FIRST_KEY, _KEY) and byte == _QUOTE:
                open_items[-1].append(self._string())
                expected = _COLON
            elif expected in _VALUES and byte in b"[{":
                self._at += 1
                open_items.append([byte])
                if len(open_items) > MAX_DEPTH:
                    raise self._error(f"The document is nested in more than {MAX_DEPTH} levels.")
                expected = _FIRST_VALUE if byte == _BRACKET else _FIRST_KEY
            else:
                value = self._finished(expected, byte, open_items)
                if not open_items:
                    return value
                open_items[-1].append(value)
                expected = _AFTER_ELEMENT if open_items[-1][0] == _BRACKET else _AFTER_MEMBER

    def _finished(self, expected: int, byte: int, open_items: list[list[Any]]) -> object:
        """Returns the value that ends with the next token: a scalar, or the list or object that it closes."""
        if (expected, byte) in _CLOSING:
            self._at += 1
            bracket, *items = open_items.pop()
            return items if bracket == _BRACKET else self._members(list(zip(items[::2], items[1::2], strict=True)))
        if expected in _VALUES and byte not in b"]},:\0":
            return self._scalar(byte)
        raise self._error(_COMPLAINTS[expected])

    def _scalar(self, byte: int) -> object:
        if byte == _QUOTE:
            return self._string()
        if byte in _WORDS:
            word, value = _WORDS[byte]
            return self._word(word, value)
        return self._number()

    def _word(self, word: bytes, value: _T) -> _T:
        for letter in word:
            if self._body[self._at] != letter:
                raise self._error(_INVALID)
            self._at += 1
        return value

    def _number(self) -> int | float:
        start, sign = self._at, 1 if self._body[self._at] != ord("-") else -1
        found = _NUMBER.match(self._body, start)
        if found is None:
            self._at += sign < 0
            return sign * self._unusual()
        self._at = found.end()
        byte = self._body[self._at]
        if byte == ord(".") and found[1] is None and found[2] is None:
            self._at += 1
            raise self._error("Miss fraction part in number.")
        if byte in b"eE" and found[2] is None:
            self._at += 2 if self._body[self._at + 1] in b"+-" else 1
            raise self._error("Miss exponent in number.")
        make = self._integer if found[1] is None and found[2] is None else self._decimal
        try:
            return make(found[0].decode())
        except JsonError as error:
            self._at = start
            raise self._error(str(error)) from error

    def _unusual(self) -> float:
        """Returns NaN or infinity, which is Inf or Infinity; the sign was read before."""
        if self._body[self._at] == ord("N"):
            return self._word(b"NaN", math.nan)
        self._word(b"Inf", None)
        if self._body[self._at] == ord("i"):
            self._word(b"inity", None)
        return math.inf

    def _string(self) -> str:
        self._at += 1
        pieces = []
        while True:
            if plain := _PLAIN.match(self._body, self._at):
                pieces.append(plain[0])
                self._at = plain.end()
            byte = self._body[self._at]
            if byte == _QUOTE:
                self._at += 1
                return b"".join(pieces).decode(errors="surrogateescape")
            if byte == 0:
                raise self._error("Missing a closing quotation mark in string.")
            if byte != ord("\\"):
                raise self._error("Invalid escape character in string.")
            pieces.append(self._escape())

    def _escape(self) -> bytes:
        at = self._at  # the offset of the backslash, for errors
        kind = self._body[at + 1]
        if kind in _ESCAPES:
            self._at += 2
            return bytes([_ESCAPES[kind]])
        if kind != ord("u"):
            raise self._error("Invalid escape character in string.")
        code = self._hex(at + 2)
        self._at = at + 6
        if 0xD800 <= code < 0xDC00:
            low = self._hex(at + 8) if self._body[at + 6 : at + 8] == b"\\u" else 0
            if not 0xDC00 <= low < 0xE000:
                self._at = at
                raise self._error("The surrogate pair in string is invalid.")
            self._at = at + 12
            code = 0x10000 + ((code - 0xD800) << 10 | low - 0xDC00)
        return chr(code).encode(errors="surrogatepass")

    def _hex(self, at: int) -> int:
        digits = _HEX.match(self._body, at)
        if digits is None:
            raise self._error("Incorrect hex digit after \\u escape in string.")
        return int(digits[0], 16)

    def _error(self, words: str) -> JsonError:
        return JsonError(f"{words} at offset: {self._at}")
