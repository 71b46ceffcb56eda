"""The interface through which the status page reads the agent's state."""

from typing import Any, Protocol

from edge_agent import settings
from edge_agent.samples import Result
from edge_agent.sources.observer import ResultObserver


class AgentStatus(Protocol):
    """The state of an agent; may be read from any thread."""

    def status(self) -> dict[str, Any]:
        """The state of everything."""
        ...

    def latest(self, pipeline: str) -> Result | None:
        """The last result of a pipeline that was published."""
        ...

    def options_of(self, pipeline: str) -> settings.Pipeline:
        """The settings of a pipeline.

        Raises:
            KeyError: there is none of that name.
        """
        ...

    def observers_of(self, pipeline: str) -> list[ResultObserver]:
        """The observers of a pipeline's results; the list may be changed."""
        ...
