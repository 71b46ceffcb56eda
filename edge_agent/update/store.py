"""The versions of one model on this device's disk: the archives, which one is active, and the history.

All writes are atomic, also in a power cut: an archive is renamed once it is complete and on the disk, and the state is
one small file that is replaced as a whole. The daemon and commands read it again under a lock before they change it.
"""

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.errors import UpdateError
from edge_agent.models import archive
from edge_agent.samples import timestamp
from edge_agent.system import atomic_file
from edge_agent.update.releases import Release

MAX_HISTORY = 100
MAX_REFUSED = 50
MAX_GOOD = 2
MAX_REASON = 500
# How often the agent may end unexpectedly while a version is tested or on probation: it may have been a power cut.
MAX_ENDS = 2

log = logging.getLogger(__name__)


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
        inference_ms: mean duration of an inference of the previous version; 0 if unknown.
        refused: those that are not tried again, each with its name and the reason.
        history: events, the oldest first.
    """

    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    active: str | None = None
    good: list[str] = field(default_factory=list)
    trying: str | None = None
    on_probation: bool = False
    ends: int = 0
    inference_ms: float = 0.0
    refused: dict[str, dict[str, str]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def note(self, step: str, key: str | None, reason: str = "") -> None:
        """Adds to the history."""
        event = {"at": timestamp(time.time()), "step": step, "version": self.name(key)}
        self.history = [*self.history, event | ({"reason": reason} if reason else {})][-MAX_HISTORY:]

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


class Store:
    """The versions of one model.

    Args:
        folder: of this model; created when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def archive(self, key: str) -> Path:
        """Path of a version's archive."""
        return self._folder / f"{key}.zip"

    def part(self, key: str) -> Path:
        """Path of a version's partial download."""
        return self._folder / f"{key}.part"

    def state(self) -> State:
        """Reads the state."""
        try:
            return State(**json.loads(self._file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return State()
        except (OSError, ValueError, TypeError) as error:
            log.error("%s: can't be read (%s): using the configured model", self._file, error)
            return State()

    @contextmanager
    def changing(self) -> Iterator[State]:
        """Yields the state to be changed; it is written when the block ends, unless the block raises.

        Raises:
            UpdateError: the state can't be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._folder / "lock", os.O_RDONLY | os.O_CREAT, 0o644)
        except OSError as error:
            raise UpdateError(f"{self._folder}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self.state()
            before = state.versions
            yield state
            atomic_file.write(self._file, json.dumps(asdict(state), indent=1).encode())
            # Only after that may the archives be removed.
            for key in before.keys() - state.versions.keys():
                self.archive(key).unlink(missing_ok=True)
                archive.forget(before[key]["sha256"])
        except OSError as error:
            raise UpdateError(f"{self._file}: can't be written: {error.strerror}") from None
        finally:
            os.close(lock)

    def take_in(self, release: Release) -> None:
        """Adds a completely downloaded archive."""
        with self.changing() as state:
            self.part(release.key).replace(self.archive(release.key))
            atomic_file.sync_folder(self._folder)
            state.versions[release.key] = release.as_dict()

    def begin(self, key: str) -> None:
        """Notes that a version is being tested."""
        with self.changing() as state:
            if state.trying != key:
                state.trying, state.ends = key, 0
                state.note("trying", key)

    def activate(self, key: str, inference_ms: float) -> None:
        """Makes a version the active one, on probation.

        Args:
            key: of the version.
            inference_ms: mean duration of an inference of the version that it replaces; 0 if unknown.
        """
        with self.changing() as state:
            state.active, state.trying, state.on_probation, state.ends = key, None, True, 0
            state.inference_ms = inference_ms
            state.note("activated", key)

    def commit(self, key: str) -> None:
        """Ends a version's probation. The version that it has replaced is kept, older ones are removed."""
        with self.changing() as state:
            if state.active == key and state.on_probation:
                state.on_probation, state.ends = False, 0
                state.good = [*(good for good in state.good if good != key), key][-MAX_GOOD:]
                state.note("committed", key)
            state.keep_what_is_needed()

    def refuse(self, key: str, reason: str) -> None:
        """Notes that a version has failed its test and is not to be tried again."""
        with self.changing() as state:
            state.refuse(key, reason)
            state.trying, state.ends = None, 0
            state.note("refused", key, reason)
            state.keep_what_is_needed()

    def roll_back(self, reason: str, *, revoked: Collection[str] = ()) -> str | None:
        """Makes the last good version before the active one the active one; the failed one is not tried again.

        Args:
            reason: for the history.
            revoked: keys of versions that are not to be used either.

        Returns:
            The key of the version that is active then; None: the configured one.

        Raises:
            UpdateError: the configured version is the active one.
        """
        if self.state().active is None:
            raise UpdateError(
                f"{self._folder.name}: serves as the configuration names it: there is nothing to go back from"
            )
        with self.changing() as state:
            failed = str(state.active)
            state.refuse(failed, reason)
            state.good = [key for key in state.good if key != failed and key not in revoked]
            state.active = next((key for key in reversed(state.good) if self.archive(key).is_file()), None)
            state.trying, state.on_probation, state.ends = None, False, 0
            state.note("rolled back", failed, reason)
            state.keep_what_is_needed()
            return state.active

    def forget_refusals(self) -> None:
        """Allows refused versions to be tried again."""
        if self.state().refused:
            with self.changing() as state:
                state.refused = {}

    def began(self) -> None:
        """Notes a start of the agent: if the last run ended unexpectedly, the version under test may be the cause.

        A version with more than `MAX_ENDS` of these is refused or rolled back.
        """
        state = self.state()
        if state.trying is None and not state.on_probation:
            return
        with self.changing() as state:
            state.ends += 1
        if state.ends <= MAX_ENDS:
            return
        reason = f"the agent has ended {state.ends} times unexpectedly"
        if state.trying is not None:
            self.refuse(state.trying, f"{reason} while this version was tried")
        else:
            self.roll_back(f"{reason} while this version was on probation")

    def ended(self) -> None:
        """Notes that the agent was stopped in order."""
        state = self.state()
        if state.trying is not None or state.on_probation:
            with self.changing() as state:
                state.ends -= 1

    def clear_parts(self, keep: str) -> None:
        """Removes partial downloads of other versions, and archives that are not in the state."""
        known = self.state().versions
        with contextlib.suppress(OSError):
            for file in self._folder.iterdir():
                if (file.suffix == ".part" and file.stem != keep) or (file.suffix == ".zip" and file.stem not in known):
                    file.unlink()

    @property
    def _file(self) -> Path:
        return self._folder / "state.json"
