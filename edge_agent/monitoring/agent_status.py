"""The interface through which the status page reads the agent's state."""

from collections.abc import Sequence
from typing import Any, Protocol

from edge_agent import settings
from edge_agent.config.loader import Config
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

    def conversation_of(self, pipeline: str, after: int, *, private: bool) -> dict[str, Any] | None:
        """See `Conversation.look`; None: there is no such pipeline."""
        ...

    def options_of(self, pipeline: str) -> settings.Pipeline:
        """The settings of a pipeline.

        Raises:
            KeyError: there is none of that name.
        """
        ...

    def config(self) -> Config:
        """The configuration in use."""
        ...

    def labels_of(self, pipeline: str) -> Sequence[str]:
        """The labels that a pipeline's model can give; empty if it has none."""
        ...

    def observers_of(self, pipeline: str) -> list[ResultObserver]:
        """The observers of a pipeline's results; the list may be changed."""
        ...

    def reload(self) -> list[str]:
        """Has the agent read its configuration file again; returns what is wrong with it, if nothing has changed.

        Waits until that is done, or for a minute.
        """
        ...
