"""The web application behind the page: one HTML file, and answers in JSON."""

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from serving.client import RetrievalError
from tfdnc.contracts.errors import UserError
from tfdnc.explore.questions import read_question
from tfdnc.explore.subject import Subject
from tfdnc.operations.item_images import TYPES
from tfdnc.page.template import fill

MAX_BODY = 1 << 20

_OFFERED_USERS = 500
"""User ids in the list of the search box; others can be typed."""

Query = Mapping[str, Sequence[str]]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


class NotFoundError(Exception):
    """A path that the page does not have."""


class Application:
    """WSGI application over one run, or over two to put side by side.

    Only requests that name this machine as their host are answered: a page of another site could otherwise reach them
    under a name of its own.

    Args:
        subjects: The runs.
    """

    def __init__(self, subjects: Sequence[Subject]) -> None:
        self._subjects = subjects
        self._page = fill("explore.html", title=" and ".join(subject.run.name for subject in subjects)).encode()
        self._answers: dict[str, Callable[[Query], Any]] = {
            "/api/start": self._start,
            "/api/user": self._user,
            "/api/items": lambda query: self._subject(query).search(_one(query, "q")),
            "/api/neighbours": self._neighbours,
            "/api/map": lambda query: {"points": self._subject(query).map()},
        }

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request."""
        if re.sub(r":\d+$", "", environ.get("HTTP_HOST", "")) not in ("127.0.0.1", "localhost", "[::1]"):
            return _send(start_response, "403 Forbidden", b"Ask for this page as localhost.", "text/plain")
        try:
            if environ["PATH_INFO"] == "/":
                return _send(start_response, "200 OK", self._page, "text/html; charset=utf-8", self._policy())
            if environ["PATH_INFO"] == "/favicon.ico":
                return _send(start_response, "204 No Content", b"", "image/x-icon")
            if environ["PATH_INFO"] == "/image":
                content, kind = self._image(parse_qs(environ.get("QUERY_STRING", "")))
                return _send(start_response, "200 OK", content, kind, cache="private, max-age=600")
            content = json.dumps(self._answer(environ)).encode()
            return _send(start_response, "200 OK", content, "application/json")
        except NotFoundError:
            return _send(start_response, "404 Not Found", b"No such page.", "text/plain")
        except (UserError, ValueError, RetrievalError) as error:
            content = json.dumps({"error": str(error)}).encode()
            return _send(start_response, "400 Bad Request", content, "application/json")

    def _answer(self, environ: dict[str, Any]) -> Any:
        path, query = environ["PATH_INFO"], parse_qs(environ.get("QUERY_STRING", ""))
        if path == "/api/list" and environ["REQUEST_METHOD"] == "POST":
            length = min(int(environ.get("CONTENT_LENGTH") or 0), MAX_BODY)
            return self._list(environ["wsgi.input"].read(length))
        if path not in self._answers:
            raise NotFoundError(path)
        return self._answers[path](query)

    def _policy(self) -> str:
        """Returns the page's content security policy; pictures come from elsewhere only if an item file names such."""
        elsewhere = any(subject.images.from_elsewhere for subject in self._subjects)
        images = "'self' http: https:" if elsewhere else "'self'"
        return (
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
            f"img-src {images}"
        )

    def _image(self, query: Query) -> tuple[bytes, str]:
        """Returns a picture and its media type."""
        file = self._subject(query).images.file(_one(query, "item"))
        if file is None:
            raise NotFoundError("no picture")
        return file.read_bytes(), TYPES[file.suffix.lower()]

    def _subject(self, query: Query) -> Subject:
        number = _one(query, "run") or "0"
        return self._chosen(int(number) if number.isdecimal() else -1)

    def _chosen(self, number: int) -> Subject:
        if not 0 <= number < len(self._subjects):
            raise UserError(f"Expected a run from 0 to {len(self._subjects) - 1}, got {number}.")
        return self._subjects[number]

    def _start(self, query: Query) -> Any:
        del query
        return {
            "runs": [
                {
                    "name": str(subject.run),
                    "version": subject.bundle.version,
                    "items": len(subject.items.item_ids),
                    "clusters": subject.items.cluster_names,
                    "most": subject.bundle.manifest["config"]["export"]["max_candidates"],
                    "conditions": subject.conditions,
                    "noImages": subject.no_images,
                }
                for subject in self._subjects
            ],
            "users": self._subjects[0].user_ids[:_OFFERED_USERS],
        }

    def _user(self, query: Query) -> Any:
        subject = self._subject(query)
        user = subject.user(_one(query, "id"))
        return {
            "id": user.name,
            "history": [subject.show(item) for item in user.history],
            "heldOut": None if user.held_out is None else subject.show(user.held_out),
        }

    def _list(self, body: bytes) -> Any:
        question = read_question(body)
        subject = self._chosen(question.run)
        history, known, held_out = list(question.history), {}, None
        if question.user is not None:
            user = subject.user(question.user)
            history, known, held_out = user.history, user.known, user.held_out
        started = time.perf_counter()
        answer = subject.retrieve(history, known, question.count, question.controls())
        return {
            "items": [
                subject.show(item) | {"score": round(float(score), 4)}
                for item, score in zip(answer.item_ids, answer.scores, strict=True)
            ],
            "intent": [round(float(share), 5) for share in answer.intent],
            "counts": answer.quotas.tolist(),
            "heldOut": held_out,
            "milliseconds": round(1000 * (time.perf_counter() - started), 1),
        }

    def _neighbours(self, query: Query) -> Any:
        found = self._subject(query).neighbours(_one(query, "item"))
        return [item | {"cosine": round(cosine, 4)} for item, cosine in found]


def _one(query: Query, name: str) -> str:
    return query.get(name, [""])[0]


def _send(
    start_response: StartResponse,
    status: str,
    content: bytes,
    kind: str,
    policy: str = "default-src 'none'",
    cache: str = "no-store",
) -> list[bytes]:
    headers = {
        "Content-Type": kind,
        "Content-Length": str(len(content)),
        "Content-Security-Policy": policy,
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": cache,
    }
    start_response(status, list(headers.items()))
    return [content]
