"""HTTP requests that no honest client sends, made from valid bodies of the REST API, reproducible from a seed."""

import copy
import gzip
import json
import random
from typing import NamedTuple

from fuzzing import damaged

MODEL = "/v1/models/tfdnc"
PATHS = [
    f"{MODEL}:predict", f"{MODEL}:classify", f"{MODEL}:regress", f"{MODEL}:explain", f"{MODEL}:", MODEL,
    f"{MODEL}/metadata", f"{MODEL}/versions/1:predict", f"{MODEL}/versions/99:predict", f"{MODEL}/versions/-1:predict",
    f"{MODEL}/versions/{2**64}:predict", f"{MODEL}/labels/x:predict", f"{MODEL}/versions/1/metadata/x", "/v1/models",
    "/v1/models/:predict", "/v1/models/other:predict", "/v1/models/%00%ff:predict", "/", "/favicon.ico", "//",
    "/v1/models/../../etc/passwd", f"/v1/models/{'a' * 5000}:predict", f"{MODEL}:predict?x=1", "*",
]  # fmt: skip
VERBS = ["POST", "POST", "POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"]
VALUES = [
    None, True, False, 0, -1, 3.5, 1e300, 2**31, 2**64, 10**400, float("nan"), float("-inf"), "", "x", "é\x00",
    "a" * 5000, [], {}, [[]], [None], {"b64": "eA=="}, {"b64": "!"}, {"b64": 1}, {"b64": "eA==", "x": 1},
    [[[["deep"]]]],
]  # fmt: skip
HEADERS = [
    {"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}, {"Content-Encoding": "br"}, {"Accept": "image/png"},
    {"Content-Length": "-1"}, {"Content-Length": "x"}, {"Content-Length": "3"}, {"Transfer-Encoding": "chunked"},
    {"X-Long": "x" * 9_000}, {"Expect": "100-continue"}, {"Host": ""}, {"Connection": "close"},
]  # fmt: skip


class Case(NamedTuple):
    """One HTTP request."""

    verb: str
    path: str
    headers: dict[str, str]
    body: bytes
    story: str

    def __str__(self):
        """Returns the text to paste into a test that reproduces it."""
        body = repr(self.body) if len(self.body) <= 1500 else f"{self.body[:1500]!r} + ..."
        return f"{self.story}\n{self.verb} {self.path[:200]} {self.headers}\n{body}"

    def raw(self) -> bytes:
        """Returns the request as it goes over the wire; clients refuse to send some of it."""
        headers = {"Host": "localhost", "Content-Length": str(len(self.body)), "Connection": "close"} | self.headers
        lines = [f"{self.verb} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        end = b"\r\n0\r\n\r\n" if "Transfer-Encoding" in self.headers else b""  # the end of the body
        return "\r\n".join(lines).encode() + self._sent_body() + end

    def _sent_body(self) -> bytes:
        """As much as the header announces: what a server leaves unread resets the connection under its answer.

        Less would be no request at all, which has no answer.
        """
        announced = self.headers.get("Content-Length", "")
        length = int(announced) if announced.isdigit() else 0
        return self.body[:length].ljust(length) if announced else self.body


def rest_case(seed: int, valid: list[dict]) -> Case:
    """Returns the case number `seed`, made from one of the valid bodies."""
    draw = random.Random(seed)
    document = copy.deepcopy(draw.choice(valid))
    story = [f"case {seed}"]
    verb, path, headers = "POST", PATHS[0], {}
    for _ in range(draw.choice([0, 1, 1, 1, 2, 3])):
        document = _mutated(draw, document)
        story.append("other values")
    body = json.dumps(document).encode()
    if draw.random() < 0.2:
        story.append("damaged")
        body = damaged(draw, body)
    elif draw.random() < 0.15:
        story.append("no JSON")
        body = draw.choice(BODIES) if draw.random() < 0.7 else draw.randbytes(draw.choice([1, 10, 1000]))
    if draw.random() < 0.2:
        verb, path = draw.choice(VERBS), draw.choice(PATHS)
    if draw.random() < 0.15:
        headers = draw.choice(HEADERS)
    return Case(verb, path, headers, body, ", ".join(story))


BODIES = [
    b"", b" ", b"null", b"[]", b"{}", b'"x"', b"{" * 100_000, b"[" * 100_000, b'{"instances": ' + b"[" * 3000,
    b'{"instances": [' + b"1," * 100_000 + b"1]}", b'{"a": 1, "a": 2}', b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}",
    b'{"inputs": {"history": [["\\ud800"]]}}', b'{"signature_name": 7, "inputs": {}}', b"{'inputs': 1}",
    gzip.compress(b"x" * 10_000_000, mtime=0), b'{"inputs": 1e999999}', b'{"inputs": ' + b"9" * 10_000 + b"}",
]  # fmt: skip


def _mutated(draw: random.Random, value):
    """Returns the JSON value with one place in it replaced, left out, doubled, or under another key."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.2:
        return copy.deepcopy(draw.choice(VALUES))
    if isinstance(value, list):
        place = draw.randrange(len(value))
        changes = [[_mutated(draw, value[place])], [], [value[place]] * draw.choice([2, 50])]
        return value[:place] + draw.choice(changes) + value[place + 1 :]
    key = draw.choice(sorted(value))
    others = {name: other for name, other in value.items() if name != key}
    name = draw.choice([key, key, key, "x", "inputs", "instances", "signature_name", "b64"])
    return others | ({name: _mutated(draw, value[key])} if draw.random() < 0.8 else {})
