"""The agent itself as what follows a channel: it downloads and verifies, and a service with more rights installs.

The agent can't write where its own program is. `update.installer` can; it verifies the signatures again, installs the
version beside this one, tries it, restarts the service with it, and goes back if it does not stay up. What it has done
is in a state of its own, which this one follows.
"""

import json
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from edge_agent.errors import UpdateError
from edge_agent.samples import timestamp
from edge_agent.system import atomic_file
from edge_agent.update.agent_release import REQUEST, this_platform
from edge_agent.update.host import RefusedError, UndecidedError
from edge_agent.update.releases import Release, of_machine
from edge_agent.update.state import State
from edge_agent.update.store import Store
from edge_agent.update.subject import Passed, Progress

# Seconds between two looks at what the installer has done, between two requests, and for all of it.
LOOK_EVERY, ASK_EVERY, INSTALLED_WITHIN = 1.0, 60.0, 7200.0


class AgentStore(Store):
    """The downloaded archive of the agent; which version is active is what the installer says.

    Args:
        folder: of the archive.
        installer: what the installer has done; None if there is none.
    """

    def __init__(self, folder: Path, installer: Store | None) -> None:
        super().__init__(folder)
        self._installer = installer
        self._request = folder / REQUEST

    def state(self) -> State:
        """The state, with what the installer has done."""
        found = super().state()
        if self._installer is not None:
            done = self._installer.state()
            found.active = done.active
            found.versions = found.versions | done.versions
            found.refused = found.refused | done.refused
        return found

    def activate(self, key: str, inference_ms: float) -> None:  # noqa: ARG002 - see Store
        """Notes that a version is installed; its archive is of no more use."""
        with self.changing() as state:
            name = state.name(key)
            state.trying, state.versions, state.on_probation = None, {}, True
            state.note("activated", name)

    def commit(self, key: str) -> None:
        """Notes that a version has stayed up."""
        name = self.state().name(key)
        with self.changing() as state:
            state.on_probation = False
            state.note("committed", name)

    def roll_back(self, reason: str, *, revoked: Collection[str] = ()) -> str | None:
        """Has the installer leave the active version, which it does by itself where that has been revoked.

        Returns:
            The key of the version before; None: one that no release has brought.

        Raises:
            UpdateError: no release has brought the active version.
        """
        found = self.state()
        if found.active is None or self._installer is None:
            raise UpdateError("agent: is as it was installed by hand: there is nothing to go back from")
        with self.changing() as state:
            state.on_probation = False
            state.note("rolled back", found.name(found.active), reason)
        self.ask(leave=None if revoked else found.active)
        before = [key for key in self._installer.state().good if key != found.active]
        return before[-1] if before else None

    def pin(self, pinned: bool) -> None:
        """Sets whether the active version stays; what the installer was asked for is void then."""
        name = self.state().name(self.state().active)
        with self.changing() as state:
            if state.pinned != pinned:
                state.pinned = pinned
                state.note("pinned" if pinned else "unpinned", name)
        if pinned:
            self._request.unlink(missing_ok=True)

    def ask(self, leave: str | None = None) -> None:
        """Asks the installer to look what there is to do.

        Args:
            leave: key of the version that is to be left for the one before.
        """
        document = {"at": timestamp(time.time()), "leave": leave}
        try:
            atomic_file.write(self._request, json.dumps(document).encode())
        except OSError as error:
            raise UpdateError(f"{self._request}: can't be written: {error.strerror}") from None


class AgentUpdate:
    """The agent that follows a channel; see `Subject`.

    Args:
        channel: that it follows.
        folder: of the downloaded archive.
        installer: what the installer has done; None if there is none.
    """

    name = "agent"

    def __init__(self, channel: str, folder: Path, installer: Store | None) -> None:
        self.channel = channel
        self.store = AgentStore(folder, installer)
        self._installer = installer

    def check_possible(self) -> None:
        """Only what install.sh has installed is updated."""
        if self._installer is None:
            raise UpdateError("agent: was not installed by install.sh, so it can't be updated from here")

    def usable(self, releases: Sequence[Release]) -> Sequence[Release]:
        """Of each version the archive for this machine."""
        return [release for release in of_machine(releases, [this_platform()]) if release.variant]

    def work_ms(self) -> float:
        """Nothing is compared."""
        return 0.0

    def test(self, release: Release, progress: Progress) -> Passed:
        """Waits for the installer, which ends this process when it switches to the version."""
        state = self._wait(progress, lambda state: release.key in state.refused or state.active == release.key)
        if release.key in state.refused:
            raise RefusedError(state.refused[release.key]["reason"])
        return Passed()

    def _wait(self, progress: Progress, done: Callable[[State], bool]) -> State:
        assert self._installer is not None  # noqa: S101 - see check_possible
        start, asked = time.monotonic(), -ASK_EVERY
        while not done(state := self._installer.state()):
            now = time.monotonic()
            if now - start > INSTALLED_WITHIN:
                raise UndecidedError("the installer has done nothing: `systemctl status edge-agent-update.path`")
            if now - start - asked >= ASK_EVERY:
                asked = now - start
                self.store.ask()
            progress.pause(LOOK_EVERY)
        return state

    def adopt(self, trial: Any, progress: Progress) -> None:
        """It serves already."""

    def watch(self, progress: Progress) -> None:
        """The installer has done it."""

    def go_back(self, key: str | None, roll_back: Callable[[str], str | None], progress: Progress) -> None:  # noqa: ARG002
        """Waits for the installer, which ends this process."""
        left = self.store.state().active
        self._wait(progress, lambda state: state.active != left)
