"""Setting up the first pipelines on the page: what is here, a model, and a pipeline in the configuration file."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, get_args

from edge_agent.errors import EdgeAgentError
from edge_agent.models import registry
from edge_agent.monitoring.agent_status import AgentStatus
from edge_agent.monitoring.page.answers import Answer, Handler, Request, as_json, document_of, in_words, text_of
from edge_agent.monitoring.page.drawing import Change
from edge_agent.monitoring.page.uploading import Uploads
from edge_agent.setup import found
from edge_agent.setup.look import BusyError, CameraLook

log = logging.getLogger(__name__)

# Seconds for which what was found is not looked for again.
FRESH = 30.0
MOST_LABELS = 50
ADDRESSES = ("rtsp://", "rtsps://", "http://", "https://")
DETECTORS = ("detection", "pose", "segmentation")


class SetUp:
    """What a device can begin with, and how.

    Only inputs that were found here, addresses of cameras and topics can become sources, and only models that are known
    by name, which one that was sent has once it is proven: what comes in names no program and no file.

    Args:
        agent: the agent.
        change: changes the configuration file, and has the agent use it.
    """

    def __init__(self, agent: AgentStatus, change: Callable[[Sequence[Change]], Answer]) -> None:
        self._agent = agent
        self._change = change
        self._lock = threading.Lock()
        self._inputs: list[found.Input] = []
        self._looked: float | None = None
        self._look = CameraLook()
        self._uploads = Uploads()
        self._pulling = ""
        self._progress = (0, 0)
        self._problem = ""

    def edits(self) -> dict[str, Handler]:
        """What answers changes, by route."""
        return {
            "/setup/look": self._picture,
            "/setup/model": self._pull,
            "/setup/pipeline": self._add,
            "/setup/remove": self._remove,
            **self._uploads.edits(),
        }

    def shown(self, _request: Request) -> Answer:
        """Inputs and models of this machine, and the download in progress."""
        done, total = self._progress
        return as_json(
            {
                "inputs": [{"title": one.title, "takes": one.takes} for one in self._found()],
                "models": {kind: [one._asdict() for one in found.models(kind)] for kind in get_args(found.Takes)},
                "pull": {"name": self._pulling, "done": done, "total": total, "problem": self._problem},
                "upload": self._uploads.facts(),
                "pipelines": list(self._agent.config().settings.pipelines),
            }
        )

    def _found(self) -> list[found.Input]:
        with self._lock:
            if self._looked is None or time.monotonic() - self._looked > FRESH:
                self._inputs = [*found.cameras(), *found.microphones()]
                self._looked = time.monotonic()
            return self._inputs

    def _picture(self, request: Request) -> Answer:
        """A picture of a camera that may be chosen, or why there is none; waits for it, for some seconds at most."""
        try:
            chosen = self._input(document_of(request))
        except ValueError as error:
            return in_words(HTTPStatus.BAD_REQUEST, str(error))
        if chosen.takes != "pictures" or chosen.source["type"] == "mqtt":
            return in_words(HTTPStatus.BAD_REQUEST, f"{chosen.title} is no camera")
        try:
            jpeg = self._look.take(chosen, self._agent.config().path.parent)
        except BusyError as error:
            return in_words(HTTPStatus.CONFLICT, str(error))
        except EdgeAgentError as error:
            return in_words(HTTPStatus.BAD_GATEWAY, str(error))
        return Answer(HTTPStatus.OK, jpeg, "image/jpeg")

    def _pull(self, request: Request) -> Answer:
        """Downloads a model of the registry, in a thread of its own; one at a time."""
        try:
            name = text_of(document_of(request), "model")
            registry.find(name)
        except (ValueError, EdgeAgentError) as error:
            return in_words(HTTPStatus.BAD_REQUEST, str(error))
        with self._lock:
            if self._pulling:
                return in_words(HTTPStatus.CONFLICT, f"{self._pulling} is being downloaded")
            self._pulling, self._progress, self._problem = name, (0, registry.find(name).size), ""
        threading.Thread(target=self._download, args=(name,), name="pull", daemon=True).start()
        return as_json({"pulling": name})

    def _download(self, name: str) -> None:
        def progress(done: int, total: int) -> None:
            self._progress = done, total

        try:
            registry.pull(name, registry.models_dir(), progress=progress)
        except (EdgeAgentError, OSError) as error:
            self._problem = f"{name}: {error}"
            log.warning("%s", self._problem)
        finally:
            self._pulling = ""

    def _add(self, request: Request) -> Answer:
        """Adds a pipeline to the configuration file."""
        try:
            changes = self._changes(document_of(request))
        except ValueError as error:
            return in_words(HTTPStatus.BAD_REQUEST, str(error))
        return self._change(changes)

    def _changes(self, document: dict[str, Any]) -> list[Change]:
        name, model = text_of(document, "name"), text_of(document, "model")
        if name in (settings := self._agent.config().settings).pipelines:
            raise ValueError(f"there is a pipeline {name} already: choose another name")
        chosen = self._input(document)
        known = {one.name: one for one in found.models(chosen.takes)}
        if model not in known:
            raise ValueError(f"there is no model {model} for {chosen.takes}")
        if not known[model].here:
            raise ValueError(f"{model} is not on this machine yet: download it first")
        changes: list[Change] = []
        if model not in settings.models:
            changes.append((("models", model, "path"), model))
        base, task = ("pipelines", name), known[model].task
        changes += [((*base, "source", key), value) for key, value in chosen.source.items()]
        changes.append(((*base, "model"), model))
        if task in DETECTORS and (labels := _labels(document)):
            changes.append(((*base, "filters", "labels"), labels))
        if task == "detection":
            changes.append(((*base, "tracking", "lost_after"), "5s"))
        if task == "classification":
            changes.append(((*base, "top_k"), 1))
        return changes

    def _input(self, document: dict[str, Any]) -> found.Input:
        kind, value = text_of(document, "input"), text_of(document, "value")
        inputs = self._found()
        match kind:
            case "found":
                chosen = next((one for one in inputs if one.title == value), None)
                if chosen is None:
                    raise ValueError(f"{value} is not there any more")
                return chosen
            case "address":
                if not value.startswith(ADDRESSES):
                    raise ValueError(f"the address of a camera begins with {', '.join(ADDRESSES)}")
                return found.Input(value, "pictures", {"type": "video", "url": value, "fps": 5})
            case "pictures":
                return found.Input(value, "pictures", {"type": "mqtt", "topic": value})
            case "readings":
                return found.Input(value, "readings", {"type": "mqtt", "topic": value})
        raise ValueError("expected an input: found, address, pictures or readings")

    def _remove(self, request: Request) -> Answer:
        """Removes a pipeline from the configuration file: one that was only tried."""
        try:
            name = text_of(document_of(request), "name")
        except ValueError as error:
            return in_words(HTTPStatus.BAD_REQUEST, str(error))
        if name not in self._agent.config().settings.pipelines:
            return in_words(HTTPStatus.NOT_FOUND, f"there is no pipeline {name}")
        return self._change([(("pipelines", name), None)])


def _labels(document: dict[str, Any]) -> list[str]:
    labels = document.get("labels", [])
    if not isinstance(labels, list) or len(labels) > MOST_LABELS:
        raise ValueError(f"labels: expected a list of at most {MOST_LABELS}")
    return [text_of({"label": label}, "label") for label in labels]
