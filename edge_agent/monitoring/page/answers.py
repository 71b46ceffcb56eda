"""Requests to the page and its answers, apart from WSGI."""

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from edge_agent.system.text import TextError, parse_json

LONGEST = 200


class Request(NamedTuple):
    """What is asked for.

    Attributes:
        name: the rest of the path, behind the route; empty if there is none.
        query: the parameters of the address.
        body: as it came, bounded by the server.
        user: the user name that the browser has sent; empty if there is none. Anybody can send any name.
    """

    name: str
    query: Mapping[str, Sequence[str]]
    body: bytes = b""
    user: str = ""

    def text(self, key: str) -> str:
        """A parameter of the address; empty if it is not there."""
        return self.query.get(key, [""])[0]

    def number(self, key: str, default: float) -> float:
        """A parameter of the address as a finite number; the default if it is not there or none."""
        try:
            value = float(self.text(key))
        except ValueError:
            return default
        return value if abs(value) < float("inf") else default


class Answer(NamedTuple):
    """An HTTP response."""

    status: HTTPStatus
    body: bytes
    kind: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], Answer]


def in_words(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Answer:
    """An answer of one line."""
    return Answer(status, f"{text}\n".encode(), headers=headers)


def as_json(document: Any, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """A JSON document."""
    return Answer(status, json.dumps(document, separators=(",", ":")).encode(), "application/json")


def not_found(what: str) -> Answer:
    """There is no such thing."""
    return in_words(HTTPStatus.NOT_FOUND, f"there is no such {what}")


NOTHING_NEW = Answer(HTTPStatus.NO_CONTENT, b"")


def document_of(request: Request) -> dict[str, Any]:
    """The JSON object that was sent.

    Raises:
        ValueError: it is something else.
    """
    try:
        document = parse_json(request.body)
    except TextError as error:
        raise ValueError(str(error)) from None
    if not isinstance(document, dict):
        raise ValueError("expected a JSON object")  # noqa: TRY004 - it is the client's value that is wrong
    return document


def text_of(document: Mapping[str, Any], key: str) -> str:
    """A short text in a document.

    Raises:
        ValueError: it is not there, or something else.
    """
    value = document.get(key)
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST or not value.isprintable():
        raise ValueError(f"{key}: expected 1 to {LONGEST} printable characters")
    return value.strip()
