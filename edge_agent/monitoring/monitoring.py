"""Serves metrics, the status page and chats over HTTP, where they are configured. What is off is not imported."""

import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

from edge_agent.config.loader import Config
from edge_agent.monitoring.agent_status import AgentStatus
from edge_agent.samples import Timing

if TYPE_CHECKING:
    from edge_agent.monitoring.metrics import Metrics
    from edge_agent.monitoring.page.recent import Recent
    from edge_agent.monitoring.web import App, Web
    from edge_agent.pipeline.text import TextPipeline

log = logging.getLogger(__name__)


class Served(AgentStatus, Protocol):
    """An agent as servers need it."""

    def chats(self) -> "dict[str, TextPipeline]":
        """The running pipelines whose language model can be asked over HTTP, by name; from any thread."""
        ...


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

    def __init__(self, agent: Served) -> None:
        self._agent = agent
        self._used = Servers(None, [])
        self._recent: Recent | None = None

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
                from edge_agent.monitoring.hosts import guarded, proxied
                from edge_agent.monitoring.page.access import read_token
                from edge_agent.monitoring.page.app import OPEN, Page
                from edge_agent.monitoring.page.recent import Recent

                self._recent = self._recent or Recent(self._agent)
                self._recent.events.memory = page.events_memory
                token = read_token(page.token_file, config.path.parent) if page.token_file is not None else None
                shown: App = Page(self._agent, self._recent, page, token)
                hosts = page.hosts if page.trusted_proxy is None else None
                if hosts is not None:
                    shown = guarded(shown, hosts, "http.hosts")
                if chats := config.settings.serves_chats:
                    from edge_agent.monitoring.openai.app import Chats, with_chats

                    shown = with_chats(shown, Chats(self._agent.chats, token, hosts))
                if page.trusted_proxy is not None:
                    shown = proxied(shown, page.trusted_proxy, OPEN)
                prepared.servers.append(self._serve(shown, page.listen, "http.listen", "http", chats=chats))
        except BaseException:
            prepared.close()
            raise
        return prepared

    def _serve(self, app: "App", address: str, key: str, extra: str, *, chats: bool = False) -> "Web":
        from edge_agent.monitoring.web import Web

        before = next((one for one in self._used.servers if one.address == address), None)
        return Web(app, address, key, extra, before, chats=chats)

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

    def attach(self) -> None:
        """Observes the pipelines of the configuration in use, where the page shows what has happened to them."""
        if self._agent.config().settings.http is None:
            self._recent = None
        elif self._recent is not None:
            self._recent.attach()

    def tick(self) -> None:
        """Takes a point of the figures that the page shows; called every ten seconds."""
        if self._recent is not None:
            self._recent.tick()

    def observe(self, pipeline: str, timing: Timing) -> None:
        """Records the durations of one input."""
        if self._recent is not None:
            self._recent.history.observe(pipeline, timing)
        if (metrics := self._used.metrics) is not None:
            metrics.observe(pipeline, timing)
