"""The status page: a WSGI application that shows the agent's state and, where that is allowed, takes changes.

The page polls state and pictures; nothing is pushed, so that a slow client does not occupy a thread for long.
"""

import importlib.resources
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from edge_agent import settings
from edge_agent.counters import imbalance
from edge_agent.monitoring.agent_status import AgentStatus
from edge_agent.monitoring.page import access
from edge_agent.monitoring.page.answers import NOTHING_NEW, Answer, Handler, Request, as_json, in_words, not_found
from edge_agent.monitoring.page.drawing import Drawing
from edge_agent.monitoring.page.gallery import Gallery
from edge_agent.monitoring.page.live_preview import LivePreview
from edge_agent.monitoring.page.live_series import LiveSeries
from edge_agent.monitoring.page.recent import Recent
from edge_agent.monitoring.page.recordings import Recordings
from edge_agent.monitoring.page.starting import SetUp
from edge_agent.samples import Result
from edge_agent.system.text import decode_lenient

SCRIPTS = (
    *("main", "dom", "shapes", "curves", "draw", "live", "events", "recordings", "samples", "numbers"),
    *("setup", "look", "upload"),
)
KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
FILES = {"/": "index.html", "/page.css": "page.css", "/icon.svg": "icon.svg"} | {
    f"/{name}.js": f"{name}.js" for name in SCRIPTS
}
# Loads nothing from other sites, and may not be embedded in them.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors "
)
HEADERS = (
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
# Where the pieces of a file are sent; all other changes are JSON.
FILE_ROUTE = "/setup/upload/"
# For health checks: no token needed, and no proxy.
OPEN = ("/healthz", "/readyz")
MOST_PREDICTIONS, MOST_TEXT, MOST_BODY = 8, 500, 65_536
SHOWN = ("label", "class_id", "confidence", "value", "region", "track_id")


class Page:
    """The application.

    Args:
        agent: the agent.
        recent: what it has done lately.
        options: of the page. Hosts and the proxy are not checked here.
        token: required in requests; None: none is.
    """

    def __init__(self, agent: AgentStatus, recent: Recent, options: settings.Http, token: str | None) -> None:
        self._agent = agent
        self._options = options
        self._token = token
        behind_proxy = options.trusted_proxy is not None
        self._knows_users = token is not None or behind_proxy
        self._may_edit = options.edit and self._knows_users
        # Home Assistant shows the page inside its own, which the browser sees on the same host.
        policy = POLICY + ("'self'" if behind_proxy else "'none'")
        self._headers = (("Content-Security-Policy", policy), *HEADERS)
        self._preview = LivePreview(agent)
        gallery, drawing, recordings = Gallery(agent), Drawing(agent), Recordings(agent)
        setup = SetUp(agent, drawing.change)
        # A route that ends with / takes a name behind it.
        self._reads: dict[str, Handler] = {
            "/healthz": lambda _: self._health(ready=False),
            "/readyz": lambda _: self._health(ready=True),
            "/status.json": lambda _: as_json(self._status()),
            "/pictures/": self._picture,
            "/series/": LiveSeries(agent).latest,
            "/conversation/": self._conversation,
            "/history.json": lambda _: as_json(recent.history.as_dict()),
            "/events.json": recent.events.listed,
            "/timeline.json": recent.events.timeline,
            "/events/picture/": recent.events.picture,
            "/samples.json": gallery.listed,
            "/samples.json/": gallery.listed,
            "/samples/": gallery.sample,
            "/samples/picture/": gallery.picture,
            "/drawing/": drawing.shown,
            "/setup.json": setup.shown,
            "/recordings/": recordings.of_moment,
            "/recordings/frame/": recordings.frame,
            "/recordings/sound/": recordings.sound,
        }
        self._edits: dict[str, Handler] = {"/samples/": gallery.label, "/drawing/": drawing.written, **setup.edits()}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answers a request; see PEP 3333."""
        answer = self._refusal(environ) or self._answer(environ)
        stated = {name for name, _ in answer.headers}
        headers = [one for one in self._headers if one[0] not in stated]
        if answer.status != HTTPStatus.NO_CONTENT:
            headers += [("Content-Type", answer.kind), ("Content-Length", str(len(answer.body)))]
        start_response(f"{answer.status.value} {answer.status.phrase}", [*headers, *answer.headers])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body]

    def _refusal(self, environ: Mapping[str, Any]) -> Answer | None:
        """The refusal of a request; None if it is allowed."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD", "POST"):
            return in_words(HTTPStatus.METHOD_NOT_ALLOWED, "only to be looked at", ("Allow", "GET, HEAD, POST"))
        if access.is_cross_site(environ):
            return in_words(HTTPStatus.FORBIDDEN, "not for other sites")
        if self._token is None or environ["PATH_INFO"] in OPEN:
            return None
        if access.is_authorized(self._token, environ.get("HTTP_AUTHORIZATION", "")):
            return None
        ask = ("WWW-Authenticate", 'Basic realm="edge-agent", charset="UTF-8"')
        return in_words(HTTPStatus.UNAUTHORIZED, "the token, please, with any user name", ask)

    def _answer(self, environ: Mapping[str, Any]) -> Answer:
        path = decode_lenient(environ["PATH_INFO"].encode("latin-1"))
        if environ["REQUEST_METHOD"] == "POST":
            return self._edited(path, environ)
        if path in FILES:
            return _file(FILES[path])
        found = _found(self._reads, path)
        if found is None:
            return in_words(HTTPStatus.NOT_FOUND, "there is nothing here")
        handler, name = found
        return handler(Request(name, parse_qs(environ["QUERY_STRING"])))

    def _edited(self, path: str, environ: Mapping[str, Any]) -> Answer:
        found = _found(self._edits, path)
        if found is None:
            return in_words(HTTPStatus.METHOD_NOT_ALLOWED, "only to be looked at", ("Allow", "GET, HEAD"))
        if not self._may_edit:
            return in_words(HTTPStatus.FORBIDDEN, "only to be looked at: http.edit is off")
        kind = access.BYTES if path.startswith(FILE_ROUTE) else access.JSON
        if refusal := access.refusal_of_edit(environ, kind):
            return in_words(HTTPStatus.FORBIDDEN, refusal)
        handler, name = found
        body = environ["wsgi.input"].read(MOST_BODY + 1)
        if len(body) > MOST_BODY:
            return in_words(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MOST_BODY} bytes")
        user = access.user_of(environ, proxied=self._options.trusted_proxy is not None)
        return handler(Request(name, parse_qs(environ["QUERY_STRING"]), body, user))

    def _health(self, *, ready: bool) -> Answer:
        """Whether inputs are processed; `ready`: also whether the broker is connected. No details: no token needed."""
        status = self._agent.status()
        if status["hung"]:
            return in_words(HTTPStatus.SERVICE_UNAVAILABLE, "an input takes too long")
        if not ready:
            return in_words(HTTPStatus.OK, "ok")
        if not status["online"] or not status["broker"]["connected"]:
            return in_words(HTTPStatus.SERVICE_UNAVAILABLE, "no broker yet")
        return in_words(HTTPStatus.OK, "ready")

    def _status(self) -> dict[str, Any]:
        status = self._agent.status()
        for name, pipeline in status["pipelines"].items():
            latest = self._agent.latest(name)
            pipeline["latest"] = None if latest is None else _in_short(latest)
        status["imbalance"] = {name: imbalance(counts) for name, counts in status["counters"].items()}
        pipelines = self._agent.config().settings.pipelines
        status["recorded"] = [name for name, one in pipelines.items() if one.record is not None]
        status["edit"] = self._may_edit
        return status

    def _conversation(self, request: Request) -> Answer:
        """What has changed since the version `after`. Answers to somebody alone are for those who know the token."""
        after = int(request.number("after", 0))
        found = self._agent.conversation_of(request.name, after, private=self._knows_users)
        return not_found("pipeline") if found is None else as_json(found)

    def _picture(self, request: Request) -> Answer:
        """The latest picture; no content if there is none, or if the browser has it (`after=NUMBER`)."""
        try:
            picture = self._preview.latest(request.name, plain=request.text("plain") == "1")
        except KeyError:
            return not_found("pipeline")
        if picture is None or request.text("after") == str(picture.number):
            return NOTHING_NEW
        return Answer(HTTPStatus.OK, picture.jpeg, "image/jpeg", (("X-Number", str(picture.number)),))


def _found(routes: Mapping[str, Handler], path: str) -> tuple[Handler, str] | None:
    """What answers a path, and the name behind the route."""
    if path in routes and not path.endswith("/"):
        return routes[path], ""
    root, slash, name = path.rpartition("/")
    handler = routes.get(root + slash)
    return (handler, name) if handler is not None and name else None


def _file(name: str) -> Answer:
    content = importlib.resources.files(__package__).joinpath("static", name).read_bytes()
    return Answer(HTTPStatus.OK, content, KINDS[name.rpartition(".")[2]])


def _in_short(result: Result) -> dict[str, Any]:
    """The parts of a result that the page shows."""
    predictions = result.content.get("predictions", ())
    size = [result.input.get(side) for side in ("width", "height")]
    return {
        "seq": result.seq,
        "captured_at": result.as_dict()["captured_at"],
        "task": result.task,
        "size": size if all(isinstance(side, int) for side in size) else None,
        "predictions": [{key: one[key] for key in SHOWN if key in one} for one in predictions[:MOST_PREDICTIONS]],
        "more": max(0, len(predictions) - MOST_PREDICTIONS),
        "text": result.content.get("text", "")[:MOST_TEXT],
        "timing_ms": result.timing.as_dict(),
    }
