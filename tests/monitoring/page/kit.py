"""The page without a server: an agent that stands still, and requests that are answered at once."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import yaml

from edge_agent import settings
from edge_agent.config import loader
from edge_agent.config.loader import Config
from edge_agent.models.shipped import shipped
from edge_agent.monitoring.hosts import guarded
from edge_agent.monitoring.page.app import Page
from edge_agent.monitoring.page.recent import Recent
from edge_agent.samples import Result
from edge_agent.sources.observer import ResultObserver

TOKEN = "correct horse battery"
HTTP: dict[str, Any] = {"token_file": "token", "edit": True}


def write_config(folder: Path, **pipelines: Mapping[str, Any]) -> Path:
    """A configuration with a page that may be used for changes, and pipelines of shipped digits."""
    common = {"source": {"type": "mqtt", "topic": "in"}, "model": "digits"}
    document = {
        "mqtt": {"url": "mqtt://127.0.0.1"},
        "http": HTTP,
        "models": {"digits": {"path": str(shipped("digits"))}},
        "pipelines": {name: common | dict(options) for name, options in pipelines.items()},
    }
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(TOKEN)
    path = folder / "agent.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@dataclass
class StillAgent:
    """An agent of a configuration file that does nothing."""

    path: Path
    observers: dict[str, list[ResultObserver]] = field(default_factory=dict)
    refusal: list[str] = field(default_factory=list)
    reloads: int = 0

    def config(self) -> Config:
        return loader.load(self.path)

    def status(self) -> dict[str, Any]:
        return {"pipelines": {}, "counters": {}, "hung": [], "online": True, "broker": {"connected": True}}

    def latest(self, pipeline: str) -> Result | None:  # noqa: ARG002 - no results
        return None

    def labels_of(self, pipeline: str) -> Sequence[str]:  # noqa: ARG002 - one model
        return [str(digit) for digit in range(10)]

    def conversation_of(self, *_: object, **__: object) -> dict[str, Any] | None:
        return None

    def options_of(self, pipeline: str) -> settings.Pipeline:
        return self.config().settings.pipelines[pipeline]

    def observers_of(self, pipeline: str) -> list[ResultObserver]:
        return self.observers.setdefault(pipeline, [])

    def reload(self) -> list[str]:
        self.reloads += 1
        return self.refusal


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.status < 400, self.body
        return json.loads(self.body)


class Client:
    """Asks a page with its token, as a browser that shows it would."""

    def __init__(self, agent: Any, **http: Any) -> None:
        options = settings.Http.model_validate(HTTP | http)
        self.recent = Recent(agent)
        self.recent.events.memory = options.events_memory
        page = Page(agent, self.recent, options, None if options.token_file is None else TOKEN)
        self.page = guarded(page, options.hosts, "http.hosts")

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, b"", headers)

    def post(self, path: str, document: Any, **headers: str) -> Reply:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        own = {"CONTENT_TYPE": "application/json", "HTTP_ORIGIN": "http://localhost"}
        return self.ask("POST", path, body, own | headers)

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        place, _, query = path.partition("?")
        credentials = base64.b64encode(f"ann:{TOKEN}".encode()).decode()
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": unquote_to_bytes(place).decode("latin-1"),
            "QUERY_STRING": query,
            "HTTP_HOST": "localhost",
            "HTTP_AUTHORIZATION": f"Basic {credentials}",
            "wsgi.input": io.BytesIO(body),
            **headers,
        }
        seen: list[tuple[str, list[tuple[str, str]]]] = []
        answer = b"".join(self.page(environ, lambda status, sent: seen.append((status, sent))))
        [(status, sent)] = seen
        return Reply(int(status.split()[0]), dict(sent), answer)
