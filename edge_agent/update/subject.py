"""What follows a channel on a device: the interface through which the updater takes each of them from step to step."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from edge_agent.update.releases import Release
from edge_agent.update.store import Store


class Progress(Protocol):
    """How a subject reports its steps, and is asked to stop."""

    def step(self, step: str, version: str, **facts: Any) -> None:
        """Logs and publishes that a step has been reached."""
        ...

    def check_stop(self) -> None:
        """Raises if the updater has been asked to stop."""
        ...

    def pause(self, seconds: float) -> None:
        """Sleeps; raises if the updater has been asked to stop."""
        ...


class Trial(Protocol):
    """A version that has passed its tests, and does not serve yet."""

    facts: dict[str, Any]
    """What its tests have found, as published."""

    def discard(self) -> None:
        """Frees what it holds."""
        ...


class Passed:
    """A trial that holds nothing and has nothing to publish."""

    facts: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def discard(self) -> None:
        """There is nothing to free."""


class Subject(Protocol):
    """A model, the configuration, or the agent itself."""

    name: str
    channel: str

    @property
    def store(self) -> Store:
        """Its versions."""
        ...

    def check_possible(self) -> None:
        """Raises UpdateError if it can't be updated now."""
        ...

    def usable(self, releases: Sequence[Release]) -> Sequence[Release]:
        """Of the channel's releases those that this machine can use."""
        ...

    def test(self, release: Release, progress: Progress) -> Trial:
        """Tests a version while another one serves.

        Raises:
            RefusedError: it is not good enough.
            UndecidedError: there is not enough evidence.
        """
        ...

    def work_ms(self) -> float:
        """What the active version needs for an input, in milliseconds; 0 if unknown."""
        ...

    def adopt(self, trial: Trial, progress: Progress) -> None:
        """Puts a version that the store has as active into service."""
        ...

    def watch(self, progress: Progress) -> None:
        """Watches the active version for the time of its probation.

        Raises:
            RefusedError: it has failed.
        """
        ...

    def go_back(self, key: str | None, roll_back: Callable[[str], str | None], progress: Progress) -> None:
        """Puts the version that the store has gone back to into service.

        Args:
            key: of that version; None: the configured one.
            roll_back: goes back once more, for a reason, if that version can't be used; returns the next key.
            progress: of this subject.
        """
        ...
