"""Serves metrics and the status page over HTTP, where they are configured. What is off is not imported."""

import logging
from typing import TYPE_CHECKING

from edge_agent.config.loader import Config
from edge_agent.errors import EdgeAgentError
from edge_agent.samples import Timing

if TYPE_CHECKING:
    from edge_agent.monitoring.metrics import Metrics
    from edge_agent.monitoring.page.agent_status import AgentStatus
    from edge_agent.monitoring.web import Web

log = logging.getLogger(__name__)


class Monitoring:
    """The metrics and the status page of an agent.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: "AgentStatus") -> None:
        self._agent = agent
        self._metrics: Metrics | None = None
        self._servers: list[Web] = []

    def open(self, config: Config) -> None:
        """Binds the configured addresses; requests wait until `start`.

        Raises:
            MissingExtraError: a package is missing.
            ConfigError: the token can't be read.
            EdgeAgentError: an address can't be bound.
        """
        if (wanted := config.settings.metrics) is not None:
            from edge_agent.monitoring.metrics import Metrics
            from edge_agent.monitoring.web import Web

            self._metrics = self._metrics or Metrics(self._agent.status)
            self._servers.append(Web(self._metrics.app, wanted.listen, "metrics.listen", "metrics"))
        if (page := config.settings.http) is not None:
            from edge_agent.monitoring.page.access import read_token
            from edge_agent.monitoring.page.app import Page
            from edge_agent.monitoring.web import Web

            token = read_token(page.token_file, config.path.parent) if page.token_file is not None else None
            self._servers.append(Web(Page(self._agent, token, page.hosts), page.listen, "http.listen", "http"))

    def start(self) -> None:
        """Starts to answer requests."""
        for server in self._servers:
            server.start()
            log.info("%s: http://%s", server.key.partition(".")[0], server.address)

    def change(self, fresh: Config) -> None:
        """Serves what another configuration states; what can't be served is logged and left out."""
        self.stop()
        if fresh.settings.metrics is None:
            self._metrics = None
        try:
            self.open(fresh)
        except EdgeAgentError as error:
            log.error("%s", error)
        self.start()

    def stop(self) -> None:
        """Stops serving."""
        for server in self._servers:
            server.stop()
        self._servers = []

    def observe(self, pipeline: str, timing: Timing) -> None:
        """Records the durations of one input."""
        if (metrics := self._metrics) is not None:
            metrics.observe(pipeline, timing)
