"""The state of a model's versions: one small file, which is read with care, since it decides what serves."""

import re
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edge_agent.errors import UpdateError
from edge_agent.samples import timestamp
from edge_agent.system.set_aside import why_unusable
from edge_agent.system.text import TextError, read_text
from edge_agent.update.releases import Release

MAX_HISTORY = 100
MAX_REFUSED = 50
MAX_REASON = 500
MAX_DEATHS_KEPT = 100
# Bytes of the file: refusals and history are bounded, but each reason is a text.
MAX_SIZE = 1_000_000
_KEY = re.compile(r"[0-9]{1,18}-[0-9a-f]{16}")
_SHA256 = re.compile("[0-9a-f]{64}")


class DamagedError(UpdateError):
    """The file is not one that `Store` has written; as text: why."""


@dataclass(slots=True)
class State:
    """The state of a model's versions. They are identified by `Release.key`.

    Attributes:
        versions: those on the disk, each with the signed facts.
        active: the one that serves; None: the configured one.
        good: those that have been committed, in order; a rollback goes to the last one.
        trying: the one that is being tested beside the active one.
        on_probation: whether the active one is on probation.
        ends: how often the agent has ended unexpectedly while a version was tested or on probation.
        running: the kernel's boot id while the agent runs; empty after it has ended in order.
        deaths: unexpected ends with the committed version, seconds on the monotonic clock, since the device's boot.
        inference_ms: mean duration of an inference of the previous version; 0 if unknown.
        refused: those that are not tried again, each with its name and the reason.
        history: events, the oldest first.
        pinned: whether the active one stays, whatever is released, until it is revoked.
        silent: of a configuration: pipelines that had a problem when it was activated.
    """

    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    active: str | None = None
    good: list[str] = field(default_factory=list)
    trying: str | None = None
    on_probation: bool = False
    ends: int = 0
    running: str = ""
    deaths: list[float] = field(default_factory=list)
    inference_ms: float = 0.0
    refused: dict[str, dict[str, str]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    pinned: bool = False
    silent: list[str] = field(default_factory=list)

    def note(self, step: str, key: str | None, reason: str = "") -> None:
        """Adds to the history."""
        event = {"at": timestamp(time.time()), "step": step, "version": self.name(key)}
        self.history = [*self.history, event | ({"reason": reason} if reason else {})][-MAX_HISTORY:]

    def note_undecided(self, key: str, reason: str) -> None:
        """Adds to the history that a trial was undecided; of one trial after the other, the last one is kept."""
        name = self.name(key)
        again = [(event["step"], event["version"]) for event in self.history[-2:]]
        if again == [("undecided", name), ("trying", name)]:
            self.history = self.history[:-2]
        self.note("undecided", key, reason)

    def note_start(self, boot_id: str, now: float, within: float) -> bool:
        """Notes a start of the agent; returns whether the last run has ended unexpectedly.

        Only the ends since the device's boot count as deaths: any other may have been a power cut. Those before an end
        in order do not count either.

        Args:
            boot_id: of the kernel.
            now: seconds on the monotonic clock.
            within: seconds after which a death no longer counts.
        """
        died = bool(self.running)
        if self.running != boot_id:
            self.deaths = []
        elif self.active is not None and self.trying is None and not self.on_probation:
            self.deaths = [*(death for death in self.deaths if now - death <= within), now][-MAX_DEATHS_KEPT:]
        self.running = boot_id
        return died

    def activated_at(self) -> str:
        """When the active version was activated, as in the history; empty if that is not known any more."""
        name = self.name(self.active)
        times = [event["at"] for event in self.history if (event["step"], event["version"]) == ("activated", name)]
        return str(times[-1]) if times else ""

    def refuse(self, key: str, reason: str) -> None:
        """Marks a version as not to be tried again."""
        self.refused.pop(key, None)
        self.refused[key] = {"version": self.name(key), "reason": reason[:MAX_REASON]}
        self.refused = dict([*self.refused.items()][-MAX_REFUSED:])

    def keep_what_is_needed(self) -> None:
        """Drops the versions that are neither active, nor good, nor being tested."""
        kept = {self.active, self.trying, *self.good}
        self.versions = {key: facts for key, facts in self.versions.items() if key in kept}

    def name(self, key: str | None) -> str:
        """The name of a version for people."""
        if key is None:
            return "as configured"
        facts = self.versions.get(key)
        return f"{facts['channel']}/{facts['version']}" if facts else key


def read_state(path: Path) -> State:
    """The state in a file; an empty one if there is none.

    Raises:
        DamagedError: it is damaged, or something else is in its place.
        OSError: it can't be read.
    """
    if why := why_unusable(path):
        raise DamagedError(why)
    try:
        state = _state().validate_json(read_text(path, MAX_SIZE), strict=True)
    except FileNotFoundError:
        return State()
    except TextError as error:
        raise DamagedError(str(error)) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedError(": ".join([*(str(part) for part in first["loc"]), first["msg"]])) from None
    if why := _contradiction(state):
        raise DamagedError(why)
    return state


@cache
def _state() -> TypeAdapter[State]:
    return TypeAdapter(State)


@cache
def _release() -> TypeAdapter[Release]:
    return TypeAdapter(Release)


def _contradiction(state: State) -> str:
    """What can't be in a state, although its types are right; empty if all is well."""
    for key, facts in state.versions.items():
        try:
            release = _release().validate_python(facts)
        except ValidationError:
            return f"versions.{key}: no facts of a release"
        if release.key != key or not (_KEY.fullmatch(key) and _SHA256.fullmatch(release.sha256)):
            return f"versions.{key}: not the key of {release.name}"
    for used in (state.active, state.trying, *state.good):
        if used is not None and used not in state.versions:
            return f"{used}: not among the versions"
    for facts in state.refused.values():
        if not facts.keys() >= {"version", "reason"}:
            return "refused: without version or reason"
    for event in state.history:
        if not event.keys() >= {"step", "version"}:
            return "history: without step or version"
    return ""
