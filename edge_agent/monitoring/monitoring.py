"""Serves metrics and the status page over HTTP, where they are configured. What is off is not imported."""

import logging
from typing import TYPE_CHECKING, NamedTuple

from edge_agent.config.loader import Config
from edge_agent.samples import Timing

if TYPE_CHECKING:
    from edge_agent.monitoring.metrics import Metrics
    from edge_agent.monitoring.page.agent_status import AgentStatus
    from edge_agent.monitoring.web import App, Web

log = logging.getLogger(__name__)


class Servers(NamedTuple):
    """What a configuration has served: bound to its addresses, not yet answering.

    Attributes:
        metrics: the metrics; None where there are none.
        servers: all servers.
    """

    metrics: "Metrics | None"
    servers: "list[Web]"

    def close(self) -> None:
        """Releases the addresses, if these servers are not going to be used."""
        for server in self.servers:
            server.close()


class Monitoring:
    """The metrics and the status page of an agent.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: "AgentStatus") -> None:
        self._agent = agent
        self._used = Servers(None, [])

    def prepare(self, config: Config) -> Servers:
        """Binds the configured addresses; requests wait until `use`. An address that is served already is shared.

        Raises:
            MissingExtraError: a package is missing.
            ConfigError: the token can't be read.
            EdgeAgentError: an address can't be bound.
        """
        prepared = Servers(None, [])
        try:
            if (wanted := config.settings.metrics) is not None:
                from edge_agent.monitoring.hosts import guarded
                from edge_agent.monitoring.metrics import Metrics

                metrics = self._used.metrics or Metrics(self._agent.status)
                prepared = prepared._replace(metrics=metrics)
                app = guarded(metrics.app, wanted.hosts, "metrics.hosts")
                prepared.servers.append(self._serve(app, wanted.listen, "metrics.listen", "metrics"))
            if (page := config.settings.http) is not None:
                from edge_agent.monitoring.page.access import read_token
                from edge_agent.monitoring.page.app import Page

                token = read_token(page.token_file, config.path.parent) if page.token_file is not None else None
                shown = Page(self._agent, token, page.hosts)
                prepared.servers.append(self._serve(shown, page.listen, "http.listen", "http"))
        except BaseException:
            prepared.close()
            raise
        return prepared

    def _serve(self, app: "App", address: str, key: str, extra: str) -> "Web":
        from edge_agent.monitoring.web import Web

        return Web(app, address, key, extra, next((one for one in self._used.servers if one.address == address), None))

    def use(self, prepared: Servers) -> None:
        """Answers requests with these servers, and no longer with those before."""
        self.stop()
        self._used = prepared
        for server in prepared.servers:
            server.start()
            log.info("%s: http://%s", server.key.partition(".")[0], server.address)

    def stop(self) -> None:
        """Stops serving."""
        for server in self._used.servers:
            server.stop()
        self._used = Servers(self._used.metrics, [])

    def observe(self, pipeline: str, timing: Timing) -> None:
        """Records the durations of one input."""
        if (metrics := self._used.metrics) is not None:
            metrics.observe(pipeline, timing)
