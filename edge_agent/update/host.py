"""The interface through which the updater uses the agent, and what its steps share."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple, Protocol

from edge_agent.errors import UpdateError
from edge_agent.models.model import Model
from edge_agent.pipeline.pipeline import Pipeline
from edge_agent.system.text import read_attribute


class RefusedError(UpdateError):
    """A version is not good enough to serve on this device."""


class UndecidedError(UpdateError):
    """There is not enough evidence for or against a version."""


class Work(NamedTuple):
    """How many inferences a model has done, and how many seconds they took altogether."""

    runs: int
    busy: float


def work_of(model: Model | None) -> Work:
    """What a model has done so far; nothing if there is none."""
    return Work(0, 0.0) if model is None else Work(model.runs, model.busy)


def inference_ms(now: Work, before: Work = Work(0, 0.0)) -> float:  # noqa: B008 - it is immutable
    """Mean duration of the runs since `before`, in milliseconds; 0 if there were none."""
    runs = now.runs - before.runs
    return (now.busy - before.busy) / runs * 1000 if runs > 0 else 0.0


def resident_mb() -> float:
    """Memory of this process, in megabytes."""
    pages = int(read_attribute(Path("/proc/self/statm")).split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Host(Protocol):
    """What the updater needs of the agent; called from the updater's thread."""

    def serving(self, name: str) -> Model | None:
        """The version of a model that serves now; None if no pipeline uses it, or it is a language model."""
        ...

    def pipelines(self, name: str) -> list[Pipeline]:
        """The running pipelines of a model."""
        ...

    def load_version(self, name: str, path: Path | None, check_stop: Callable[[], None]) -> Model | None:
        """Loads a version of a model, after a self-test in a process of its own. The active version keeps serving.

        Args:
            name: of the model.
            path: of the archive; None: the configured model.
            check_stop: called about twice a second during the self-test; raises to cancel it.

        Returns:
            The version; None if no pipeline uses the model, or it is a language model.

        Raises:
            ConfigError: the version can't be used here.
            UpdateError: loading failed for another reason.
        """
        ...

    def adopt(self, name: str, model: Model | None) -> Event:
        """Puts the version of a model that the store has as active into service, from the next sample on.

        Args:
            name: of the model.
            model: that version, as `load_version` has returned it.

        Returns:
            An event that is set when it serves.
        """
        ...

    def publish_state(self, document: Mapping[str, Any]) -> None:
        """Publishes the state of updates, retained."""
        ...
