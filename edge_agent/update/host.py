"""The interface through which the updater uses the agent, and what its steps share."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple, Protocol

from edge_agent.errors import UpdateError
from edge_agent.models.language import LanguageModel
from edge_agent.models.model import Model
from edge_agent.pipeline.pipeline import Pipeline
from edge_agent.pipeline.text import TextPipeline
from edge_agent.system.text import read_attribute


class RefusedError(UpdateError):
    """A version is not good enough to serve on this device."""


class UndecidedError(UpdateError):
    """There is not enough evidence for or against a version."""


class Work(NamedTuple):
    """How many inferences a model has done, and how many seconds they took altogether."""

    runs: int
    busy: float


Served = Model | LanguageModel
"""What can be updated while it serves."""


def work_of(model: Served | None) -> Work:
    """What a model has done so far; nothing if there is none, or it is a language model."""
    return Work(model.runs, model.busy) if isinstance(model, Model) else Work(0, 0.0)


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

    def serving(self, name: str) -> Served | None:
        """The version of a model that serves now; None if no pipeline uses it."""
        ...

    def pipelines(self, name: str) -> list[Pipeline]:
        """The running pipelines of a model that is no language model."""
        ...

    def load_version(self, name: str, path: Path | None, check_stop: Callable[[], None]) -> Served | None:
        """Loads a version of a model, after a self-test in a process of its own. The active version keeps serving.

        Args:
            name: of the model.
            path: of the archive; None: the configured model.
            check_stop: called about twice a second during the self-test; raises to cancel it.

        Returns:
            The version; None if no pipeline uses the model.

        Raises:
            ConfigError: the version can't be used here.
            UpdateError: loading failed for another reason.
        """
        ...

    def adopt(self, name: str, model: Served | None) -> Event:
        """Puts the version of a model that the store has as active into service, from the next sample on.

        Args:
            name: of the model.
            model: that version, as `load_version` has returned it.

        Returns:
            An event that is set when it serves.
        """
        ...

    def running(self) -> Mapping[str, Pipeline | TextPipeline]:
        """The running pipelines, by name."""
        ...

    def problems(self) -> Mapping[str, str]:
        """Why a pipeline gives no results, by its name; empty where nothing is known to be wrong."""
        ...

    def request_reload(self) -> None:
        """Has the agent read its configuration again, which stops the updater first and starts another one."""
        ...

    def publish_state(self, document: Mapping[str, Any]) -> None:
        """Publishes the state of updates, retained."""
        ...
