"""The versions of one model on this device's disk: the archives, which one is active, and the history.

All writes are atomic, also in a power cut: an archive is renamed once it is complete and on the disk, and the state is
one small file that is replaced as a whole. The daemon and commands read it again under a lock before they change it.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from edge_agent.errors import UpdateError
from edge_agent.models import archive
from edge_agent.system import atomic_file
from edge_agent.system.set_aside import set_aside, why_unusable
from edge_agent.system.text import read_attribute
from edge_agent.update.releases import Release
from edge_agent.update.state import DamagedError, State, read_state

MAX_GOOD = 2
# Folders above a model's that are of updates alone: `updates/models`.
UPDATE_FOLDERS = 2
# How often the agent may end unexpectedly while a version is tested or on probation: it may have been a power cut.
MAX_ENDS = 2
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

log = logging.getLogger(__name__)


def boot_id() -> str:
    """Identifies the time since the device has booted; never empty."""
    with contextlib.suppress(OSError):
        return read_attribute(BOOT_ID) or "unknown"
    return "unknown"


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
        """Reads the state; if it can't be read, it is as if there was none."""
        try:
            return read_state(self._file)
        except (OSError, DamagedError) as error:
            log.error("%s: can't be read (%s): using the configured model", self._file, error)
            return State()

    def repair(self) -> None:
        """Sets aside what can't be used: what is in the place of a folder, the state, or the active version's archive.

        In place of a damaged active version, the last good one before it becomes the active one. The damaged one is not
        refused: the next check downloads it again. For the start of the agent.

        Raises:
            UpdateError: the disk can't be written.
        """
        if not self._folder.is_dir():
            for folder in (*reversed(self._folder.parents[:UPDATE_FOLDERS]), self._folder):
                if folder.exists() and not folder.is_dir():
                    self._set_aside(folder, "it is not a folder")
                    return
            return
        with contextlib.suppress(DamagedError, OSError):
            state = read_state(self._file)
            if state.active is None or self.has(state.active):
                return
        with self.changing() as state:
            if (damaged := state.active) is not None:
                state.good = [key for key in state.good if key != damaged]
                state.active = self._last_good(state)
                state.on_probation, state.ends = False, 0
                state.note("damaged", damaged, "its archive on this device is damaged")
                state.keep_what_is_needed()

    def has(self, key: str) -> bool:
        """Whether a version's archive is on the disk, whole; a damaged one is set aside.

        Raises:
            UpdateError: it can't be set aside.
        """
        facts, path = self.state().versions.get(key), self.archive(key)
        why = why_unusable(path)
        if not why and facts is not None:
            try:
                with path.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() == facts["sha256"]:
                        return True
                why = "it has changed since it was downloaded"
            except FileNotFoundError:
                return False
            except OSError as error:
                why = str(error.strerror)
        if why:
            self._set_aside(path, why, self._folder / "archive")
        return False

    def _last_good(self, state: State) -> str | None:
        return next((key for key in reversed(state.good) if self.has(key)), None)

    def make_way(self, key: str) -> None:
        """Sets aside what is in the place of a version's partial download and can't be used as one.

        Raises:
            UpdateError: it can't be set aside.
        """
        if why := why_unusable(self.part(key)):
            self._set_aside(self.part(key), why, self._folder / "archive")

    def _set_aside(self, path: Path, why: str, name: Path | None = None) -> None:
        try:
            log.error("%s: can't be used (%s): set aside as %s", path, why, set_aside(path, as_name=name))
        except OSError as error:
            raise UpdateError(f"{path}: can't be used ({why}), nor moved out of the way: {error.strerror}") from None

    @contextmanager
    def changing(self) -> Iterator[State]:
        """Yields the state to be changed; it is written when the block ends, unless the block raises.

        Raises:
            UpdateError: the state can't be written.
        """
        lock = self._open_lock()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                state = read_state(self._file)
            except DamagedError as error:
                self._set_aside(self._file, str(error))
                state = State()
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

    def _open_lock(self) -> int:
        path = self._folder / "lock"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():
                self._set_aside(path, "it is not a file")
            return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
        except OSError as error:
            raise UpdateError(f"{self._folder}: {error.strerror}") from None

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
            state.running, state.deaths = boot_id(), []
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

    def undecided(self, key: str, reason: str) -> None:
        """Notes that there was not enough evidence about a version; its archive is kept for the next check."""
        with self.changing() as state:
            state.trying, state.ends = None, 0
            state.note_undecided(key, reason)

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
            state.active = self._last_good(state)
            state.trying, state.on_probation, state.ends, state.deaths = None, False, 0, []
            state.note("rolled back", failed, reason)
            state.keep_what_is_needed()
            return state.active

    def forget_refusals(self) -> None:
        """Allows refused versions to be tried again."""
        if self.state().refused:
            with self.changing() as state:
                state.refused = {}

    def pin(self, pinned: bool) -> None:
        """Sets whether the active version stays, whatever is released."""
        with self.changing() as state:
            if state.pinned != pinned:
                state.pinned = pinned
                state.note("pinned" if pinned else "unpinned", state.active)

    def note_silent(self, pipelines: Iterable[str]) -> None:
        """Notes the pipelines that have a problem while a configuration is activated."""
        with self.changing() as state:
            state.silent = list(pipelines)

    def forget_deaths(self) -> None:
        """Begins to count unexpected ends again."""
        with self.changing() as state:
            state.deaths = []

    def began(self, within: float = math.inf) -> bool:
        """Notes a start of the agent: if the last run ended unexpectedly, the version under test may be the cause.

        A version with more than `MAX_ENDS` of these is refused or rolled back. With a committed version, they are
        counted as `State.deaths`.

        Args:
            within: seconds after which a death no longer counts.

        Returns:
            Whether the last run has ended unexpectedly.
        """
        state = self.state()
        tested = state.trying is not None or state.on_probation
        if not tested and state.active is None:
            return False
        with self.changing() as state:
            died = state.note_start(boot_id(), time.monotonic(), within)
            state.ends += tested
        if state.ends <= MAX_ENDS:
            return died
        reason = f"the agent has ended {state.ends} times unexpectedly"
        if state.trying is not None:
            self.refuse(state.trying, f"{reason} while this version was tried")
        else:
            self.roll_back(f"{reason} while this version was on probation")
        return died

    def ended(self) -> None:
        """Notes that the agent was stopped in order."""
        state = self.state()
        tested = state.trying is not None or state.on_probation
        if tested or state.running:
            with self.changing() as state:
                state.ends -= tested
                state.running = ""

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
