"""What the updater wants of the agent, and a word that its steps share."""

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
    """How often models have run, and for how many seconds."""

    runs: int
    busy: float


def work_of(models: Models) -> Work:
    """What models have done so far, together."""
    return Work(sum(model.runs for model in models.values()), sum(model.busy for model in models.values()))


def inference_ms(now: Work, before: Work = Work(0, 0.0)) -> float:  # noqa: B008 - it is immutable
    """Milliseconds that a run took on average, since `before`; 0 if there was none."""
    runs = now.runs - before.runs
    return (now.busy - before.busy) / runs * 1000 if runs > 0 else 0.0


def resident_mb() -> float:
    """Memory of this process, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Host(Protocol):
    """The agent, as the updater sees it; called from the updater's thread."""

    def serving(self, name: str) -> Models:
        """The models that serve under a name."""
        ...

    def pipelines(self, name: str) -> list[Pipeline]:
        """The pipelines that a model serves."""
        ...

    def load_version(self, name: str, path: Path | None, check_stop: Callable[[], None]) -> Models:
        """Loads a version of a model, after its trial in a process of its own. What serves goes on.

        Args:
            name: of the model.
            path: of the archive; None: what the configuration names.
            check_stop: called about twice a second during the trial; what it raises ends it.

        Raises:
            ConfigError: it can't be used here.
            UpdateError: something else is wrong, which is not its fault.
        """
        ...

    def adopt(self, models: Models) -> Event:
        """Has the version of a model that is active, as the disk says, serve from the next sample on.

        Args:
            models: that version, loaded.

        Returns:
            What is set when that has happened.
        """
        ...

    def publish_state(self, document: Mapping[str, Any]) -> None:
        """Publishes the state of updates, retained."""
        ...
