"""The status page: a WSGI application that shows the agent's state, and changes nothing.

The page polls state and pictures; nothing is pushed, so that a slow client does not occupy a thread for long.
"""

import importlib.resources
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from edge_agent.counters import imbalance
from edge_agent.monitoring.hosts import allows_host
from edge_agent.monitoring.page import access
from edge_agent.monitoring.page.agent_status import AgentStatus
from edge_agent.monitoring.page.live_preview import LivePreview
from edge_agent.samples import Result
from edge_agent.system.text import decode_lenient

FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# Loads nothing from other sites, and may not be embedded in them.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
# For health checks; no token needed.
OPEN = ("/healthz", "/readyz")
PICTURES = "/pictures/"
MOST_PREDICTIONS, MOST_TEXT = 8, 500
SHOWN = ("label", "class_id", "confidence", "value", "region", "track_id")


class Answer(NamedTuple):
    """An HTTP response."""

    status: HTTPStatus
    body: bytes
    kind: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class Page:
    """The application.

    Args:
        agent: the agent.
        token: required in requests; None: none is.
        hosts: further host names by which the page may be requested.
    """

    def __init__(self, agent: AgentStatus, token: str | None, hosts: Sequence[str]) -> None:
        self._agent = agent
        self._token = token
        self._hosts = hosts
        self._preview = LivePreview(agent)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answers a request; see PEP 3333."""
        answer = self._answer(environ)
        headers = [*HEADERS]
        if answer.status != HTTPStatus.NO_CONTENT:
            headers += [("Content-Type", answer.kind), ("Content-Length", str(len(answer.body)))]
        start_response(f"{answer.status.value} {answer.status.phrase}", [*headers, *answer.headers])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body]

    def _answer(self, environ: Mapping[str, Any]) -> Answer:
        if (refusal := self._refusal(environ)) is not None:
            return refusal
        path = decode_lenient(environ["PATH_INFO"].encode("latin-1"))
        if path in OPEN:
            return self._health(path)
        if path == "/status.json":
            return Answer(HTTPStatus.OK, json.dumps(self._status()).encode(), "application/json")
        if path.startswith(PICTURES):
            return self._picture(path.removeprefix(PICTURES), environ["QUERY_STRING"])
        if path in FILES:
            name, kind = FILES[path]
            return Answer(HTTPStatus.OK, importlib.resources.files(__package__).joinpath(name).read_bytes(), kind)
        return _in_words(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _refusal(self, environ: Mapping[str, Any]) -> Answer | None:
        """The refusal of a request; None if it is allowed."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _in_words(HTTPStatus.METHOD_NOT_ALLOWED, "only to be looked at", ("Allow", "GET, HEAD"))
        if not allows_host(environ.get("HTTP_HOST", ""), self._hosts):
            return _in_words(HTTPStatus.FORBIDDEN, "not known by this name: add it to http.hosts")
        if access.is_cross_site(environ):
            return _in_words(HTTPStatus.FORBIDDEN, "not for other sites")
        if self._token is None or environ["PATH_INFO"] in OPEN:
            return None
        if access.is_authorized(self._token, environ.get("HTTP_AUTHORIZATION", "")):
            return None
        ask = ("WWW-Authenticate", 'Basic realm="edge-agent", charset="UTF-8"')
        return _in_words(HTTPStatus.UNAUTHORIZED, "the token, please, with any user name", ask)

    def _health(self, path: str) -> Answer:
        """Whether inputs are processed; `/readyz` also whether the broker is connected. No details: no token needed."""
        status = self._agent.status()
        if status["hung"]:
            return _in_words(HTTPStatus.SERVICE_UNAVAILABLE, "an input takes too long")
        if path == "/healthz":
            return _in_words(HTTPStatus.OK, "ok")
        if not status["online"] or not status["broker"]["connected"]:
            return _in_words(HTTPStatus.SERVICE_UNAVAILABLE, "no broker yet")
        return _in_words(HTTPStatus.OK, "ready")

    def _status(self) -> dict[str, Any]:
        status = self._agent.status()
        for name, pipeline in status["pipelines"].items():
            latest = self._agent.latest(name)
            pipeline["latest"] = None if latest is None else _in_short(latest)
        status["imbalance"] = {name: imbalance(counts) for name, counts in status["counters"].items()}
        return status

    def _picture(self, pipeline: str, query: str) -> Answer:
        """The latest picture; no content if there is none, or if the browser has it (`after=NUMBER`)."""
        try:
            picture = self._preview.latest(pipeline)
        except KeyError:
            return _in_words(HTTPStatus.NOT_FOUND, "there is no such pipeline")
        if picture is None or parse_qs(query).get("after") == [str(picture.number)]:
            return Answer(HTTPStatus.NO_CONTENT, b"")
        return Answer(HTTPStatus.OK, picture.jpeg, "image/jpeg", (("X-Number", str(picture.number)),))


def _in_words(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, f"{text}\n".encode(), headers=headers)


def _in_short(result: Result) -> dict[str, Any]:
    """The parts of a result that the page shows."""
    predictions = result.content.get("predictions", ())
    return {
        "seq": result.seq,
        "captured_at": result.as_dict()["captured_at"],
        "task": result.task,
        "predictions": [{key: one[key] for key in SHOWN if key in one} for one in predictions[:MOST_PREDICTIONS]],
        "more": max(0, len(predictions) - MOST_PREDICTIONS),
        "text": result.content.get("text", "")[:MOST_TEXT],
        "timing_ms": result.timing.as_dict(),
    }
