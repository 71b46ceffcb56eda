"""What can be looked at over HTTP, as far as the configuration wants it. What is off is not imported."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge_agent.config import Config
from edge_agent.errors import EdgeAgentError
from edge_agent.samples import Timing

if TYPE_CHECKING:
    from edge_agent.metrics import Metrics
    from edge_agent.web import Web

log = logging.getLogger(__name__)


class Monitoring:
    """The metrics and the status page of an agent.

    Args:
        status: the state of the agent, as `Agent.status` gives it; asked for from other threads.
    """

    def __init__(self, status: Callable[[], dict[str, Any]]) -> None:
        self._status = status
        self._metrics: Metrics | None = None
        self._servers: list[Web] = []

    def start(self, config: Config) -> None:
        """Begins to serve what the configuration wants.

        Raises:
            MissingExtraError: a package is missing.
            EdgeAgentError: an address can't be listened at.
        """
        if (wanted := config.settings.metrics) is not None:
            from edge_agent.metrics import Metrics
            from edge_agent.web import Web

            self._metrics = self._metrics or Metrics(self._status)
            self._servers.append(Web(self._metrics.app, wanted.listen, "metrics.listen", "metrics"))
            log.info("metrics at http://%s/metrics", wanted.listen)

    def change(self, old: Config, fresh: Config) -> None:
        """Serves what the new configuration wants instead; what can't be served is said and left out."""
        if (old.settings.metrics, old.settings.http) == (fresh.settings.metrics, fresh.settings.http):
            return
        self.stop()
        if fresh.settings.metrics is None:
            self._metrics = None
        try:
            self.start(fresh)
        except EdgeAgentError as error:
            log.error("%s", error)

    def stop(self) -> None:
        """Serves nothing any more."""
        for server in self._servers:
            server.stop()
        self._servers = []

    def observe(self, pipeline: str, timing: Timing) -> None:
        """Takes note of where the time of one input went."""
        if (metrics := self._metrics) is not None:
            metrics.observe(pipeline, timing)
