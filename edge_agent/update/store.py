"""The versions of one model on this device's disk: archives, which of them is active, and what has happened to them.

What is written is whole after a power cut: an archive gets its name once it is complete and on the disk, and the state
is one small file that is replaced as a whole. Whoever changes it, the daemon or a command, reads it anew under a lock.
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
# So often may the agent end without being asked to while a version is on trial or on probation: not every power cut is
# the version's fault.
MAX_ENDS = 2

log = logging.getLogger(__name__)


@dataclass(slots=True)
class State:
    """What is known of a model's versions. They are named by their keys.

    Attributes:
        versions: those on the disk, and what was signed of each.
        active: the one that serves; None: the one that the configuration names.
        good: those that have served well, in order; the last one is what a failure goes back to.
        trying: the one that is being tried, beside the active one.
        on_probation: whether the active one has yet to prove itself.
        ends: how often the agent has ended without being asked to since it tries, or serves on probation.
        inference_ms: how long an inference of the version before took; 0 if unknown.
        refused: those that are not taken again: what people call them, and why.
        history: what has happened, the oldest first.
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
        """A version is not taken again."""
        self.refused.pop(key, None)
        self.refused[key] = {"version": self.name(key), "reason": reason[:MAX_REASON]}
        self.refused = dict([*self.refused.items()][-MAX_REFUSED:])

    def keep_what_is_needed(self) -> None:
        """Lets go of versions that are neither active, nor good, nor being tried."""
        kept = {self.active, self.trying, *self.good}
        self.versions = {key: facts for key, facts in self.versions.items() if key in kept}

    def name(self, key: str | None) -> str:
        """What people call a version."""
        if key is None:
            return "as configured"
        facts = self.versions.get(key)
        return f"{facts['channel']}/{facts['version']}" if facts else key


class Store:
    """The versions of one model.

    Args:
        folder: of this model; made when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def archive(self, key: str) -> Path:
        """Where the archive of a version lies, or will lie."""
        return self._folder / f"{key}.zip"

    def part(self, key: str) -> Path:
        """Where what has been downloaded of it so far lies."""
        return self._folder / f"{key}.part"

    def state(self) -> State:
        """What is known now."""
        try:
            return State(**json.loads(self._file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return State()
        except (OSError, ValueError, TypeError) as error:
            log.error("%s: can't be read (%s): the model that the configuration names serves", self._file, error)
            return State()

    @contextmanager
    def changing(self) -> Iterator[State]:
        """The state, to be changed; it is on the disk when the block has ended, or is as it was before.

        Raises:
            UpdateError: it can't be written.
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
            # Only now does nothing point to them any more.
            for key in before.keys() - state.versions.keys():
                self.archive(key).unlink(missing_ok=True)
                archive.forget(before[key]["sha256"])
        except OSError as error:
            raise UpdateError(f"{self._file}: can't be written: {error.strerror}") from None
        finally:
            os.close(lock)

    def take_in(self, release: Release) -> None:
        """Gives a completely downloaded archive its name, and notes it."""
        with self.changing() as state:
            self.part(release.key).replace(self.archive(release.key))
            atomic_file.sync_folder(self._folder)
            state.versions[release.key] = release.as_dict()

    def begin(self, key: str) -> None:
        """A version is being tried."""
        with self.changing() as state:
            if state.trying != key:
                state.trying, state.ends = key, 0
                state.note("trying", key)

    def activate(self, key: str, inference_ms: float) -> None:
        """From now on a version serves, on probation.

        Args:
            key: of the version.
            inference_ms: of the version that it replaces; 0 if unknown.
        """
        with self.changing() as state:
            state.active, state.trying, state.on_probation, state.ends = key, None, True, 0
            state.inference_ms = inference_ms
            state.note("activated", key)

    def commit(self, key: str) -> None:
        """A version has served well; what it has replaced stays, what is older goes."""
        with self.changing() as state:
            if state.active == key and state.on_probation:
                state.on_probation, state.ends = False, 0
                state.good = [*(good for good in state.good if good != key), key][-MAX_GOOD:]
                state.note("committed", key)
            state.keep_what_is_needed()

    def refuse(self, key: str, reason: str) -> None:
        """A version that is not active has failed its trial."""
        with self.changing() as state:
            state.refuse(key, reason)
            state.trying, state.ends = None, 0
            state.note("refused", key, reason)
            state.keep_what_is_needed()

    def roll_back(self, reason: str, *, revoked: Collection[str] = ()) -> str | None:
        """Goes back from the active version to the last good one before it; the active one is not taken again.

        Args:
            reason: why.
            revoked: keys of versions that are not good any more.

        Returns:
            What is active then.

        Raises:
            UpdateError: there is nothing to go back from.
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
        """Versions that have failed are taken again."""
        if self.state().refused:
            with self.changing() as state:
                state.refused = {}

    def began(self) -> None:
        """The agent has started: if it has not been stopped before, a version that it tries may be why.

        A version that it happens to too often is given up.
        """
        state = self.state()
        if state.trying is None and not state.on_probation:
            return
        with self.changing() as state:
            state.ends += 1
        if state.ends <= MAX_ENDS:
            return
        reason = f"the agent has ended {state.ends} times without being told to"
        if state.trying is not None:
            self.refuse(state.trying, f"{reason} while this version was tried")
        else:
            self.roll_back(f"{reason} while this version was on probation")

    def ended(self) -> None:
        """The agent ends since it was told to."""
        state = self.state()
        if state.trying is not None or state.on_probation:
            with self.changing() as state:
                state.ends -= 1

    def clear_parts(self, keep: str) -> None:
        """Removes what was downloaded of other versions, and archives that nothing knows of."""
        known = self.state().versions
        with contextlib.suppress(OSError):
            for file in self._folder.iterdir():
                if (file.suffix == ".part" and file.stem != keep) or (file.suffix == ".zip" and file.stem not in known):
                    file.unlink()

    @property
    def _file(self) -> Path:
        return self._folder / "state.json"
