"""The interface through which the updater uses the agent, and what its steps share."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple, Protocol

from edge_agent.errors import UpdateError
from edge_agent.models.loading import ModelKey
from edge_agent.models.model import Model
from edge_agent.pipeline.pipeline import Pipeline

Models = Mapping[ModelKey, Model]


class RefusedError(UpdateError):
    """A version is not good enough to serve on this device."""


class Work(NamedTuple):
    """How often models have run, and for how many seconds altogether."""

    runs: int
    busy: float


def work_of(models: Models) -> Work:
    """The sum over several models."""
    return Work(sum(model.runs for model in models.values()), sum(model.busy for model in models.values()))


def inference_ms(now: Work, before: Work = Work(0, 0.0)) -> float:  # noqa: B008 - it is immutable
    """Mean duration of the runs since `before`, in milliseconds; 0 if there were none."""
    runs = now.runs - before.runs
    return (now.busy - before.busy) / runs * 1000 if runs > 0 else 0.0


def resident_mb() -> float:
    """Memory of this process, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Host(Protocol):
    """What the updater needs of the agent; called from the updater's thread."""

    def serving(self, name: str) -> Models:
        """The loaded copies of a model that serve now."""
        ...

    def pipelines(self, name: str) -> list[Pipeline]:
        """The running pipelines of a model."""
        ...

    def load_version(self, name: str, path: Path | None, check_stop: Callable[[], None]) -> Models:
        """Loads a version of a model, after a self-test in a process of its own. The active version keeps serving.

        Args:
            name: of the model.
            path: of the archive; None: the configured model.
            check_stop: called about twice a second during the self-test; raises to cancel it.

        Raises:
            ConfigError: the version can't be used here.
            UpdateError: loading failed for another reason.
        """
        ...

    def adopt(self, models: Models) -> Event:
        """Puts the version of a model that the store has as active into service, from the next sample on.

        Args:
            models: that version, loaded.

        Returns:
            An event that is set when it serves.
        """
        ...

    def publish_state(self, document: Mapping[str, Any]) -> None:
        """Publishes the state of updates, retained."""
        ...
