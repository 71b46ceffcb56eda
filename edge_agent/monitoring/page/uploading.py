"""A model that is sent from the browser, piece by piece: each is as small as any request, and goes to the disk.

So nothing large is taken from anybody before the token is known, and no connection stands for long.
"""

import errno
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

from edge_agent.errors import EdgeAgentError, ModelError
from edge_agent.models import registry
from edge_agent.monitoring.page.answers import (
    Answer,
    Handler,
    Request,
    as_json,
    document_of,
    in_words,
    not_found,
    text_of,
)
from edge_agent.setup import own_models

log = logging.getLogger(__name__)

MOST_BYTES, MOST_LABELS = 100_000_000, 60_000
# Bytes that must stay free on the disk.
SPARE = 50_000_000
# Seconds without a piece after which another model may take the place.
QUIET = 20.0

State = Literal["receiving", "checking", "ready", "refused"]


@dataclass(slots=True)
class Upload:
    """A model that comes.

    Attributes:
        key: that its pieces are sent with.
        size: bytes of the file, as stated.
        have: bytes that have come.
        latest: when the latest piece came, on the monotonic clock.
        problem: why it was refused.
    """

    key: str
    name: str
    size: int
    has_labels: bool
    have: int = 0
    latest: float = 0.0
    state: State = "receiving"
    problem: str = ""


class Uploads:
    """Takes one model at a time into a folder beside the pulled ones, where it becomes one of them if it passes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._upload: Upload | None = None

    @property
    def _folder(self) -> Path:
        return registry.models_dir() / ".upload"  # no name that a model can have

    def edits(self) -> dict[str, Handler]:
        """What answers changes, by route."""
        return {"/setup/upload": self._begin, "/setup/upload/": self._piece}

    def facts(self) -> dict[str, Any]:
        """How far the latest model is."""
        with self._lock:
            one = self._upload
            if one is None:
                return {"name": "", "state": "", "have": 0, "size": 0, "problem": ""}
            return {"name": one.name, "state": one.state, "have": one.have, "size": one.size, "problem": one.problem}

    def _begin(self, request: Request) -> Answer:
        """Makes place for a model: `name`, `size` in bytes, maybe `labels`, one a line."""
        try:
            name, size, labels = _wanted(document_of(request))
        except (ValueError, ModelError) as error:
            return in_words(HTTPStatus.BAD_REQUEST, str(error))
        with self._lock:
            one = self._upload
            waits = one is not None and one.state == "receiving" and time.monotonic() - one.latest < QUIET
            if one is not None and (waits or one.state == "checking"):
                return in_words(HTTPStatus.CONFLICT, f"{one.name} is being received or checked: wait until it is done")
            try:
                self._make_place(size, labels)
            except OSError as error:
                return self._refused_by_disk(error)
            self._upload = Upload(secrets.token_hex(16), name, size, bool(labels), latest=time.monotonic())
            return as_json({"key": self._upload.key})

    def _make_place(self, size: int, labels: str) -> None:
        """An empty folder, with the labels and no model yet.

        Raises:
            OSError: it can't be made, or the disk has not enough room.
        """
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, mode=0o700)
        if shutil.disk_usage(self._folder).free < size + SPARE:
            raise OSError(errno.ENOSPC, "not enough room")
        (self._folder / "model").touch()
        if labels:
            (self._folder / own_models.LABELS_FILE).write_text(labels, encoding="utf-8")

    def _refused_by_disk(self, error: OSError) -> Answer:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._upload = None
        hint = "let the agent's user write there, and make room on the disk"
        return in_words(HTTPStatus.INSUFFICIENT_STORAGE, f"{self._folder}: {error.strerror}: {hint}")

    def _piece(self, request: Request) -> Answer:
        """Takes the bytes of the model from the offset `at` on; with the last ones, it is checked."""
        with self._lock:
            one = self._upload
            if one is None or one.key != request.name or one.state != "receiving":
                return not_found("upload: it has been given up, or another one has taken its place")
            if request.number("at", -1) != one.have:
                return in_words(HTTPStatus.CONFLICT, f"expected the bytes from {one.have} on")
            if not request.body or one.have + len(request.body) > one.size:
                return in_words(HTTPStatus.BAD_REQUEST, f"expected 1 to {one.size - one.have} further bytes")
            try:
                with (self._folder / "model").open("ab") as file:
                    file.write(request.body)
            except OSError as error:
                return self._refused_by_disk(error)
            one.have += len(request.body)
            one.latest = time.monotonic()
            if one.have == one.size:
                one.state = "checking"
                threading.Thread(target=self._check, args=(one,), name="upload", daemon=True).start()
            return as_json({"have": one.have})

    def _check(self, one: Upload) -> None:
        """Looks into the model and tries it, in a thread of its own, and in a process of its own."""
        labels = self._folder / own_models.LABELS_FILE if one.has_labels else None
        state: State = "refused"
        try:
            own_models.accept(self._folder / "model", labels, one.name)
        except (EdgeAgentError, OSError) as error:
            # Where it was put is of no use to those who have sent it.
            problem = str(error).replace(f"{self._folder}/", "")
            log.warning("%s, from the status page, is refused: %s", one.name, problem)
        else:
            state, problem = "ready", ""
            log.info("%s: a model from the status page", one.name)
        shutil.rmtree(self._folder, ignore_errors=True)
        with self._lock:
            one.state, one.problem = state, problem


def _wanted(document: Mapping[str, Any]) -> tuple[str, int, str]:
    """Name, size and labels of a model that is to come.

    Raises:
        ValueError: they are something else, or too much.
        ModelError: the name can't be given.
    """
    name, size, labels = text_of(document, "name"), document.get("size"), document.get("labels", "")
    own_models.check_name(name)
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MOST_BYTES:
        raise ValueError(f"expected a file of 1 to {MOST_BYTES} bytes: put a larger one on the device itself")
    if not isinstance(labels, str) or len(labels) > MOST_LABELS:
        raise ValueError(f"labels: expected a text of at most {MOST_LABELS} characters")
    return name, size, labels
