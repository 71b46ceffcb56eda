"""What the page remembers, in memory, whether somebody looks or not: figures of the last hour, and events."""

from edge_agent.monitoring.agent_status import AgentStatus
from edge_agent.monitoring.page.events import EventLog
from edge_agent.monitoring.page.history import History


class Recent:
    """What has been lately.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: AgentStatus) -> None:
        self.history = History()
        self.events = EventLog(memory=0)
        self._agent = agent

    def attach(self) -> None:
        """Observes the pipelines of the configuration in use."""
        self.events.attach(self._agent)

    def tick(self) -> None:
        """Takes a point of all figures."""
        self.history.tick(self._agent.status())
